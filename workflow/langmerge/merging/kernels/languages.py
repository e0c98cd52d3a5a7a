"""Methods of this project, made for merging languages."""

from langmerge.merging.kernels.base import Make

KERNELS: dict[str, Make] = {}
