"""What a survey of large models needs, from its sizes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from langmerge.landscape import fisher, gradients


@dataclass(frozen=True)
class Needs:
    """Bytes, and passes over the sentences.

    ``device``: the largest of the steps on the device that computes, weights included, activations not. ``host``: what
    the host holds besides when that device is a GPU (files that are mapped, not held, do not count). ``disk``:
    temporary files.
    """

    device: int
    host: int
    disk: int
    passes: int


def needs(parameters: int, largest: int, models: int, languages: int, blocks: int, device: str = "cuda") -> Needs:
    """For fp32 models of ``parameters`` elements, the ``largest`` tensor of which has so many.

    On the device: the model, and the largest of: one tensor of every model (distances), four tensors (a combination and
    its parts), block gradients and two tensors (a tied embedding's two gradients), F and two tensors. On the host: one
    tensor on its way to or from the device, or the pieces of all Fisher files. Disk: the halves' Fisher information of
    all languages, at one of the two places where it is measured.
    """
    model, tensor = 4 * parameters, 4 * largest
    budget = gradients.BUDGET[device]
    capacity = budget // (4 * languages * blocks)
    held = 4 * languages * blocks * min(parameters, capacity)
    return Needs(
        device=model + max(max(models, 4) * tensor, held + 2 * tensor, model + 2 * tensor),
        host=max(tensor, 2 * 4 * languages * fisher.ELEMENTS),
        disk=2 * languages * model,
        passes=math.ceil(parameters / capacity),
    )
