"""What methods must know of a whole tensor or model before they can merge a block of it.

A gather looks at all blocks, in order, in one or more rounds. Recipes that need the same gather share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from langmerge.merging.block import Block
from langmerge.merging.chunks import pieces
from langmerge.merging.elements import Array
from langmerge.merging.fused import loops
from langmerge.merging.histograms import Found, Histogram
from langmerge.merging.methods.task_vectors import elected_sign, trim
from langmerge.merging.selection import RankSearch
from langmerge.merging.shares import Cut, Share

if TYPE_CHECKING:
    from torch import Tensor

Scope = Literal["tensor", "model"]


class Gather:
    """Base class: looks at the blocks of `tensors`, one tensor after another or all as one model.

    `needs` are gathers that must be complete first; they give the `level` of this one.
    """

    rounds = 1

    def __init__(self, scope: Scope, needs: Iterable[Gather] = ()) -> None:
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

    def all_needs(self) -> set[Gather]:
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
    """Where the largest entries of one vector begin, for all shares of them that are asked for, exactly.

    Args:
        scope: over each tensor or over the model.
        needs: gathers that the values rest on.
        values: of a block, float32 (count,), finite.
        numel: entries of the model, where the scope is the model.
        sample: of a block, the values at a slice of it, where they cost less than all.
        fused: gives the same vector to the loops of `langmerge.merging.fused`.

    Rounds: sample, count; two of a histogram, should a bracket have missed (see `langmerge.merging.selection`);
    one to find the last of equal entries, where not all of them lie above, which looks at one block.
    """

    def __init__(
        self,
        scope: Scope,
        needs: Iterable[Gather],
        values: Callable[[Block], Tensor],
        numel: int | None = None,
        sample: Callable[[Block, slice], Tensor] | None = None,
        fused: loops.Make | None = None,
    ) -> None:
        super().__init__(scope, needs)
        self._values = values
        self._fused = fused
        self._sample = sample or (lambda block, where: values(block)[where])
        self._numel = numel
        self._shares: set[Share] = set()
        self.cuts: dict[Share, Cut] = {}

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """As many as are known to be needed: the first two tell."""
        return len(self._phases)

    def ask(self, share: Share) -> None:
        """Announce a share; to be called before the first round."""
        self._shares.add(share)

    def begin(self) -> None:
        """See the base class."""
        self._phases = ["sample", "count", "high", "low", "equal"]
        self._search: RankSearch | None = None
        self._found: dict[int, Found] = {}
        self._ties: dict[Share, _Tie] = {}
        self.cuts = {}

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        phase = self._phases[index]
        search = self._search or self._start(block)
        fused = self._fused if loops.usable(block.device) else None
        if phase == "sample":
            if search.sampled:
                positions = search.positions(block.count)
                if fused:
                    search.sample_by(lambda room: loops.sample(block, fused(block), positions, room))
                else:
                    search.sample(self._sample(block, positions))
        elif phase == "count":
            if search.ranks and fused:
                search.count_by(partial(loops.count_inside, block, fused(block)), block.start, block.count)
            elif search.ranks:
                search.count(self._values(block), block.start)
        elif phase == "high":
            self._histogram.add_high(self._numbers(block))
        elif phase == "low":
            self._histogram.add_low(self._numbers(block), self._bins)
        else:
            for share, tie in list(self._ties.items()):
                self._find(share, tie, block)

    def end(self, index: int) -> None:
        """See the base class."""
        phase, search = self._phases[index], self._search
        assert search is not None
        if phase == "sample" and search.sampled:
            search.place()
        elif phase == "count":
            self._found = search.found()
            missed = set(search.ranks) - set(self._found)
            self._phases = ["sample", "count", "high", "low"] if missed else ["sample", "count"]
            self._histogram = Histogram()
            self._missed = missed
            if not missed:
                self._cut(search)
        elif phase == "high":
            self._bins = {self._histogram.locate(rank)[0] for rank in self._missed}
        elif phase == "low":
            self._found |= {rank: self._histogram.found(rank) for rank in self._missed}
            self._cut(search)

    def _numbers(self, block: Block) -> Array | Tensor:
        """The values, float32 (count,), without torch where the loops give them."""
        if self._fused and loops.usable(block.device):
            return loops.weighted_sum(block, [self._fused(block)], [1.0])
        return self._values(block)

    def _start(self, block: Block) -> RankSearch:
        numel = math.prod(block.shape) if self._numel is None else self._numel
        self._search = RankSearch(numel, {rank for share in self._shares if (rank := share.rank(numel))})
        return self._search

    def _cut(self, search: RankSearch) -> None:
        """Turn what was found into cuts, and plan to look for the last of equal entries where that matters."""
        for share in self._shares:
            rank = share.rank(search.numel)
            if rank == 0:
                self.cuts[share] = Cut(math.inf)
                continue
            found = self._found[rank]
            self.cuts[share] = Cut(found.magnitude, -1 if share.equal == "none" else None)
            wanted = rank - found.larger
            if share.equal in ("all", "none") or wanted == found.equal or not found.magnitude:
                continue
            number = wanted if share.equal == "first" else found.equal - wanted + 1
            start = 0
            if rank not in self._missed:
                start, number = search.locate(rank, found.magnitude, number)
            self._ties[share] = _Tie(found.magnitude, start, number)
        if self._ties:
            self._phases = [*self._phases, "equal"]

    def _find(self, share: Share, tie: _Tie, block: Block) -> None:
        """Count the entries of a magnitude from flat index `tie.start` on, down to the one that decides."""
        skipped = max(0, tie.start - block.start)
        if skipped >= block.count:
            return
        if self._fused and loops.usable(block.device):
            position = loops.find_equal(block, self._fused(block), skipped, tie.magnitude, tie.number)
        else:
            position = _find_equal(self._values(block), skipped, tie.magnitude, tie.number)
        if position < 0:
            self._ties[share] = _Tie(tie.magnitude, tie.start, tie.number + position + 1)
            return
        del self._ties[share]
        index = block.start + position
        first = share.equal == "first"
        self.cuts[share] = Cut(tie.magnitude, index) if first else Cut(tie.magnitude, -1, index)

    def above(self, block: Block, share: Share) -> Tensor:
        """The vector's block with all but this share of the largest entries set to 0, a new float32 (count,)."""
        cut = self.cuts[share]
        last, first = (None if i is None else i - block.start for i in (cut.last_index, cut.first_index))
        return trim(self._values(block), cut.threshold, last, first)


def _find_equal(values: Tensor, first: int, magnitude: float, number: int) -> int:
    """Position of the `number`-th entry of this magnitude from `first` on, or -1 - (how many there are)."""
    seen = 0
    for piece in pieces(len(values) - first, values.device):
        equal = (values[first:][piece].abs() == magnitude).nonzero()
        if seen + len(equal) >= number:
            return first + piece.start + int(equal[number - seen - 1])
        seen += len(equal)
    return -1 - seen


@dataclass(frozen=True)
class _Tie:
    """The `number`-th entry of this magnitude from flat index `start` on decides."""

    magnitude: float
    start: int
    number: int


class MajoritySign(Gather):
    """Sign of the sum of a model's elected signs, by which TIES decides zero sums; + if that is 0 too."""

    def __init__(
        self,
        needs: Iterable[Gather],
        trimmed: Callable[[Block], Sequence[Tensor]],
        fused: Callable[[Block], Sequence[loops.Vector]],
    ) -> None:
        super().__init__("model", needs)
        self._trimmed = trimmed
        self._fused = fused

    def begin(self) -> None:
        """See the base class."""
        self._sum = 0

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        if loops.usable(block.device):
            self._sum += loops.sum_of_signs(block, self._fused(block))
            return
        deltas = self._trimmed(block)
        for piece in pieces(block.count, block.device):
            # Sums of signs are whole numbers far below 2^24, so exact.
            self._sum += int(elected_sign([delta[piece] for delta in deltas], None, 0).sum())

    @property
    def sign(self) -> int:
        """+1 or -1."""
        return -1 if self._sum < 0 else 1
