"""Methods that choose, entry by entry, whose change counts."""

from langmerge.merging.kernels.base import Make

KERNELS: dict[str, Make] = {}
