"""What is measured of models and merges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from langmerge.config.base import Count, Name, Section, Share


class Landscape(Section):
    """The loss between and around base and specialists, in bits per byte of the target."""

    sentences: Annotated[int, Field(ge=8)] = Field(32, description="Sentence pairs per language, for losses.")
    pairs: Literal["all", "none"] = Field(
        "all", description="Lines between base and specialists, and between every two specialists; or none."
    )
    points: Annotated[int, Field(ge=3)] = Field(11, description="Points of a line, both ends included.")
    languages: Literal["own", "all"] = Field(
        "own", description="Losses on lines and plane: of the languages of the specialists there, or of all."
    )
    plane: list[Name] = Field(
        default_factory=list,
        description="Three of `base` and the languages, whose models the plane goes through; when empty the base and "
        "the two specialists that are farthest apart.",
    )
    grid: Annotated[int, Field(ge=0)] = Field(7, description="Points of a side of the plane's grid; 0: no plane.")
    gradients: Annotated[int, Field(ge=0)] = Field(
        128, description="Sentence pairs per language, for gradients at the base; 0: none."
    )
    blocks: Annotated[int, Field(ge=4)] = Field(16, description="Blocks of the gradients' jackknife.")
    fisher: Annotated[int, Field(ge=0)] = Field(
        32, description="Sentence pairs per language, for Fisher information; 0: none."
    )

    @model_validator(mode="after")
    def _enough(self) -> Landscape:
        if self.plane and len(set(self.plane)) != 3:
            raise ValueError(f"plane: expected three different names, or none, found {self.plane}")
        for key, least in (("grid", 2), ("gradients", 4), ("fisher", 2)):
            if 0 < getattr(self, key) < least:
                raise ValueError(f"{key}: expected 0 (none) or {least} and more, found {getattr(self, key)}")
        return self


class Ablation(Section):
    """What the language units of a model do, found by switching them off; in bits per byte of the target."""

    models: list[Name] = Field(
        ["base"],
        min_length=1,
        description="Models whose units are switched off: `base`, languages (their specialists), `joint`, or some of "
        "`analysis.merges`.",
    )
    sentences: Annotated[int, Field(ge=8)] = Field(32, description="Sentence pairs per language, for losses.")
    draws: Annotated[int, Field(ge=2)] = Field(8, description="Sets of random units for each language.")


RankingName = Literal[
    "mutual_information", "selectivity_index", "exclusivity", "average_precision", "lape", "mount_doom"
]
PRECISION: RankingName = "average_precision"


class Damage(Section):
    """Which measures of two languages foretell what is left after merging their specialists, as in `merging.pairs`."""

    outcome: Literal["retention", "worst_retention", "ratio", "loss"] = Field(
        "retention",
        description="What is foretold: the mean or the worst retention of both, merge / specialist, points.",
    )
    permutations: Annotated[int, Field(ge=24)] = Field(
        10000, description="Permutations at most; all of them where there are no more."
    )
    samples: Count = Field(1000, description="Bootstrap samples.")


class Analysis(Section):
    """Which models are measured, and how."""

    sentences: Annotated[int, Field(ge=8)] = Field(256, description="Parallel sentences per language.")
    split: Name = Field("dev", description="Split that is measured.")
    merges: list[str] = Field(
        default_factory=list, description="Tuned merges that are measured beside base and specialists."
    )
    neurons: RankingName = Field(
        "mutual_information",
        description="Headline ranking of units; `lape` and `mount_doom` are the settings of those papers.",
    )
    rankings: list[RankingName] = Field(
        ["mutual_information", "selectivity_index", "exclusivity", "lape", "mount_doom"],
        description="Rankings of units at every site. `average_precision` needs `histograms`.",
    )
    histograms: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Bins of the histograms of sentences' mean activations, for ranking `average_precision`; 64 are "
        "enough, 0: none. They make an observation slower by a tenth of a forward pass of a small model. Models are "
        "observed again when it changes. Histograms are not kept by block, so that ranking has no intervals.",
    )
    top: Share = Field(0.01, description="Share of units called selective (the presets bring their own).")
    align: Literal["read", "predict"] = Field(
        "read", description="Positions that hold the span's tokens, or that predict them."
    )
    sites: list[Literal["mlp_gate", "mlp_product", "attention", "residual", "embedding"]] = Field(
        ["mlp_gate", "mlp_product", "attention", "residual", "embedding"],
        description="Where units are watched; `mlp_gate` always.",
    )
    pools: list[Literal["mean", "last"]] = Field(
        ["mean", "last"], description="States that are kept of a span: their `mean` (always) and the `last` token's."
    )
    blocks: Annotated[int, Field(ge=2)] = Field(20, description="Blocks of the jackknife.")
    permutations: Annotated[int, Field(ge=0)] = Field(20, description="Shuffles of CKA's null.")
    seed: int = Field(1, description="Seed of the shuffles.")
    landscape: Landscape | None = Field(
        default_factory=lambda: Landscape.model_validate({}), description="The loss landscape; none when empty."
    )
    ablation: Ablation | None = Field(
        default_factory=lambda: Ablation.model_validate({}), description="Units switched off; none when empty."
    )
    damage: Damage | None = Field(
        default_factory=lambda: Damage.model_validate({}),
        description="What foretells merge damage, where pairs are merged; none when empty.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Analysis:
        needed: list[tuple[str, Sequence[str], str]] = [
            ("sites", self.sites, "mlp_gate"),
            ("pools", self.pools, "mean"),
        ]
        for key, values, one in needed:
            if one not in values or len(set(values)) != len(values):
                raise ValueError(f"{key}: expected {one} and perhaps others, each once; found {list(values)}")
        if self.histograms == 1:
            raise ValueError("histograms: expected 0 (none) or 2 bins and more, found 1")
        if PRECISION in (self.neurons, *self.rankings) and not self.histograms:
            key = "neurons" if self.neurons == PRECISION else "rankings"
            raise ValueError(f"{key}: {PRECISION} ranks histograms of sentences; set `histograms` too, to 64 bins")
        return self
