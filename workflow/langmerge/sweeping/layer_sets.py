"""Which tensors of a model a patch takes from the specialist: every layer set of a kind, and parts of layers.

Kinds of whole layers, in a model of L: ``single`` (each layer), ``prefix`` (the first k = 1..L), ``suffix`` (the last
k = 1..L), ``window`` (every w neighbours), ``random`` (draws of k of all layers, k = 1..L-1: what a set of that size is
worth wherever it lies). ``attention``, ``mlp`` and ``norms`` are that part of all layers; with a kind behind a point
(``mlp.single``) that part of the kind's layers. ``embeddings``, ``head`` and ``outside`` (all that is in no layer) are
the rest. Always there: ``none`` (the merge), ``all`` (the specialist), and the test of arXiv 2604.02881, ``last`` (the
last k layers) against ``below`` (draws of k layers under them).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from langmerge.merging.methods.layers import chosen_layers, layer_index, part_of

WHERE = ("single", "prefix", "suffix", "window", "random")
PARTS = ("attention", "mlp", "norms")
REST = ("embeddings", "head", "outside")
TRIES = 1000  # draws, at most, for each random set that differs from the others of its size


@dataclass(frozen=True)
class LayerSet:
    """A set of a ``kind``; ``part`` is empty for whole layers, ``draw`` numbers random sets of one size from 1."""

    kind: str
    layers: tuple[int, ...] = ()
    part: str = ""
    draw: int = 0

    @property
    def is_drawn(self) -> bool:
        """Whether chance chose the layers."""
        return self.kind in ("random", "below")

    def holds(self, tensor: str) -> bool:
        """Whether a tensor is in the set, by its name."""
        index = layer_index(tensor)
        if self.kind in ("none", "all"):
            return self.kind == "all"
        if self.kind in REST:
            return index is None and self.kind in ("outside", part_of(tensor))
        return index in self.layers and self.part in ("", part_of(tensor))

    def tensors(self, names: Iterable[str]) -> frozenset[str]:
        """Those of a model's tensors that are in the set."""
        return frozenset(filter(self.holds, names))


def layer_sets(
    kinds: Sequence[str], n_layers: int, *, window: int, draws: int, last: int, controls: int, seed: int
) -> list[LayerSet]:
    """All sets of ``kinds`` in a model of ``n_layers`` layers, with none, all and the paper's test of ``last`` layers.

    ``window`` is the length of windows, ``draws`` the number of random sets of each size (fewer where there are no more
    different ones), ``controls`` that of the paper's draws, with seeds ``seed``, ``seed`` + 1, ... as the method
    ``layer_patch`` draws them. ValueError for an unknown kind, a window or ``last`` longer than the model, and for
    controls where not enough layers are below the last ones.
    """
    found = [LayerSet("none"), LayerSet("all")]
    for kind in dict.fromkeys(kinds):
        part, where = kind.partition(".")[::2] if kind.partition(".")[0] in PARTS else ("", kind)
        if where in WHERE:
            found += _layers_of(where, part, n_layers, window, draws, seed)
        elif part and not where:
            found.append(LayerSet(part, tuple(range(n_layers)), part))
        elif kind in REST:
            found.append(LayerSet(kind))
        else:
            raise ValueError(f"no layer set {kind!r}; expected {', '.join((*WHERE, *PARTS, *REST))} or a part's kind")
    found.append(LayerSet("last", chosen_layers(_choice(last=last), n_layers)))
    below = (_choice(random=last, exclude_last=last, seed=seed + n) for n in range(controls))
    found += [LayerSet("below", chosen_layers(choice, n_layers), draw=n) for n, choice in enumerate(below, start=1)]
    return found


def _layers_of(where: str, part: str, n: int, window: int, draws: int, seed: int) -> Iterator[LayerSet]:
    if where == "window" and not 1 <= window <= n:
        raise ValueError(f"window: {window} layers of only {n}")
    runs: dict[str, list[tuple[int, ...]]] = {
        "single": [(i,) for i in range(n)],
        "prefix": [tuple(range(k)) for k in range(1, n + 1)],
        "suffix": [tuple(range(n - k, n)) for k in range(1, n + 1)],
        "window": [tuple(range(i, i + window)) for i in range(n - window + 1)],
    }
    if where in runs:
        yield from (LayerSet(where, layers, part) for layers in runs[where])
        return
    for size in range(1, n):
        drawn = random_layers(n, size, draws, seed)
        yield from (LayerSet(where, layers, part, i) for i, layers in enumerate(drawn, start=1))


def random_layers(n_layers: int, size: int, draws: int, seed: int) -> list[tuple[int, ...]]:
    """``draws`` different sets of ``size`` layers, or all of them where there are not more."""
    if math.comb(n_layers, size) <= draws:
        return list(itertools.combinations(range(n_layers), size))
    found: dict[tuple[int, ...], None] = {}
    for n in range(TRIES * draws):
        found.setdefault(chosen_layers(_choice(random=size, seed=seed + n), n_layers))
        if len(found) == draws:
            break
    return list(found)


def _choice(**given: int) -> dict[str, int | None]:
    """Parameters of ``layer_patch``."""
    return {"layers": None, "last": None, "random": None, "exclude_last": 0, "seed": 0, **given}
