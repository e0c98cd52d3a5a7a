"""Blocks of merges in the C loops: task vectors as they are stored with what a method does to each, sums, elections.

Functions take and give numpy arrays. `vector.model` and `vector.base` point into the block's values and hold as
long as the block does; `kept_alive` of a vector is what else it points to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.block import Block
from langmerge.merging.elements import Array, Elements, ElementType
from langmerge.merging.fused.library import KINDS, Values, Vector, library
from langmerge.merging.lazy import device_type
from langmerge.merging.randomness import BITS, RUN, run_keys, stream_key
from langmerge.merging.shares import Cut

if TYPE_CHECKING:
    import torch

BY_SHARE, BY_RANK, BY_MASK = 1, 2, 3
MULTIPLY, DIVIDE = 1, 2
FAR = 1 << 62
"""An index beyond any tensor."""

NOTHING = Values(None, 0)

Make = Callable[[Block], Vector]
"""Gives a task vector at a block, of its own: it may be changed."""


def usable(device: torch.device | str) -> bool:
    """Whether the loops can work on values of this device."""
    return (device == "cpu" or device_type(device) == "cpu") and library() is not None


def loops() -> ctypes.CDLL:
    """The C library, where it is `usable`."""
    found = library()
    assert found is not None
    return found


def pointer(values: Elements | None) -> Values:
    """Values of one of the `KINDS` as the loops see them."""
    return NOTHING if values is None else Values(address(values.array), KINDS[values.dtype])


def address(array: Array) -> int:
    """Where a contiguous array begins."""
    return array.__array_interface__["data"][0]


def _place(block: Block, name: str) -> Values:
    """`pointer` to the values of a source or recipe."""
    return block.shared(("place", name), lambda: pointer(block.stored(name)))


def all_finite(values: Elements) -> bool:
    """Whether all values (of one of the `KINDS`) are finite."""
    return bool(loops().all_finite(pointer(values), len(values)))


# ---- vectors -------------------------------------------------------------------------------------------------------


def plain(block: Block, model: str, base: str | None = None) -> Vector:
    """model - base at a block; without a base the model itself."""
    return Vector(_place(block, model), NOTHING if base is None else _place(block, base), match=1.0, rematch=1.0)


def plains(block: Block, models: Sequence[str], base: str | None = None) -> list[Vector]:
    """`plain` of several models, shared: not to be changed."""
    models = tuple(models)
    return block.shared(("plain", models, base), lambda: [plain(block, model, base) for model in models])


def dropped(vector: Vector, block: Block, seed: int, model: str, density: float, factor: float | None) -> Vector:
    """DARE: kept with probability `density` (see `below`), times `factor`."""
    _randomly(vector, block, seed, model)
    vector.drop, vector.limit = BY_SHARE, round(density * 2**BITS)
    if factor is not None:
        vector.rescale, vector.factor = MULTIPLY, factor
    return vector


def ranked(
    vector: Vector, block: Block, seed: int, model: str, line: tuple[float, float], ranks: Array | None
) -> Vector:
    """DELLA: kept with probability slope x rank + offset, and divided by it; without `ranks` see `marked`."""
    _randomly(vector, block, seed, model)
    vector.drop, vector.rescale = BY_RANK, DIVIDE
    vector.slope, vector.offset = line
    if ranks is not None:
        vector.ranks = address(ranks)
        vector.kept_alive = (vector.kept_alive, ranks)
    return vector


def marked(vector: Vector, mask: Array) -> Vector:
    """What a mask keeps, one bit an entry (`mask_of`), instead of what random numbers keep."""
    vector.drop, vector.rescale, vector.mask, vector.kept_alive = BY_MASK, 0, address(mask), mask
    return vector


def matched(vector: Vector, ratio: float) -> Vector:
    """The vector so far times `ratio`."""
    if vector.cuts:
        vector.rematch = ratio
    else:
        vector.match = ratio
    return vector


def cut(vector: Vector, block: Block, *cuts: Cut) -> Vector:
    """What lies above one cut; of two, what lies above the first and not above the second."""
    vector.cuts = len(cuts)
    for number, one in enumerate(cuts):
        vector.threshold[number] = one.threshold
        none = FAR if one.first_index is None else -1
        vector.last[number] = none if one.last_index is None else max(-1, one.last_index - block.start)
        vector.first[number] = FAR if one.first_index is None else max(0, one.first_index - block.start)
    return vector


def _randomly(vector: Vector, block: Block, seed: int, model: str) -> None:
    """Give a vector the keys of the runs of random numbers that a block touches."""

    def keys() -> Any:
        key = stream_key(seed, model, block.tensor)
        runs = range(block.start // RUN, (block.start + block.count - 1) // RUN + 1)
        return (ctypes.c_uint32 * (2 * len(runs)))(*(part for run in runs for part in run_keys(key, run)))

    found = block.shared(("run keys", seed, model), keys)
    vector.keys, vector.kept_alive = ctypes.addressof(found), found


def row_ranks(block: Block, vector: Vector) -> Array:
    """`langmerge.merging.ranks.row_ranks` of a plain vector, float32 (count,)."""
    rows, columns = block.matrix
    ranks = np.empty(block.count, np.float32)
    _enough(loops().row_ranks(_at(vector), rows, columns, address(ranks)))
    return ranks


def mask_of(block: Block, vector: Vector) -> Array:
    """Which entries a `dropped` or `ranked` vector keeps, one bit an entry."""
    mask = np.zeros(-(-block.count // 64), np.int64)
    if vector.drop == BY_SHARE:
        loops().pack_by_share(_at(vector), block.start, block.count, address(mask))
    else:
        _enough(loops().pack_by_rank(_at(vector), block.start, *block.matrix, address(mask)))
    return mask


# ---- all vectors of a block ------------------------------------------------------------------------------------------


def weighted_sum(block: Block, vectors: Sequence[Vector], weights: Sequence[float], divisor: float = 1.0) -> Array:
    """`averages.weighted_sum`, divided."""
    merged = np.empty(block.count, np.float32)
    loops().weighted(
        _array(vectors), len(vectors), _floats(weights), divisor, block.start, block.count, address(merged)
    )
    return merged


def onto(block: Block, base: str, merged: Array, scale: float) -> Array:
    """base + scale x merged, a new array."""
    result = np.empty(block.count, np.float32)
    loops().onto(_place(block, base), address(merged), scale, block.count, address(result))
    return result


def disjoint_mean(
    block: Block, vectors: Sequence[Vector], weights: Sequence[float], convention: str, normalize: bool, majority: int
) -> Array:
    """`task_vectors.disjoint_mean` of the vectors."""
    size, voted = len(vectors), convention == "mergekit"
    factors = [float(weight) for weight in weights] if voted else [1.0] * size
    by_count = convention == "peft"
    shares = list(weights)
    if normalize and not by_count and len(set(shares)) == 1 and shares[0] > 0:
        shares = [1.0] * size  # equal weights cancel
    skip = [voted and share == 0 for share in shares]
    flip = [voted and share < 0 for share in shares]
    counted = [1.0 if by_count else share for share in shares]
    smallest = min((share for share, left in zip(counted, skip, strict=True) if not left), default=1.0)
    merged = np.empty(block.count, np.float32)
    _enough(
        loops().elect(
            _array(vectors),
            size,
            _floats(factors),
            _floats([abs(share) if voted else share for share in shares]),
            _floats(counted) if normalize else None,
            (ctypes.c_uint8 * size)(*skip),
            (ctypes.c_uint8 * size)(*flip),
            majority if convention == "paper" else 1,
            smallest,
            block.start,
            block.count,
            address(merged),
        )
    )
    return merged


def sum_of_signs(block: Block, vectors: Sequence[Vector]) -> int:
    """Sum of `elected_sign` without weights over a block, zero sums counting 0."""
    return int(loops().majority(_array(vectors), len(vectors), block.start, block.count))


def absolute_sum(block: Block, vector: Vector) -> float:
    """Sum of magnitudes, in float64."""
    return float(loops().absolute_sum(_at(vector), block.start, block.count))


def gram(block: Block, vectors: Sequence[Vector]) -> Array:
    """`langmerge.merging.gram.gram` of plain vectors, float64 (n, n); the sums are in another order."""
    grams = np.zeros((len(vectors), len(vectors)))
    _enough(loops().dots(_array(vectors), len(vectors), block.count, address(grams)))
    return grams


def describe(block: Block, vectors: Sequence[Vector]) -> tuple[Array, Array]:
    """Dot products (K, K) of plain vectors, about 1e-7 off, and numbers (2,) of conflicting and of changed entries."""
    grams, counts = np.empty((len(vectors), len(vectors))), np.empty(2)
    _enough(loops().describe(_array(vectors), len(vectors), block.count, address(grams), address(counts)))
    return grams, counts


def finish(
    merged: Array,
    dtype: ElementType,
    reference: Elements | None,
    base: Elements | None = None,
    scales: Sequence[float] = (1.0,),
    places: Sequence[Elements | None] = (None,),
) -> tuple[list[Elements], Array | None]:
    """base + scale x merged (without a base: `merged`, float32 (count,)) for each scale, rounded to `dtype`; and sums.

    `dtype` is one of the `KINDS`. What has a place is written there. Where something is not finite only the outputs
    before it are returned. Sums, float64 (outputs, 5), with a reference: |change|, |rounding|, change^2, changes that
    survive rounding, changes.
    """
    size, count = len(scales), len(merged)
    rounded = [Elements(dtype, np.empty(count, dtype.holder)) if place is None else place for place in places]
    sums = None if reference is None else np.empty((size, 5))
    good = loops().finish(
        *(pointer(base), address(merged), _floats(scales), size, count),
        (ctypes.c_void_p * size)(*(address(values.array) for values in rounded)),
        *(KINDS[dtype], pointer(reference), None if sums is None else address(sums)),
    )
    _enough(good >= 0)
    return rounded[:good], sums


# ---- SCE -------------------------------------------------------------------------------------------------------------


def deviations(block: Block, vectors: Sequence[Vector], counts: Array | None, low_bits: int) -> Array:
    """`choices.squared_deviations` of the models, float32 (count,); adds to their histogram by the upper bits."""
    scores = np.empty(block.count, np.float32)
    place = None if counts is None else address(counts)
    loops().deviations(_array(vectors), len(vectors), block.count, address(scores), place, low_bits)
    return scores


def squares_above(
    block: Block, vectors: Sequence[Vector], scores: Array, low: float, above: float
) -> tuple[list[float], Array]:
    """Sums of squares of the vectors where scores >= above, and int64 indices of the scores in [low, above)."""
    sums = (ctypes.c_double * len(vectors))()
    indices = np.empty(block.count, np.int64)
    place = (address(scores), low, above, block.count, sums, address(indices))
    found = loops().squares_above(_array(vectors), len(vectors), *place)
    return list(sums), indices[:found].copy()


def sce(
    block: Block, vectors: Sequence[Vector], weights: Sequence[float], scores: Array | None, cut: Cut, smallest: float
) -> Array:
    """`choices.sce` of task vectors, selected by `scores` (None: all) as the cut says, float32 (count,)."""
    merged = np.empty(block.count, np.float32)
    last = FAR if cut.last_index is None else cut.last_index - block.start
    place = None if scores is None else address(scores)
    selected = (place, cut.threshold, last, block.count, address(merged))
    _enough(loops().sce(_array(vectors), len(vectors), _floats(weights), smallest, *selected))
    return merged


# ---- selection -------------------------------------------------------------------------------------------------------


def sample(block: Block, vector: Vector, positions: slice, out: Array) -> int:
    """Write the magnitudes at `positions` into `out`; how many."""
    return int(loops().sample(_at(vector), block.start, positions.start, positions.step, block.count, address(out)))


def count_inside(
    block: Block, vector: Vector, brackets: Sequence[tuple[float, float]], room: Sequence[Array]
) -> list[tuple[int, int]]:
    """Numbers of magnitudes (above, inside) of each bracket [low, high]; those inside come into `room`.

    `room` has a float32 array of count + 16 entries for each bracket; those of a bracket of one value do not come.
    """
    size = len(brackets)
    above, inside = ((ctypes.c_int64 * size)() for _ in range(2))
    low, high = (_floats(bounds) for bounds in zip(*brackets, strict=True))
    places = (ctypes.c_void_p * size)(*(address(place) for place in room))
    loops().count_inside(_at(vector), block.start, block.count, size, low, high, above, inside, places)
    return list(zip(above, inside, strict=True))


def find_equal(block: Block, vector: Vector, first: int, magnitude: float, number: int) -> int:
    """Where in the block the `number`-th entry of this magnitude from `first` on is, else -1 - (how many there are)."""
    return int(loops().find_equal(_at(vector), block.start, first, block.count, magnitude, number))


def _array(vectors: Sequence[Vector]) -> Any:
    return (Vector * len(vectors))(*vectors)


def _at(vector: Vector) -> Any:
    return ctypes.byref(vector)


def _floats(values: Sequence[float]) -> Any:
    return (ctypes.c_float * len(values))(*values)


def _enough(done: int) -> None:
    if not done:
        raise MemoryError("the loops of a merge found no memory")
