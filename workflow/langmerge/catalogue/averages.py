"""Averages of weights: linear and spherical."""

from langmerge.catalogue.parameters import Method, Parameter, normalize, weights, zero_sum

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
        {"t": Parameter("number", "0 is the first model, 1 the second.", 0.5, 0.0, 1.0)},
        "Shoemake 1985",
        needs_base=False,
        description="Interpolation along the great circle between two flattened tensors.",
        models=(2, 2),
    ),
)
