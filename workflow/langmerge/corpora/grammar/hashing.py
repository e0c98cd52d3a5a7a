"""Choices that depend on names alone: the same in every process and for every subset of languages."""

from hashlib import blake2b


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on the texts of `parts` alone, not on the process."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
