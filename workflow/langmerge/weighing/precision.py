"""Did storage lose the change? Steps below half the spacing of a float type are rounded away when weights are saved.

With weights of sd 0.02 and changes of sd 1e-5, 80 % of the entries of a bf16 file are exactly those of the base, and
the stored task vector's cosine with the true one is 0.37.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

TYPES = ("bf16", "fp16", "fp32")
"""Float types, by which of them first holds every value of a tensor exactly."""

LOST = 0.01  # share of entries without a change that is suspicious in a coarse type


def coarsest(values: Tensor) -> Tensor:
    """For each row of fp32 ``values`` [N, n] the position in :data:`TYPES` of the first that holds all of it, [N].

    By the values, not by the file's header: a bf16 model that was saved again as fp32 has lost as much.
    """
    bf16 = ((values.view(torch.int32) & 0xFFFF) == 0).all(1)
    fp16 = (values.half().float() == values).all(1)
    return torch.where(bf16, 0, torch.where(fp16, 1, 2))


def warnings(labels: Sequence[str], types: Mapping[str, Sequence[int]], lost: Mapping[str, float]) -> list[str]:
    """One line for each model that keeps its matrices in a coarse type and whose share of zero changes is high.

    ``types`` gives for each label the type of each part, ``lost`` the share of zero changes among the coarse ones.
    """
    found = []
    for label in labels:
        coarse = [kind for kind in types[label] if kind < len(TYPES) - 1]
        if coarse and lost[label] > LOST:
            names = " and ".join(sorted({TYPES[kind] for kind in coarse}))
            found.append(
                f"{label}: {lost[label]:.0%} of the changes are exactly 0 in the {len(coarse)} of {len(types[label])} "
                f"tensors whose values all fit {names}; small steps were rounded away when they were saved, so norms, "
                "cosines and signs are those of what is left. Save checkpoints as fp32 and export lower precision last"
            )
    return found
