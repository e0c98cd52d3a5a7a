"""Methods that merge LoRA adapters into one adapter, with the changes delta_i = s_i B_i A_i of the weights.

Names and rules are peft's where it has them: what peft calls `ties_svd` is `ties` with the convention peft_svd here,
what it calls `ties` is the convention peft. To merge adapters into a full model, give the engine `AdapterView`s.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmerge import catalogue
from langmerge.catalogue import task_vectors
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

_RANK = "Largest rank of the merged adapter; default: the largest of its inputs."

_FACTORS = (
    " Here of the deltas, the whole model being all adapted modules; peft's rules on the deltas are called peft_svd. "
    "peft: its rules on each of the factors, A with sign(w s) sqrt|w s| and B with sqrt|w s| as weights; their product "
    "holds cross terms B_i A_j, and ranks must be equal."
)


def _rank(text: str = _RANK) -> Parameter:
    return Parameter("integer", text, None, 1)


def _keeps_rank(parameters: Mapping[str, Any]) -> str | None:
    """A rule: factors that are merged one by one keep their rank."""
    if parameters["convention"] == "peft" and parameters["rank"] is not None:
        return "convention peft keeps the rank of the adapters; leave rank out"
    return None


def _adds_up(parameters: Mapping[str, Any]) -> str | None:
    """The rule of methods that add weighted changes up."""
    return _keeps_rank(parameters) or zero_sum(parameters)


_OWN = (
    Method(
        "cat",
        "Concatenation",
        {"weights": weights("Weight of each adapter."), "normalize": normalize(False)},
        "peft (combination type cat)",
        needs_base=False,
        description="sum_i w_i delta_i exactly: the factors side by side, so ranks add up.",
        rule=zero_sum,
    ),
    Method(
        "svd",
        "Truncated sum",
        {"weights": weights("Weight of each adapter."), "normalize": normalize(False), "rank": _rank()},
        "peft (combination type svd); Eckart and Young 1936",
        needs_base=False,
        description="The adapter of given rank that is nearest to sum_i w_i delta_i.",
        rule=zero_sum,
    ),
    Method(
        "linear",
        "Weighted average",
        {
            "weights": weights("Weight of each adapter."),
            "normalize": Parameter(
                "boolean",
                "Divide the weighted sum by the sum of the weights. Default: true, but false for peft.",
                True,
                default_by_convention={"peft": False},
            ),
            "convention": convention(
                "delta: exactly sum_i w_i delta_i. peft: sum_i sqrt|w_i s_i| B_i times "
                "sum_i sign(w_i s_i) sqrt|w_i s_i| A_i, which holds cross terms B_i A_j; ranks must be equal.",
                "delta",
                "peft",
            ),
            "rank": _rank("Largest rank of the merged adapter; default: exact, ranks add up."),
        },
        "arXiv 2203.05482 (model soups); peft (combination type linear)",
        needs_base=False,
        description="sum_i w_i delta_i / sum_i w_i",
        rule=_adds_up,
    ),
    Method(
        "knots",
        "KnOTS",
        {
            "merge": Parameter(
                "string",
                "How the parts S V_i^T are merged.",
                "ties",
                choices=("ties", "dare_ties", "linear"),
            ),
            "density": density(1.0, "Share kept by the trim (ties), probability of keeping an entry (dare_ties)."),
            "trim": Parameter(
                "number", "dare_ties: share kept by the trim after the drop.", 1.0, 0.0, 1.0, exclusive_minimum=True
            ),
            "scale": scale(),
            "weights": weights("Weight of each adapter."),
            "seed": seed(),
            "convention": convention("Rules of TIES, on the parts; see `ties`.", *CONVENTIONS),
            "normalize": Parameter("boolean", "Mean (weighted) instead of the sum.", True),
            "tolerance": Parameter(
                "number",
                "Singular values up to this share of a module's largest are dropped (the paper's code: up to 1e-5).",
                1e-5,
                0.0,
                1.0,
                exclusive_maximum=True,
            ),
            "rank": _rank("Largest rank of the merged adapter; default: that of the aligned space, at most the sum."),
        },
        "arXiv 2410.19735 (KnOTS)",
        needs_base=False,
        description="SVD of [delta_1 | ... | delta_n] = U S [V_1 | ... | V_n]^T; merge the parts S V_i^T, times U.",
        rule=lambda parameters: zero_sum(parameters) if parameters["merge"] == "linear" else None,
    ),
)


def _on_deltas(method: Method) -> Method:
    """A method on task vectors (base + f(d_1 .. d_n)) as one on deltas that is truncated to a rank; see `_FACTORS`."""
    parameters = {
        key: replace(each, default_by_convention=_with_svd(each.default_by_convention))
        for key, each in method.parameters.items()
    }
    parameters["rank"] = _rank()
    rules = [method.rule] if method.rule else []
    conventions = method.parameters.get("convention")
    if conventions and "peft" in conventions.choices:
        names = ["peft_svd" if name == "peft" else name for name in conventions.choices]
        parameters["convention"] = convention(conventions.description + _FACTORS, *names, "peft")
        rules.append(_keeps_rank)
    return replace(
        method,
        parameters=parameters,
        needs_base=False,
        description=f"On the deltas: {method.description}",
        rule=lambda complete: next((problem for rule in rules if (problem := rule(complete))), None),
    )


def _with_svd(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults by convention, where peft's are those of peft_svd too."""
    return {**defaults, "peft_svd": defaults["peft"]} if "peft" in defaults else dict(defaults)


ON_DELTAS = tuple(
    _on_deltas(method)
    for method in task_vectors.METHODS
    if method.needs_base and method.data is None and method.name != "task_arithmetic"
)
"""Methods on task vectors, merged by the engine on the deltas (task arithmetic would be `svd`)."""

LORA_METHODS: dict[str, Method] = {method.name: method for method in (*_OWN, *ON_DELTAS)}


def check(method: str, parameters: Mapping[str, Any], n_adapters: int) -> dict[str, Any]:
    """Complete parameters of a method of `LORA_METHODS`; see `langmerge.catalogue.check`."""
    return catalogue.check(method, parameters, n_adapters, LORA_METHODS)
