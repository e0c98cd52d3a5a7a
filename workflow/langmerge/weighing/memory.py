"""How much host memory weighing takes, from the models' shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from langmerge.weighing.subspaces import working_type
from langmerge.weighing.weigh import NULL_ENTRIES, Settings

LIBRARIES = 400 << 20  # interpreter, torch and their buffers
WORK = 6  # matrices of a work space for an eigendecomposition
COPIES = 14  # float64 arrays of a block that are alive at once in the sums, masks included


def predicted_bytes(
    shapes: Iterable[Sequence[int]], specialists: int, merges: int, settings: Settings | None = None
) -> int:
    """An upper estimate of the peak: libraries, a block of all models, and the products of the largest matrix.

    A block takes (1 + N) ``block`` entries in :data:`COPIES` float64 arrays, which the allocator may keep while the
    subspaces are found. Exact subspaces take S (2 N - S + 1) / 2 + N - S products, N bases and an eigendecomposition's
    work space, all [short, short]; a sketch N (N + 3) arrays [q, short] and N^2 [q, q]. A null has as much of matrices
    of at most ``NULL_ENTRIES`` float64 entries, and the drawn matrices. Layers cost nothing. Measured without nulls for
    bf16 matrices of 11008 x 2048, five specialists and three merges: 1.53 GB exact, 0.85 GB as a sketch.
    """
    settings = settings or Settings()
    n, block, subspace = specialists + merges, 0, 0
    for shape in shapes:
        entries = (1 + n) * min(settings.block, math.prod(shape))
        block = max(block, (8 * COPIES + 16) * entries)
        if len(shape) < 2 or min(shape[-2:]) < 2:
            continue
        matrix = tuple(shape[-2:])
        short, size = min(matrix), working_type(matrix).itemsize
        if settings.is_exact(matrix):
            held, work = short * short * (_products(specialists, n) + n), WORK * short * short
        else:
            q = min(settings.rank, short)
            held, work = q * short * n * (n + 3) + q * q * n * n, 0
        drawn = _products(specialists, specialists + 1) + 3 * (specialists + 1) + WORK
        null = 8 * min(NULL_ENTRIES, math.prod(matrix)) * drawn
        subspace = max(subspace, size * held + max(size * work, null * (settings.draws > 0)))
    return LIBRARIES + block + subspace


def _products(specialists: int, n: int) -> int:
    """How many products :class:`langmerge.weighing.subspaces.Exact` keeps of ``n`` matrices."""
    return specialists * (2 * n - specialists + 1) // 2 + n - specialists
