"""Parallel sentences in two languages, as one model represents them.

Token positions do not correspond, so pooled states are compared: span means, or last tokens. Long sentences are long
in every language, and the norm of a mean falls with its number of tokens; variant ``length`` is what remains when the
logarithm of the span's length has been regressed out of each language's states.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from langmerge.analysis.cka import centre
from langmerge.analysis.observations import Summary
from langmerge.pairs import Direction
from langmerge.provenance import InputError
from langmerge.spans import SPANS


def language_of(direction: Direction, span: str) -> str:
    """The language in which ``span`` (source, target) of a direction is written."""
    return direction.source if span == "source" else direction.target


def language_pairs(directions: Sequence[Direction], span: str) -> list[tuple[int, int]]:
    """Indices of every two directions whose ``span`` is in different languages: none for the pivot's own span."""
    return [
        (a, b)
        for a, b in combinations(range(len(directions)), 2)
        if language_of(directions[a], span) != language_of(directions[b], span)
    ]


def regress_out(stack: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    """Residuals fp64 [M, n, d] of ``stack`` after least squares on a constant and ``values`` [M, n] of each matrix.

    Where a matrix's values are constant, only its mean is taken out.
    """
    x = centre(stack)
    line = centre(torch.from_numpy(np.asarray(values, dtype=np.float64)).to(x.device)[:, :, None])
    square = line.square().sum(1, keepdim=True)
    # Rounding leaves a constant not quite 0 when centred
    varies = square > 1e-20 * torch.from_numpy(np.square(values).sum(1)).to(x.device)[:, None, None]
    slope = torch.where(varies, (line * x).sum(1, keepdim=True) / torch.where(varies, square, 1), 0)
    return x - line * slope


def span_lengths(folder: Path, summary: Summary) -> dict[str, list[np.ndarray]]:
    """Tokens of each sentence's span, by span a list [n] for each direction, from an observation's ``losses.csv``.

    A span whose column (``source_tokens``, ``target_tokens``) is not there is left out. :class:`InputError` if the
    sentences are not those of the summary.
    """
    path = folder / "losses.csv"
    if not path.is_file():
        raise InputError(f"{path}: file not found; expected an observation, as langmerge.observation writes it")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, list[np.ndarray]] = {}
    for span in SPANS:
        name = f"{span}_tokens"
        if not rows or name not in rows[0]:
            continue
        by_key = {(row["direction"], row["id"]): int(row[name]) for row in rows}
        try:
            found[span] = [
                np.array([by_key[str(direction), key] for key in ids], dtype=np.int64)
                for direction, ids in zip(summary.directions, summary.ids, strict=True)
            ]
        except KeyError as error:
            raise InputError(f"{path}: no row for {error}; it does not belong to summary.json beside it") from None
    return found
