"""Methods that weigh models by what was measured on data, and searches that look for a recipe on held-out data."""

from collections.abc import Mapping
from typing import Any

from langmerge.catalogue.parameters import Method, Parameter, convention


def _weights() -> Parameter:
    return Parameter(
        "numbers", "How much each model counts, one for each; default: 1 each.", minimum=0.0, per_model=True
    )


def _some_weight(parameters: Mapping[str, Any]) -> str | None:
    given = parameters["weights"]
    return f"the weights {given} are all zero; give one model some" if given is not None and not any(given) else None


METHODS = (
    Method(
        "fisher",
        "Fisher-weighted average",
        {
            "weights": _weights(),
            "floor": Parameter(
                "number",
                "Added to every entry of the Fisher information, in units of its mean entry over all models.",
                1e-6,
                0.0,
                exclusive_minimum=True,
            ),
            "convention": convention(
                "model: divide each model's Fisher information by its Euclidean norm over all tensors (the authors' "
                "code, MergeLM, fusion_bench). none: as it was measured (the paper's equation).",
                "model",
                "none",
            ),
        },
        "arXiv 2111.09832",
        needs_base=False,
        description="sum_i w_i F_i m_i / sum_i w_i F_i, F_i the diagonal Fisher information of model i on its own data",
        rule=_some_weight,
        data="fisher",
    ),
    Method(
        "regmean",
        "RegMean",
        {
            "weights": _weights(),
            "off_diagonal": Parameter(
                "number", "Factor of the Gram matrices' entries outside the diagonal.", 0.9, 0.0, 1.0
            ),
            "ridge": Parameter(
                "number",
                "Pull towards the average, in units of the mean diagonal entry of the summed Gram matrix.",
                1e-6,
                0.0,
                exclusive_minimum=True,
            ),
        },
        "arXiv 2212.09849",
        needs_base=False,
        description="The linear maps whose outputs on every model's data are nearest to that model's own; "
        "average of all other tensors.",
        rule=_some_weight,
        data="gram",
    ),
    Method(
        "adamerging",
        "AdaMerging",
        {
            "init": Parameter("number", "Coefficient of every task vector at the start.", 0.3),
            "learning_rate": Parameter("number", "Adam's.", 1e-3, 0.0, exclusive_minimum=True),
            "steps": Parameter("integer", "Optimizer steps.", 500, 0),
            "batch_size": Parameter("integer", "Dev sentences of each direction in a step.", 16, 1),
            "clamp": Parameter("boolean", "Keep the coefficients between 0 and 1.", True),
            "seed": Parameter("integer", "Seed of the order of the sentences.", 0, minimum=0),
        },
        "arXiv 2310.02575",
        needs_base=True,
        description="Task arithmetic with a coefficient for each layer and model, learnt on dev sentences without "
        "their translations: least entropy of the next token.",
        search=True,
    ),
    Method(
        "greedy_soup",
        "Greedy soup",
        {},
        "arXiv 2203.05482 (model soups), recipe 1",
        needs_base=False,
        description="Average of the models taken best first, each kept if the dev score does not fall.",
        search=True,
    ),
)
