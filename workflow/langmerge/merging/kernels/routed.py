"""One shared body with a small residue for each language."""

from langmerge.merging.kernels.base import Make

KERNELS: dict[str, Make] = {}
