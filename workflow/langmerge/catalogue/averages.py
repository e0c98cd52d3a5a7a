"""Averages of weights: linear and spherical, and Model Stock."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmerge.catalogue.parameters import Method, Parameter, convention, normalize, weights, zero_sum


def _nuslerp_rule(parameters: Mapping[str, Any]) -> str | None:
    given = parameters["weights"]
    if parameters["row_wise"] and parameters["flatten"]:
        return "row_wise means nothing for flattened tensors; set flatten: false"
    if parameters["convention"] == "exact" and given is not None and abs(sum(given)) < 1e-6:
        return f"the weights {given} sum to zero, so they do not divide the way between the models"
    return None


def _karcher_rule(parameters: Mapping[str, Any]) -> str | None:
    given = parameters["weights"]
    if given is not None and not sum(given) > 1e-8:
        return f"the weights {given} sum to zero; at least one must be positive"
    return None


METHODS = (
    Method(
        "linear",
        "Weighted average",
        {"weights": weights("Weight of each model."), "normalize": normalize(True)},
        "arXiv 2203.05482 (model soups)",
        needs_base=False,
        description="sum_i w_i m_i / sum_i w_i",
        rule=zero_sum,
    ),
    Method(
        "slerp",
        "Spherical interpolation",
        {
            "t": Parameter("number", "0 is the first model, 1 the second.", 0.5, 0.0, 1.0),
            "convention": convention(
                "exact: the great circle wherever it is defined. mergekit: the straight line where "
                "|cos| > 0.9995 (1.81 degrees), as between most fine-tuned models of one base.",
                "exact",
                "mergekit",
            ),
        },
        "Shoemake 1985",
        needs_base=False,
        description="Interpolation along the great circle between two flattened tensors.",
        models=(2, 2),
    ),
    Method(
        "nuslerp",
        "NuSLERP",
        {
            "weights": weights("Weight of each model; the second's share of both is slerp's t."),
            "flatten": Parameter("boolean", "Each tensor is one vector; false: many, see row_wise.", True),
            "row_wise": Parameter(
                "boolean",
                "As mergekit names it. true: a vector is what the first dimension counts (a column of a matrix); "
                "false: what the last dimension counts (a row). 1-D tensors are one vector.",
                False,
            ),
            "convention": convention(
                "exact: the straight line next to a zero vector, and for parallel or opposite ones. mergekit: a zero "
                "vector is at a right angle to any other, lengths count as at least 1e-7, and weights that sum to "
                "zero are t = 0.5.",
                "exact",
                "mergekit",
            ),
        },
        "mergekit (Goddard et al. 2024, arXiv 2403.13257)",
        needs_base=False,
        description="Slerp with t = w_2 / (w_1 + w_2), also row by row; with a base, of the task vectors.",
        models=(2, 2),
        rule=_nuslerp_rule,
    ),
    Method(
        "multislerp",
        "Multi-SLERP",
        {
            "weights": weights("Weight of each model."),
            "normalize": normalize(True),
            "eps": Parameter("number", "Added to lengths before the division by them.", 1e-8, 0.0),
        },
        "goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        needs_base=False,
        description="Weighted mean of the directions, as long as the mean length; with a base, of the task vectors.",
        rule=zero_sum,
    ),
    Method(
        "karcher",
        "Karcher mean",
        {
            "weights": replace(weights("Weight of each model (mergekit knows equal ones only)."), minimum=0.0),
            "max_iter": Parameter("integer", "Steps at most.", 10, 0),
            "tol": Parameter("number", "Stop below this step, in radians.", 1e-5, 0.0),
        },
        "arXiv 2603.04972",
        needs_base=False,
        description="Riemannian mean of the directions on the sphere, as long as the mean length.",
        rule=_karcher_rule,
    ),
    Method(
        "model_stock",
        "Model Stock",
        {
            "filter_wise": Parameter(
                "boolean", "A share for each row (1-D tensors are one) instead of each tensor.", False
            ),
            "convention": convention(
                "paper: mean cosine over pairs, t clamped to [0, 1]. mergekit: a product of lengths counts as at "
                "least 1e-6, t may be negative. fusion_bench: mean of the angles, t may be negative.",
                "paper",
                "mergekit",
                "fusion_bench",
            ),
        },
        "arXiv 2403.19522",
        needs_base=True,
        description="base + t mean_i d_i, t = n c / (1 + (n - 1) c) from the mean cosine c of the task vectors.",
        models=(2, None),
    ),
)
