"""The study of pre-training: monolingual, mixed and merged models, and when they branch off."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from langmerge.config.base import Section
from langmerge.config.language_study import LanguageStudy
from langmerge.config.merging import Grid
from langmerge.config.recipes import Training


class Branches(Section):
    """Mixed pre-training for a share of the steps, then one monolingual branch a language, then a merge."""

    shares: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.05, 0.1, 0.25, 0.5, 0.9],
        min_length=1,
        description="Shares of `run.steps` that are mixed; 0 is the monolingual models themselves.",
    )
    merges: dict[str, Grid] = Field(
        default_factory=lambda: dict[str, Grid](linear={}),
        description="Method to parameters, over the branches of each share.",
    )


class Pretraining(LanguageStudy):
    """Monolingual, mixed and merged models from scratch (arXiv 2605.25846; the set-up is ours)."""

    kind: Literal["pretraining"]
    run: Training = Field(description="Pre-training of one monolingual model.")
    mixed: list[Literal["total", "each"]] = Field(
        ["total", "each"],
        description="Mixed models: as many tokens in `total` as one monolingual model, or as many of `each` language.",
    )
    initialisations: list[Literal["shared", "different"]] = Field(
        ["shared", "different"],
        min_length=1,
        description="Monolingual models from the same random weights, or each from its own.",
    )
    branches: Branches | None = Field(
        default_factory=lambda: Branches.model_validate({}), description="The branch points; none when empty."
    )

    @model_validator(mode="after")
    def _enough(self) -> Pretraining:
        if self.origin.init is None:
            raise ValueError("origin: pre-training starts from random weights; give `init`")
        if self.branches and "shared" not in self.initialisations:
            raise ValueError("branches: they start from shared weights; add `shared` to `initialisations`")
        if self.branches and (short := [p for p in self.branches.shares if p and not p * self.run.steps >= 1]):
            raise ValueError(f"branches.shares: {short[0]} of {self.run.steps} steps is less than one step")
        return self
