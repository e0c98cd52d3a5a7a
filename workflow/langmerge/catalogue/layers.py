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
)
