"""Methods on task vectors that sparsify each, then add them or elect a sign."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

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

Rule = Callable[[Mapping[str, Any]], str | None]

_WEIGHTS = "Weight of each task vector."
_TIES_CONVENTION = (
    "paper: trim over the whole model, unweighted election, a zero sum takes the model's majority sign, "
    "weighted mean of the agreeing entries. mergekit: trim per tensor, weights before the election, a zero "
    "sum counts as +, division by the agreeing weights. peft: trim per tensor, unweighted election, a zero "
    "sum counts as +, weighted sum divided by the number of agreeing entries."
)
_ELECTION = (
    " Election: paper: unweighted, weighted mean of the agreeing entries; mergekit: weights before it, division by "
    "the agreeing weights. A zero sum counts as + in both."
)
_DISJOINT = "Mean of the agreeing entries; false: their sum."
_RESCALE = {
    "expectation": "divide what is kept by the probability of keeping it",
    "l1": "give each tensor the sum of magnitudes it had before (mergekit 0.1.5)",
    "none": "leave it as it is",
}


def _rescale(*choices: str, **by_convention: str) -> Parameter:
    """How what is left of a task vector is rescaled; the first choice is the default."""
    text = "; ".join(f"{choice}: {_RESCALE[choice]}" for choice in choices)
    defaults = "".join(f", {value} for {name}" for name, value in by_convention.items())
    return Parameter(
        "string",
        f"{text[0].upper()}{text[1:]}. Default: {choices[0]}{defaults}.",
        choices[0],
        choices=choices,
        default_by_convention=by_convention,
    )


def of_each(parameters: Mapping[str, Any], name: str, plural: str, n_models: int) -> list[float]:
    """A parameter's value for each model: those of the list `plural` if it is given, else that of `name` for all."""
    given = parameters.get(plural)
    return [parameters[name]] * n_models if given is None else list(given)


def _pairs(parameters: Mapping[str, Any], *names: tuple[str, str]) -> Iterator[tuple[float, ...]]:
    """The values of several parameters for each model; once if none is given by model."""
    sizes = {len(parameters[plural]) for _, plural in names if parameters.get(plural) is not None}
    columns = [of_each(parameters, name, plural, max(sizes, default=1)) for name, plural in names]
    yield from zip(*columns, strict=True)


def _band(parameters: Mapping[str, Any]) -> str | None:
    """A rule: what is kept and what is cut off above must leave room for each other."""
    for kept, gamma in _pairs(parameters, ("density", "densities"), ("gamma", "gammas")):
        if parameters["convention"] == "paper" and kept < 1 and kept + gamma > 1 + 1e-12:
            return (
                f"density {kept:g} and gamma {gamma:g} add up to more than 1; lower one of them, or take the mergekit "
                "convention, which then drops fewer of the largest entries"
            )
    return None


def _probabilities(parameters: Mapping[str, Any]) -> str | None:
    """A rule: DELLA's probabilities of keeping an entry must lie within (0, 1)."""
    for middle, epsilon in _pairs(parameters, ("density", "densities"), ("epsilon", "epsilons")):
        half = epsilon / 2 if parameters["convention"] == "paper" else epsilon
        if middle < 1 and not (middle - half > 0 and middle + half < 1):
            return (
                f"with density {middle:g} and epsilon {epsilon:g} entries would be kept with probabilities from "
                f"{middle - half:g} to {middle + half:g}; they must lie between 0 and 1: choose a smaller epsilon"
            )
    return None


def _by_model(name: str, maximum: float | None = 1.0, exclusive: bool = True) -> Parameter:
    """A list with a value of its own for each model, in the place of one for all."""
    return Parameter(
        "numbers",
        f"{name} of each model, if they differ.",
        None,
        0.0,
        maximum,
        exclusive_minimum=exclusive,
        per_model=True,
    )


_DENSITIES = _by_model("density")


def _each(*rules: Rule) -> Rule:
    """The first complaint of several rules."""
    return lambda parameters: next((problem for rule in rules if (problem := rule(parameters))), None)


_DARE = {
    "density": density(0.5, "Probability of keeping an entry (the paper's 1 - p)."),
    "densities": _DENSITIES,
    "scale": scale(),
    "weights": weights(_WEIGHTS),
    "seed": seed(),
    "rescale": _rescale("expectation", "l1", "none", mergekit="l1"),
}
_BREADCRUMBS = {
    "density": density(0.1, "Share of each tensor's entries that is kept; 1 keeps all."),
    "densities": _DENSITIES,
    "gamma": Parameter(
        "number", "Share of each tensor's largest entries that is not.", 0.01, 0.0, 1.0, exclusive_maximum=True
    ),
    "gammas": _by_model("gamma", exclusive=False),
    "scale": scale(),
    "weights": weights(_WEIGHTS),
    "rescale": _rescale("none", "l1"),
}
_BAND = (
    "paper: the shares give two thresholds for each tensor, entries that equal one stay. mergekit: exactly "
    "int(density N) entries stay, for which fewer of the largest are dropped if need be."
)
_DELLA = {
    "density": density(0.5, "Mean probability of keeping an entry (the paper's 1 - p); 1 keeps all."),
    "densities": _DENSITIES,
    "epsilon": Parameter("number", "Width of the probabilities, see convention.", 0.15, 0.0, exclusive_minimum=True),
    "epsilons": _by_model("epsilon", None),
    "scale": scale(),
    "weights": weights(_WEIGHTS),
    "seed": seed(),
    "rescale": _rescale("expectation", "l1", "none", mergekit="l1"),
}
_RANKS = (
    "paper: probabilities fall from density + epsilon / 2 for the largest entry of a row in steps of epsilon / row "
    "length. mergekit (and the authors' code): they run from density - epsilon to density + epsilon."
)


def _thinned(
    name: str, title: str, parameters: Mapping[str, Parameter], differs: str, paper: str, thins: str, rule: Rule,
    elected: bool | None = None,
) -> Method:  # fmt: skip
    """A method that thins task vectors and adds them up, or (``elected``: the default of normalize) lets TIES elect."""
    summed = elected is None
    own = {
        "convention": convention(differs if summed else differs + _ELECTION, "paper", "mergekit"),
        "normalize": normalize(False) if summed else Parameter("boolean", _DISJOINT, elected),
    }
    return Method(
        name,
        title,
        {**parameters, **own},
        paper,
        needs_base=True,
        description=f"{thins}, add up." if summed else f"{thins}, then TIES' election.",
        rule=_each(rule, zero_sum) if summed else rule,
    )


METHODS = (
    Method(
        "task_arithmetic",
        "Task arithmetic",
        {"scale": scale(), "weights": weights(_WEIGHTS), "normalize": normalize(False)},
        "arXiv 2212.04089",
        needs_base=True,
        description="base + scale sum_i w_i (m_i - base)",
        rule=zero_sum,
    ),
    Method(
        "magnitude_prune",
        "Magnitude pruning",
        {
            "density": density(0.2, "Share of each task vector that is kept."),
            "densities": _DENSITIES,
            "scale": scale(),
            "weights": weights(_WEIGHTS),
            "convention": convention(
                "What is kept: peft: int(density N) entries of each tensor; mergekit: at least one; "
                "paper: TIES' trim over the whole model.",
                *("peft", "mergekit", "paper"),
            ),
            "normalize": normalize(False),
            "rescale": _rescale("none", "l1"),
        },
        "arXiv 2306.01708 (its trim); peft",
        needs_base=True,
        description="Keep the largest entries of each task vector, add up.",
        rule=zero_sum,
    ),
    Method(
        "ties",
        "TIES",
        {
            "density": density(0.2, "Share of each task vector that the trim keeps."),
            "densities": _DENSITIES,
            "scale": scale(),
            "weights": weights(_WEIGHTS),
            "convention": convention(_TIES_CONVENTION, *CONVENTIONS),
            "normalize": Parameter("boolean", _DISJOINT, True),
            "rescale": _rescale("none", "l1"),
        },
        "arXiv 2306.01708",
        needs_base=True,
        description="Trim, elect a sign for each entry, mean of the entries that agree with it.",
    ),
    Method(
        "dare_linear",
        "DARE, linear",
        {
            **_DARE,
            "convention": convention("Decides the default of rescale alone.", *CONVENTIONS),
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
            **_DARE,
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
                f"{_DISJOINT} Default: true, but false for mergekit.",
                True,
                default_by_convention={"mergekit": False},
            ),
        },
        "arXiv 2311.03099 with arXiv 2306.01708",
        needs_base=True,
        description="DARE's drop and rescale, then TIES.",
    ),
    _thinned(
        "breadcrumbs", "Model Breadcrumbs", _BREADCRUMBS, _BAND, "arXiv 2312.06795",
        "Drop the largest and the smallest entries of each task vector", _band,
    ),
    _thinned(
        "breadcrumbs_ties", "Model Breadcrumbs, TIES", _BREADCRUMBS, _BAND, "arXiv 2312.06795 with arXiv 2306.01708",
        "Drop the largest and the smallest entries of each task vector", _band, elected=False,
    ),
    _thinned(
        "della_linear", "DELLA, linear", _DELLA, _RANKS, "arXiv 2406.11617",
        "Drop entries at random, the smaller ones of a row more often, rescale", _probabilities,
    ),
    _thinned(
        "della", "DELLA", _DELLA, _RANKS, "arXiv 2406.11617",
        "Drop entries at random, the smaller ones of a row more often, rescale", _probabilities, elected=True,
    ),
)  # fmt: skip
