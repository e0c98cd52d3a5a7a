"""Log-probabilities that a causal language model gives to answers, summed over their tokens.

A sequence is the one of :func:`langmerge.tasks.encode` without its end token: ``bos + prompt + answer``. Rows are
padded on the right, where a causal model's earlier positions do not see it, so every row gets the positions and the
scores that it has alone (up to rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from langmerge.tasks import encode_again

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Scores (positions x vocabulary) held at once: 512 MiB in fp32. A large vocabulary shrinks the batch, not the machine.
ENTRIES = 2**27
UNLIMITED = 2**20  # context of models that name none


class Span(NamedTuple):
    """Tokens of which ``ids[start:]`` are to be scored, given all before them; ``start >= 1``."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Likelihoods:
    """Of n answers: log-probability in nats (float64), tokens, UTF-8 bytes (n,); ``read``: tokens put through."""

    log_probabilities: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    read: int


def context_of(model: PreTrainedModel) -> int:
    """The most tokens that a model reads at once, by its configuration."""
    return int(getattr(model.config, "max_position_embeddings", None) or UNLIMITED)


def windows(ids: Sequence[int], start: int, context: int) -> Iterator[Span]:
    """Spans of at most ``context`` tokens that together score ``ids[start:]``, each token once.

    One span where all fit. Else windows begin every ``context // 2`` tokens and score what the one before did not
    reach, so that every token has at least ``context // 2`` tokens before it (or all that there are). Needs
    ``context >= 2``.
    """
    if context < 2:
        raise ValueError(f"context: expected at least 2 tokens, found {context}")
    begin, done = 0, start
    while done < len(ids):
        end = min(begin + context, len(ids))
        if end > done:
            yield Span(tuple(ids[begin:end]), done - begin)
            done = end
        begin += context // 2


@torch.inference_mode()
def _score_batch(model: PreTrainedModel, spans: Sequence[Span]) -> list[float]:
    """Sum of ``log p(ids[t] | ids[:t])`` over ``t >= start`` (nats) of each of B spans."""
    width = max(len(span.ids) for span in spans)
    ids = torch.tensor([[*span.ids, *[0] * (width - len(span.ids))] for span in spans], device=model.device)  # (B, T)
    positions = torch.arange(width)
    starts, ends = (
        torch.tensor(column)[:, None] for column in zip(*((s.start, len(s.ids)) for s in spans), strict=True)
    )
    scored = (starts <= positions) & (positions < ends)
    first = min(span.start for span in spans) - 1  # the first position that predicts a scored token
    output = model(
        input_ids=ids,
        position_ids=positions.to(model.device).expand_as(ids),
        use_cache=False,
        logits_to_keep=positions[first:-1].to(model.device),
    )
    logits = output.logits if output.logits.dtype == torch.float64 else output.logits.float()  # (B, T - 1 - first, V)
    targets = ids[:, first + 1 :]
    tokens = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    sums = (tokens.double().cpu() * scored[:, first + 1 :]).sum(1)
    return [float(value) for value in sums]


def span_log_probabilities(model: PreTrainedModel, spans: Sequence[Span], batch_size: int) -> np.ndarray:
    """Log-probability (nats, float64) of the scored tokens of each span (n,), on the model's device, in fp32.

    Equal spans are scored once, so that equal texts get equal numbers and ties are ties. Batches hold spans of like
    length, longest first (one that does not fit into memory fails at once), ``batch_size`` at most and fewer where
    their scores would take more than :data:`ENTRIES`.
    """
    training = model.training
    model.eval()
    order = sorted(dict.fromkeys(spans), key=lambda span: (-len(span.ids), span))
    values: dict[Span, float] = {}
    while len(values) < len(order):
        start = len(values)
        rows = max(1, min(batch_size, ENTRIES // (len(order[start].ids) * int(model.config.vocab_size))))
        batch = order[start : start + rows]
        values.update(zip(batch, _score_batch(model, batch), strict=True))
    model.train(training)
    return np.array([values[span] for span in spans], dtype=np.float64)


def answer_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    batch_size: int,
    context: int | None = None,
) -> Likelihoods:
    """``log p(answer | prompt)`` of n pairs (prompt, answer), without the end token.

    ``context`` (default: the model's) is the longest window, see :func:`windows`. A model without a beginning token
    reads the end token in its place where there is no prompt, as lm-evaluation-harness has it, so that the first token
    is scored too.
    """
    limit = min(context or UNLIMITED, context_of(model))
    spans: list[Span] = []
    owners: list[int] = []
    tokens = []
    for index, (prompt, answer) in enumerate(pairs):
        ids, start = encode_again(tokenizer, prompt, answer)
        ids = ids[:-1] if start else (int(tokenizer.eos_token_id), *ids[:-1])
        start = max(start, 1)
        tokens.append(len(ids) - start)
        own = list(windows(ids, start, limit))
        spans += own
        owners += [index] * len(own)
    values = span_log_probabilities(model, spans, batch_size)
    return Likelihoods(
        np.bincount(owners, weights=values, minlength=len(pairs)).astype(np.float64),
        np.array(tokens, dtype=np.int64),
        np.array([len(answer.encode()) for _, answer in pairs], dtype=np.int64),
        sum(len(span.ids) for span in set(spans)),
    )
