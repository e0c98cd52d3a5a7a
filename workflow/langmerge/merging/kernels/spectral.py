"""Methods on the singular values and vectors of task matrices."""

from langmerge.merging.kernels.base import Make

KERNELS: dict[str, Make] = {}
