"""The ways to grow a decoder: their names, parameters, bounds and sources, and the configuration that each makes.

Plain data without torch, so that a study file is validated, and the size of a grown model predicted, before anything
heavy is imported. The arithmetic stands in :mod:`langmerge.growing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langmerge import catalogue
from langmerge.catalogue import Method, Parameter


@dataclass(frozen=True)
class Growth(Method):
    """One way to grow a model; ``preserves``: the grown model computes the source's function, up to rounding."""

    preserves: bool = False


def _depth(kind: str, description: str, default: float, most: float) -> Parameter:
    least = 2.0 if kind == "integer" else 1.0
    return Parameter(
        "integer" if kind == "integer" else "number",
        f"Layers of the grown model / layers of the source. {description}",
        default,
        least,
        most,
        exclusive_minimum=least == 1.0,
    )


METHODS: dict[str, Growth] = {
    method.name: method
    for method in (
        Growth(
            "hyperclone",
            "HyperCloning",
            {
                "width": Parameter(
                    "integer", "Factor of the hidden size, the feed-forward size and the number of heads.", 2, 2, 8
                ),
                "heads": Parameter(
                    "string",
                    "`all`: query and key/value heads are multiplied; `queries`: key/value heads are kept, and with "
                    "them the size of the cache.",
                    "all",
                    choices=("all", "queries"),
                ),
                "form": Parameter(
                    "string",
                    "Blocks of a grown matrix: W / width in all of them (`symmetric`) or W on the diagonal.",
                    "symmetric",
                    choices=("symmetric", "diagonal"),
                ),
                "noise": Parameter(
                    "boolean",
                    "Add noise that cancels over the copies. Without it all copies get equal gradients and never "
                    "differ: the model is wider, its capacity is not.",
                    True,
                ),
                "snr_db": Parameter("number", "Signal-to-noise ratio of every noisy matrix in decibels.", 10.0, 0, 60),
                "seed": Parameter("integer", "Seed of the noise.", 1, minimum=0),
            },
            "Samragh et al. 2024, arXiv 2409.12903",
            False,
            "Every hidden state of the grown model is the source's, repeated.",
            models=(1, 1),
            preserves=True,
        ),
        Growth(
            "stack",
            "Depthwise stacking (G_stack)",
            {"depth": _depth("integer", "The paper recommends 4.", 2, 8)},
            "Du et al. 2024, arXiv 2405.15319",
            False,
            "The whole stack of layers several times, one on the other.",
            models=(1, 1),
        ),
        Growth(
            "dus",
            "Depth up-scaling",
            {"depth": _depth("number", "The paper's 48 layers of 32 are 1.5.", 1.5, 2.0)},
            "Kim et al. 2023, arXiv 2312.15166",
            False,
            "The first layers and then the last layers, where the layers in the middle are among both.",
            models=(1, 1),
        ),
        Growth(
            "identity",
            "Identity blocks (LLaMA Pro)",
            {"depth": _depth("number", "The paper's 40 layers of 32 are 1.25.", 2.0, 2.0)},
            "Wu et al. 2024, arXiv 2401.02415",
            False,
            "Evenly spread copies of layers that at first add nothing to the residual stream.",
            models=(1, 1),
            preserves=True,
        ),
    )
}


def check(method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Complete parameters of a way to grow, every default filled in.

    Raises ValueError for an unknown method or parameter, a wrong type, or a violated bound, with what was expected.
    """
    if method not in METHODS:
        raise ValueError(f"unknown way to grow {method!r}; expected one of {', '.join(METHODS)}")
    return catalogue.check(method, parameters, 1, METHODS)


def grown_layers(layers: int, depth: float, even: bool = False) -> int:
    """Number of layers after growing ``layers`` by the factor ``depth``.

    ValueError if that is no whole number above ``layers``, or not even where it must be, with a factor that does.
    """
    wanted = layers * depth
    step = 2 - layers % 2 if even else 1
    kind = "an even" if even else "a whole"
    if abs(wanted - round(wanted)) > 0.01 or round(wanted) <= layers or (even and round(wanted) % 2):
        raise ValueError(
            f"depth {depth:g} of {layers} layers makes {wanted:g}; expected a factor that makes {kind} number "
            f"above {layers}, such as {1 + step / layers:.4g}"
        )
    return round(wanted)


def grown_config(config: Mapping[str, Any], method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of the grown model: ``config`` (fields of a Llama-type configuration) with what changes.

    ``parameters`` are complete, as :func:`check` returns them. Width multiplies ``hidden_size``,
    ``intermediate_size``, ``num_attention_heads`` and (``heads: all``) ``num_key_value_heads``; ``head_dim``, and with
    it the rotary embedding, stays. Depth multiplies ``num_hidden_layers``.
    Raises ValueError as :func:`grown_layers` does.
    """
    grown = dict(config)
    if "depth" in parameters:
        grown["num_hidden_layers"] = grown_layers(config["num_hidden_layers"], parameters["depth"], method == "dus")
    if method == "hyperclone":
        width, heads = parameters["width"], config["num_attention_heads"]
        groups = config.get("num_key_value_heads") or heads
        grown["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads
        for key in ("hidden_size", "intermediate_size", "num_attention_heads"):
            grown[key] = width * config[key]
        grown["num_key_value_heads"] = groups * (width if parameters["heads"] == "all" else 1)
    return grown
