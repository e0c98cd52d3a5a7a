"""Splits of a set that has only one file: by a hash of the identifier, so that they are the same wherever it stands."""

from __future__ import annotations

from hashlib import blake2b

WHOLE = (0.0, 1.0)


def position(identity: str) -> float:
    """A place in [0, 1) that is uniform over identifiers: the first 8 bytes of BLAKE2b as a fraction of 2^64.

    It depends on nothing but the text of the identifier: a row that is aligned across languages by its id falls into
    the same split in each of them, so what one language is trained on is no other's test.
    """
    # 53 bits, as many as a float holds: the largest hash would otherwise round to 1.
    return (int.from_bytes(blake2b(identity.encode(), digest_size=8, person=b"split").digest(), "big") >> 11) / 2**53


def within(identity: str, portion: tuple[float, float]) -> bool:
    """Whether ``start <= position(identity) < end`` for the portion ``(start, end)``.

    Portions that do not overlap share no identifier, and (0, 1) holds all.
    """
    return portion[0] <= position(identity) < portion[1]
