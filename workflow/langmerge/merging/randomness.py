"""Counter-based random numbers: each is a function of (seed, model, tensor, flat index) alone.

So a DARE mask does not depend on block size, order, threads or the other models of a merge, and the masks
of one stream are nested over densities: what a lower density keeps, a higher one keeps as well.

A stream is cut into runs of 2^16 indices. Each has two keys of 32 bits, drawn from the stream's key and the run's
number by BLAKE2b. Within a run the index is hashed with them: Wellons' two-round multiply-xorshift permutation
``lowbias32`` (2018, https://nullprogram.com/blog/2018/07/31/), a key mixed in before either multiplication so that
runs are not permutations of one another. It needs 32-bit integers only, on which CPUs are several times as fast as on
64-bit ones; torch's wrap around, so the same bits come out on every device.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

BITS = 31

RUN = 1 << 16
"""Indices that share a pair of keys; their values stay in a core's cache."""

_GOLDEN = 0x9E3779B9
_FIRST = 0x7FEB352D
_SECOND = 0x846CA68B


def stream_key(seed: int, *names: str) -> bytes:
    """16 bytes that identify the random stream of (seed, names)."""
    text = "\x00".join([str(seed), *names])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def random_bits(key: bytes, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """int32 (count,), uniform in [0, 2^31): the stream's values at indices start .. start + count - 1."""
    device = torch.device(device)
    bits = torch.empty(count, dtype=torch.int32, device=device)
    position = 0
    while position < count:
        run, offset = divmod(start + position, RUN)
        length = min(RUN - offset, count - position)
        part, keys = bits[position : position + length], run_keys(key, run)
        if device.type == "cpu":
            _hash(keys, offset, part.numpy().view(np.uint32))
        else:
            hash_on_device(keys, offset, part)
        position += length
    return bits


def run_keys(key: bytes, run: int) -> tuple[int, int]:
    """The two keys of a run, in [0, 2^32)."""
    digest = hashlib.blake2b(run.to_bytes(8, "little"), key=key, digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def kept(bits: Tensor, density: float) -> Tensor:
    """Boolean mask, true with probability `density` (rounded to a multiple of 2^-31); all true at 1."""
    limit = round(density * 2**BITS)
    return bits < limit if limit < 2**BITS else torch.ones_like(bits, dtype=torch.bool)


def below(bits: Tensor, share: float | Tensor) -> Tensor:
    """int32 mask, -1 (all bits set) where bits < share x 2^31, else 0; for shares < 1, it is `kept` in another form.

    A float `share` is rounded to a multiple of 2^-31, a float32 tensor of shares (count,) rounded down to one.
    """
    limit = (share * 2.0**BITS).to(torch.int32) if isinstance(share, torch.Tensor) else round(share * 2**BITS)
    return (bits - limit).bitwise_right_shift_(BITS)


@cache
def _ramp() -> Array:
    """The indices of a run, spread over 32 bits, uint32 (RUN,)."""
    return np.arange(RUN, dtype=np.uint32) * np.uint32(_GOLDEN)


def _hash(keys: tuple[int, int], offset: int, result: Array) -> None:
    """Write the random bits of the indices of a run from `offset` on to `result`, uint32."""
    scratch = np.empty_like(result)
    np.bitwise_xor(_ramp()[offset : offset + len(result)], np.uint32(keys[0]), out=result)
    result ^= np.right_shift(result, 16, out=scratch)
    result *= np.uint32(_FIRST)
    result ^= np.right_shift(result, 15, out=scratch)
    result ^= np.uint32(keys[1])
    result *= np.uint32(_SECOND)
    result ^= np.right_shift(result, 16, out=scratch)
    result >>= np.uint32(32 - BITS)


def hash_on_device(keys: tuple[int, int], offset: int, result: Tensor) -> None:
    """The same by torch, int32, on any device; on a CPU numpy takes half the time."""
    ramp = torch.arange(offset, offset + len(result), dtype=torch.int32, device=result.device).mul_(_signed(_GOLDEN))
    torch.bitwise_xor(ramp, _signed(keys[0]), out=result)
    _fold(result, 16, ramp)
    result.mul_(_FIRST)
    _fold(result, 15, ramp)
    result.bitwise_xor_(_signed(keys[1])).mul_(_signed(_SECOND))
    _fold(result, 16, ramp)
    result.bitwise_right_shift_(32 - BITS).bitwise_and_(2**BITS - 1)


def _fold(z: Tensor, bits: int, scratch: Tensor) -> None:
    """z ^= z >> bits with a logical shift; torch's own is arithmetic on signed integers."""
    torch.bitwise_right_shift(z, bits, out=scratch)
    z.bitwise_xor_(scratch.bitwise_and_((1 << (32 - bits)) - 1))


def _signed(value: int) -> int:
    """`value` in [0, 2^32) as a signed 32-bit integer."""
    return value - 2**32 if value >= 2**31 else value
