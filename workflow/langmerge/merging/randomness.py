"""Counter-based random numbers: each is a function of (seed, model, tensor, flat index) alone.

So a DARE mask does not depend on block size, order, threads or the other models of a merge, and the masks
of one stream are nested over densities: what a lower density keeps, a higher one keeps as well.

The generator is SplitMix64 (Steele, Lea and Flood 2014) on the counter, with a second key mixed in between
its two multiplications so that streams are not shifts of one another. int64 arithmetic of torch wraps around,
so the same bits come out on every device.
"""

import hashlib

import torch
from torch import Tensor

BITS = 31

CHUNK = 1 << 15
"""Indices worked on at a time: their int64 values stay in a core's cache."""

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def stream_key(seed: int, *names: str) -> bytes:
    """16 bytes that identify the random stream of (seed, names)."""
    text = "\x00".join([str(seed), *names])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def random_bits(key: bytes, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """int32 (count,), uniform in [0, 2^31): the stream's values at indices start .. start + count - 1."""
    bits = torch.empty(count, dtype=torch.int32, device=device)
    for position in range(0, count, CHUNK):
        part = bits[position : position + CHUNK]
        part.copy_(_mixed(key, start + position, len(part), device))
    return bits


def _mixed(key: bytes, start: int, count: int, device: torch.device | str) -> Tensor:
    """The same as int64."""
    z = torch.arange(start, start + count, dtype=torch.int64, device=device)
    z.mul_(_signed(_GOLDEN)).add_(_signed(int.from_bytes(key[:8], "little")))
    z ^= _shift_right(z, 30)
    z.mul_(_signed(_FIRST)).bitwise_xor_(_signed(int.from_bytes(key[8:], "little")))
    z ^= _shift_right(z, 27)
    z.mul_(_signed(_SECOND))
    z ^= _shift_right(z, 31)
    return _shift_right(z, 64 - BITS)


def kept(bits: Tensor, density: float) -> Tensor:
    """Boolean mask, true with probability `density` (rounded to a multiple of 2^-31); all true at 1."""
    limit = round(density * 2**BITS)
    return bits < limit if limit < 2**BITS else torch.ones_like(bits, dtype=torch.bool)


def _signed(value: int) -> int:
    """`value` modulo 2^64 as a signed 64-bit integer."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own is arithmetic on signed integers."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)
