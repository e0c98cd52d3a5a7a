"""Methods on task vectors that sparsify each, then add them or elect a sign."""

from langmerge.catalogue.parameters import (
    CONVENTIONS,
    Method,
    Parameter,
    convention,
    density,
    normalize,
    scale,
    seed,
    weights,
    zero_sum,
)

_TIES_CONVENTION = (
    "paper: trim over the whole model, unweighted election, a zero sum takes the model's majority sign, "
    "weighted mean of the agreeing entries. mergekit: trim per tensor, weights before the election, a zero "
    "sum counts as +, division by the agreeing weights. peft: trim per tensor, unweighted election, a zero "
    "sum counts as +, weighted sum divided by the number of agreeing entries."
)

METHODS = (
    Method(
        "task_arithmetic",
        "Task arithmetic",
        {
            "scale": scale(),
            "weights": weights("Weight of each task vector."),
            "normalize": normalize(False),
        },
        "arXiv 2212.04089",
        needs_base=True,
        description="base + scale sum_i w_i (m_i - base)",
        rule=zero_sum,
    ),
    Method(
        "ties",
        "TIES",
        {
            "density": density(0.2, "Share of each task vector that the trim keeps."),
            "scale": scale(),
            "weights": weights("Weight of each task vector."),
            "convention": convention(_TIES_CONVENTION, *CONVENTIONS),
            "normalize": Parameter("boolean", "Mean of the agreeing entries; false: their sum.", True),
        },
        "arXiv 2306.01708",
        needs_base=True,
        description="Trim, elect a sign for each entry, mean of the entries that agree with it.",
    ),
    Method(
        "dare_linear",
        "DARE, linear",
        {
            "density": density(0.5, "Probability of keeping an entry (the paper's 1 - p)."),
            "scale": scale(),
            "weights": weights("Weight of each task vector."),
            "seed": seed(),
            "normalize": normalize(False),
        },
        "arXiv 2311.03099",
        needs_base=True,
        description="Drop entries of each task vector at random, divide the rest by density, add up.",
        rule=zero_sum,
    ),
    Method(
        "dare_ties",
        "DARE, TIES",
        {
            "density": density(0.5, "Probability of keeping an entry (the paper's 1 - p)."),
            "scale": scale(),
            "weights": weights("Weight of each task vector."),
            "seed": seed(),
            "convention": convention(_TIES_CONVENTION, *CONVENTIONS),
            "trim": Parameter(
                "number",
                "Share kept by the trim after the drop; default 0.2 (paper), 1 (mergekit, peft).",
                0.2,
                0.0,
                1.0,
                exclusive_minimum=True,
                default_by_convention={"mergekit": 1.0, "peft": 1.0},
            ),
            "normalize": Parameter(
                "boolean",
                "Mean of the agreeing entries; false: their sum. Default: true, but false for mergekit.",
                True,
                default_by_convention={"mergekit": False},
            ),
        },
        "arXiv 2311.03099 with arXiv 2306.01708",
        needs_base=True,
        description="DARE's drop and rescale, then TIES.",
    ),
)
