"""Methods that put whole layers of different models together."""

from collections.abc import Mapping
from typing import Any

from langmerge.catalogue.parameters import Method, Parameter, seed


def _one_choice_of_layers(parameters: Mapping[str, Any]) -> str | None:
    given = [key for key in ("layers", "last", "random") if parameters[key] is not None]
    if len(given) != 1:
        return f"give exactly one of layers, last, random (given: {', '.join(given) or 'none'})"
    if parameters["layers"] is not None and not parameters["layers"]:
        return "layers is empty; name at least one layer index"
    if parameters["exclude_last"] and parameters["random"] is None:
        return "exclude_last only means something together with random"
    return None


def _zones_or_lists(parameters: Mapping[str, Any]) -> str | None:
    zones = [key for key in ("bottom", "top", "bottom_transition", "top_transition") if parameters[key] is not None]
    if parameters["layers"] is not None and zones:
        return f"layers lists the language expert's layers, {zones[0]} counts them; give one of the two"
    if parameters["transition_layers"] is not None and parameters["layers"] is None:
        return "transition_layers goes with layers; with bottom and top give bottom_transition and top_transition"
    return None


_OUTSIDE = ("language", "task", "mean")


def _zone(text: str, default: str) -> Parameter:
    return Parameter("integer", f"{text} Default: {default}.", minimum=0)


METHODS = (
    Method(
        "layer_patch",
        "Layer patch",
        {
            "layers": Parameter("integers", "Indices of the layers; negative ones count from the end."),
            "last": Parameter("integer", "Patch the last so many layers.", minimum=1),
            "random": Parameter("integer", "Patch so many randomly drawn layers.", minimum=1),
            "exclude_last": Parameter("integer", "Not to be drawn by random: the last so many.", 0, 0),
            "seed": seed(),
        },
        "arXiv 2604.02881",
        needs_base=False,
        description="The first model with whole transformer layers of the second; no embedding, no head.",
        models=(2, 2),
        rule=_one_choice_of_layers,
    ),
    Method(
        "layer_swap",
        "Layer swapping",
        {
            "bottom": _zone("The first so many layers are the language expert's.", "5 of 32, in proportion"),
            "top": _zone("The last so many layers are the language expert's.", "2 of 32, in proportion"),
            "bottom_transition": _zone("Averaged layers above the bottom.", "1, or as many as there is room for"),
            "top_transition": _zone("Averaged layers below the top.", "1, or as many as there is room for"),
            "layers": Parameter("integers", "In place of bottom and top: indices of the language expert's layers."),
            "transition_layers": Parameter("integers", "With layers: indices of the averaged layers."),
            "weight": Parameter("number", "Weight of the language expert where the two are averaged.", 0.5, 0.0, 1.0),
            "embeddings": Parameter(
                "string", "Where the input embeddings come from; mean uses weight.", "language", choices=_OUTSIDE
            ),
            "head": Parameter(
                "string",
                "Where the final norm, the output embeddings and all else outside the layers come from.",
                "language",
                choices=_OUTSIDE,
            ),
        },
        "arXiv 2410.01335",
        needs_base=False,
        description="First and last layers of the first model (language expert), those between of the second (task "
        "expert), averaged layers at the borders.",
        models=(2, 2),
        rule=_zones_or_lists,
    ),
    Method(
        "passthrough",
        "Passthrough",
        {"scale": Parameter("number", "Factor of all weights.", 1.0)},
        "mergekit",
        needs_base=False,
        description="A copy of one model, times scale.",
        models=(1, 1),
    ),
)
