"""Which merges are made, with which parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from langmerge import catalogue
from langmerge.config.base import Count, Language, Section

Grid = dict[str, Any]


LayerSet = Annotated[
    str,
    Field(
        pattern=r"^(((attention|mlp|norms)\.)?(single|prefix|suffix|window|random)"
        r"|attention|mlp|norms|embeddings|head|outside)$"
    ),
]


class LayerPatch(Section):
    """Put layers of the target's specialist back into a merge: the last against random lower ones, and whole sweeps."""

    onto: list[str] = Field(min_length=1, description="Merge methods whose tuned merge is patched.")
    layers: Count = Field(description="How many last layers.")
    controls: Annotated[int, Field(ge=0)] = Field(3, description="How many random draws of lower layers.")
    seed: int = Field(42, description="Seed of the draws.")
    sets: list[LayerSet] = Field(
        default_factory=list,
        description="Sweep over every layer set of these kinds: `single`, `prefix` (first k), `suffix` (last k), "
        "`window`, `random` (the control); `attention`, `mlp`, `norms` of all layers or, as `mlp.single`, of those; "
        "`embeddings`, `head`, `outside` (all that is in no layer). No sweep when empty.",
    )
    window: Count = Field(2, description="Layers of a window.")
    draws: Count = Field(3, description="Random sets of each number of layers.")
    sentences: Count | None = Field(
        None, description="Test sentences of the sweep per direction; as `evaluation.test` when empty."
    )
    languages: list[Language] = Field(
        default_factory=list, description="Languages whose specialists the sweep puts back; all when empty."
    )


class Drift(Section):
    """Fine-tuning strength against retention: merges of the specialists' snapshots at several steps."""

    steps: list[Count] = Field(min_length=1, description="Steps of the specialists at which a snapshot is merged.")
    method: str = Field("linear", description="Merge method, without tuning.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The method's parameters.")


class Calibration(Section):
    """What is measured of each specialist on data of its own, for methods that weigh models by data."""

    sentences: Count = Field(128, description="Sentence pairs of its direction, or texts of its language.")
    split: Literal["train", "dev"] = Field("train", description="Where they come from; never a test set.")
    labels: Literal["target", "model"] = Field(
        "target",
        description="Tokens whose Fisher information is measured: the references' or ones that the model draws.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Seed of the sample of sentences and of drawn tokens.")


class Merging(Section):
    """Which merges are made of the specialists of each direction group. A list of values is a grid, tuned on dev."""

    all: dict[str, Grid] = Field(
        default_factory=dict, description="Method to parameters, over all specialists of a group."
    )
    pairs: dict[str, Grid] = Field(default_factory=dict, description="Method to parameters, over every pair.")
    layer_patch: LayerPatch | None = Field(None, description="The layer patch.")
    drift: Drift | None = Field(None, description="The drift curve.")
    select_by: Literal["bleu", "chrf"] = Field("bleu", description="Metric whose mean over directions selects on dev.")
    calibration: Calibration = Field(
        default_factory=lambda: Calibration.model_validate({}), description="The data of methods that need some."
    )

    @model_validator(mode="after")
    def _methods(self) -> Merging:
        check_grids("pairs", self.pairs, 2)
        return self


def candidates(method: str, grid: Grid) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's lists: the values in the order written, whatever the order of the keys.

    A parameter that is itself a list (`weights`) makes a grid only as a list of lists.
    """

    def choices(name: str, value: Any) -> list[Any]:
        parameters = catalogue.METHODS[method].parameters if method in catalogue.METHODS else {}
        is_list = name in parameters and parameters[name].type in ("numbers", "integers")
        if is_list and isinstance(value, list) and not any(isinstance(inner, list) for inner in value):
            return [value]
        return value if isinstance(value, list) else [value]

    for combination in itertools.product(*(choices(name, value) for name, value in sorted(grid.items()))):
        yield dict(zip(sorted(grid), combination, strict=True))


def check_grids(place: str, grids: dict[str, Grid], n_models: int) -> None:
    """ValueError naming method and parameter if a grid asks for what the catalogue does not have."""
    for method, grid in grids.items():
        for candidate in candidates(method, grid):
            try:
                catalogue.check(method, candidate, n_models)
            except ValueError as error:
                raise ValueError(f"{place}.{method}: {error}") from None
