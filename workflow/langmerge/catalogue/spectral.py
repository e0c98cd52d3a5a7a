"""Methods on the singular values and vectors of task matrices."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmerge.catalogue.parameters import Method, Parameter, normalize, scale, seed, weights, zero_sum

_EMBEDDINGS = Parameter(
    "string",
    "What becomes of embeddings and output head. average: the mean of the changes, since their rows are tokens, "
    "each with a change of its own, and singular vectors would mix them. spectral: as the other matrices; "
    "they are then held whole in memory.",
    "average",
    choices=("average", "spectral"),
)

_TOLERANCE = Parameter(
    "number",
    "Singular values below this share of a matrix's largest count as zero. Take more (0.01) for low-rank "
    "updates that were stored in bfloat16, whose rounding fills up the rank.",
    1e-5,
    1e-7,
    1.0,
    exclusive_maximum=True,
)

_FACTORS = weights("Factor of each task vector before the merge.")


def _importance(parameters: Mapping[str, Any]) -> str | None:
    given = parameters["weights"]
    return "the weights are all zero; give at least one model a positive one" if given and not any(given) else None


METHODS: tuple[Method, ...] = (
    Method(
        "tsv_m",
        "TSV-M",
        {
            "scale": scale(),
            "weights": _FACTORS,
            "embeddings": _EMBEDDINGS,
            "tolerance": _TOLERANCE,
        },
        "arXiv 2412.00081",
        needs_base=True,
        description="The leading 1/n of each task matrix's singular directions, made orthogonal to one another, "
        "added up; vectors (norms, biases): the mean of the changes.",
    ),
    Method(
        "iso_c",
        "Iso-C",
        {
            "scale": scale(),
            "weights": _FACTORS,
            "embeddings": _EMBEDDINGS,
            "tolerance": _TOLERANCE,
        },
        "arXiv 2502.04959",
        needs_base=True,
        description="The sum of the task matrices with all singular values set to their mean (the paper tunes "
        "scale); vectors: the mean of the changes.",
    ),
    Method(
        "iso_cts",
        "Iso-CTS",
        {
            "scale": scale(),
            "weights": _FACTORS,
            "common_space_fraction": Parameter(
                "number",
                "Share of the directions taken from the sum of the task matrices; the rest is divided among the "
                "tasks. 1 is Iso-C.",
                0.8,
                0.0,
                1.0,
            ),
            "embeddings": _EMBEDDINGS,
            "tolerance": _TOLERANCE,
        },
        "arXiv 2502.04959",
        needs_base=True,
        description="As Iso-C, but the weakest common directions make room for each task's own ones.",
    ),
    Method(
        "knots",
        "KnOTS",
        {
            "inner": Parameter(
                "string",
                "How the aligned parts are merged.",
                "ties",
                choices=("ties", "dare_ties", "linear"),
            ),
            "density": Parameter(
                "number",
                "ties: share of each aligned part that the trim keeps, by default 1 (no trim). dare_ties: "
                "probability of keeping an entry, by default 0.2; nothing is trimmed then.",
                None,
                0.0,
                1.0,
                exclusive_minimum=True,
            ),
            "scale": scale(),
            "weights": weights("Weight of each task vector."),
            "normalize": normalize(True),
            "seed": seed(),
            "embeddings": _EMBEDDINGS,
            "tolerance": _TOLERANCE,
        },
        "arXiv 2410.19735",
        needs_base=True,
        description="Task matrices expressed in the common singular basis of all of them, there merged by TIES, "
        "DARE and TIES, or a weighted mean; made for LoRA updates. Vectors: the weighted mean of the changes.",
        rule=zero_sum,
    ),
    Method(
        "wudi",
        "WUDI",
        {
            "scale": scale(),
            "weights": replace(weights("Weight of each task's loss."), minimum=0.0),
            "solver": Parameter(
                "string",
                "adam: so many steps of gradient descent from the sum of the task matrices. exact: the minimum "
                "of the same loss nearest to that sum; steps and learning_rate then mean nothing.",
                "adam",
                choices=("adam", "exact"),
            ),
            "steps": Parameter("integer", "Steps of Adam.", 300, 0),
            "learning_rate": Parameter(
                "number",
                "Adam's: the most that an entry moves in a step.",
                1e-5,
                0.0,
                exclusive_minimum=True,
            ),
            "embeddings": _EMBEDDINGS,
            "tolerance": _TOLERANCE,
        },
        "arXiv 2503.08099",
        needs_base=True,
        description="A task matrix that differs least from each task's own on the input directions which that "
        "task uses; vectors: the weighted mean of the changes.",
        rule=_importance,
    ),
)
