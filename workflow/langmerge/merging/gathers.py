"""What methods must know of a whole tensor or model before they can merge a block of it.

A gather looks at all blocks, in order, in one or more rounds. Recipes that need the same gather share it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.methods.task_vectors import elected_sign, trim
from langmerge.merging.selection import Cut, Histogram, kept_entries

Scope = Literal["tensor", "model"]


class Gather:
    """Base class: looks at the blocks of `tensors`, one tensor after another or all as one model.

    `needs` are gathers that must be complete first; they give the `level` of this one.
    """

    rounds = 1

    def __init__(self, scope: Scope, needs: Iterable["Gather"] = ()) -> None:
        self.scope = scope
        self.needs = tuple(needs)
        self.tensors: set[str] = set()
        self.level: int = 1 + max((need.level for need in self.needs), default=-1)

    def begin(self) -> None:
        """Forget what was gathered; called before the first round of a model, or of each tensor."""

    def update(self, index: int, block: Block) -> None:
        """Look at one block in round `index`."""

    def end(self, index: int) -> None:
        """All blocks of round `index` were seen."""

    def all_needs(self) -> set["Gather"]:
        """The gathers that this one rests on, directly or not."""
        return set(self.needs).union(*(need.all_needs() for need in self.needs))


AnyGather = TypeVar("AnyGather", bound=Gather)


class Gathers:
    """The gathers of one merge, each kept once; `of_recipe` tells which a recipe's own values rest on."""

    def __init__(self) -> None:
        self._by_key: dict[tuple, Gather] = {}
        self.of_recipe: dict[str, tuple[Gather, ...]] = {}

    def needs_of(self, names: Iterable[str | None]) -> tuple[Gather, ...]:
        """Gathers that must be complete before the values of these sources or recipes can be computed."""
        return tuple({gather: None for name in names if name for gather in self.of_recipe.get(name, ())})

    def get(self, key: tuple, make: Callable[[], AnyGather], tensors: Iterable[str]) -> AnyGather:
        """The gather known by `key`, made on first use, that looks at `tensors`.

        What is gathered of each tensor is shared by all who ask for it; what is gathered over a model is
        shared by those who ask for the same tensors.
        """
        names = frozenset(tensors)
        known = self._by_key.get(key) or self._by_key.get((key, names))
        if known is None:
            known = make()
            self._by_key[key if known.scope == "tensor" else (key, names)] = known
        known.tensors |= names
        return known  # type: ignore[return-value]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._by_key.values())


class Selection(Gather):
    """Trim thresholds of one task vector, for all densities and conventions asked for."""

    def __init__(self, scope: Scope, needs: Iterable[Gather], vector: TaskVector) -> None:
        super().__init__(scope, needs)
        self.vector = vector
        self._asked: set[tuple[float, str]] = set()
        self.cuts: dict[tuple[float, str], Cut] = {}

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """Two for thresholds; a third where entries of equal magnitude must be told apart."""
        return 2 if all(convention == "paper" for _, convention in self._asked) else 3

    def ask(self, density: float, convention: str) -> None:
        """Announce a density; to be called before the first round."""
        self._asked.add((density, convention))

    def begin(self) -> None:
        """See the base class."""
        self._histogram = Histogram()
        self.cuts = {}
        self._missing: dict[tuple[float, str], int] = {}

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        if index == 2 and not self._missing:
            return
        values = block.delta(self.vector)
        if index == 0:
            self._histogram.add_high(values)
        elif index == 1:
            self._histogram.add_low(values, self._bins)
        else:
            self._find_last(values, block.start)

    def end(self, index: int) -> None:
        """See the base class."""
        numel = int(self._histogram.high.sum())
        ranks = {asked: kept_entries(numel, *asked) for asked in self._asked}
        if index == 0:
            self._bins = {self._histogram.locate(rank)[0] for rank in ranks.values() if rank}
        elif index == 1:
            for asked, rank in ranks.items():
                if rank == 0:
                    self.cuts[asked] = Cut(math.inf)
                    continue
                threshold, equal = self._histogram.select(rank)
                self.cuts[asked] = Cut(threshold)
                if asked[1] != "paper" and threshold > 0:
                    self._missing[asked] = equal

    def _find_last(self, values: Tensor, start: int) -> None:
        """Count down the entries of exactly the threshold's magnitude to the last one to be kept."""
        for asked, missing in list(self._missing.items()):
            equal = (values.abs() == self.cuts[asked].threshold).nonzero()
            if len(equal) < missing:
                self._missing[asked] = missing - len(equal)
            else:
                del self._missing[asked]
                self.cuts[asked] = Cut(self.cuts[asked].threshold, start + int(equal[missing - 1]))

    def trimmed(self, block: Block, density: float, convention: str) -> Tensor:
        """The task vector's block after the trim, float32 (count,)."""
        values, cut = block.delta(self.vector), self.cuts[density, convention]
        if cut.last_index is None or cut.last_index >= block.start + block.count - 1:
            return trim(values, cut.threshold)
        return trim(values, cut.threshold, torch.arange(block.count) <= cut.last_index - block.start)


class MajoritySign(Gather):
    """Sign of the sum of a model's elected signs, by which TIES decides zero sums; + if that is 0 too."""

    def __init__(self, needs: Iterable[Gather], trimmed: Callable[[Block], Sequence[Tensor]]) -> None:
        super().__init__("model", needs)
        self._trimmed = trimmed

    def begin(self) -> None:
        """See the base class."""
        self._sum = 0.0

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        self._sum += float(elected_sign(self._trimmed(block), None, 0).sum(dtype=torch.float64))

    @property
    def sign(self) -> int:
        """+1 or -1."""
        return -1 if self._sum < 0 else 1


class Products(Gather):
    """Squared norms and dot product of two models' tensor, in float64."""

    def __init__(self, needs: Iterable[Gather], first: str, second: str) -> None:
        super().__init__("tensor", needs)
        self.first = first
        self.second = second

    def begin(self) -> None:
        """See the base class."""
        self.gram = torch.zeros(2, 2, dtype=torch.float64)

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        self.gram += gram([block.value(self.first), block.value(self.second)])


def gram(vectors: Sequence[Tensor], chunk: int = 1 << 18) -> Tensor:
    """Dot products of n vectors of shape (count,), float64 (n, n), in chunks that bound the memory."""
    total = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for start in range(0, len(vectors[0]), chunk):
        part = torch.stack([vector[start : start + chunk].to(torch.float64) for vector in vectors])
        total += part @ part.T
    return total
