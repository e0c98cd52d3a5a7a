"""The ways to grow by name; their parameters stand in :mod:`langmerge.growth`."""

from __future__ import annotations

from collections.abc import Callable

from langmerge.growing.dus import dus
from langmerge.growing.hyperclone import hyperclone
from langmerge.growing.identity import identity
from langmerge.growing.layers import Growth
from langmerge.growing.stack import stack

GROW: dict[str, Callable[..., Growth]] = {"hyperclone": hyperclone, "stack": stack, "dus": dus, "identity": identity}
"""``GROW[method](weights, config, **parameters)`` are the grown weights and configuration; inputs stay untouched."""
