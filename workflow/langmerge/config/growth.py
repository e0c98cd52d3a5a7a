"""The study of growth: upscale a base, continue its pre-training per language, merge."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from langmerge.config.base import Count, Language, Positive, Share
from langmerge.config.corpus import Corpus
from langmerge.config.growth_recipe import Growing
from langmerge.config.language_study import LanguageStudy
from langmerge.config.merging import Calibration, check_grids
from langmerge.config.recipes import Training

Setup = Literal["1x", "1x-cloned", "2x"]


class Growth(LanguageStudy):
    """Grow up and merge (arXiv 2512.10772): setups of one base, continued per language, merged in all subsets."""

    MEASURED: ClassVar[tuple[str, ...]] = ("fisher", "gram")

    kind: Literal["growth"]
    setups: list[Setup] = Field(
        ["1x", "1x-cloned", "2x"],
        min_length=1,
        description="`1x`: the small base; `1x-cloned`: grown after its pre-training; `2x`: grown before its end.",
    )
    pivot_corpus: Corpus | None = Field(
        None, description="The pivot's text, as that of a language; the pivot's side of the corpora when empty."
    )
    base: Training = Field(description="Pre-training of the small base on the pivot's text, until it may be grown.")
    finish: Training = Field(description="The rest of the pivot's pre-training, small or grown.")
    grow: Growing = Field(default_factory=lambda: Growing.model_validate({}), description="How the base is grown.")
    control: Language | None = Field(
        None,
        description="The language whose specialist of `1x-cloned` is trained once more, for the first seed, from a "
        "clone with noise where `grow` has none and without where it has: do copies part? None when empty.",
    )
    specialist: Training = Field(description="Continued pre-training of one language.")
    steps: dict[Language, Count] = Field(
        default_factory=dict, description="Steps of languages that have less (or more) text than `specialist.steps`."
    )
    replay: Share = Field(
        0.05, description="Share of the pivot's text (`base.portion` of it) in continued pre-training."
    )
    snapshots: list[Count] = Field(
        default_factory=list,
        description="Steps of the specialists that are scored besides the last: the curves. A language with fewer "
        "steps has those before its last.",
    )
    matched: bool = Field(
        False,
        description="Whether the small model is also trained for as many FLOPs as a grown specialist takes: compared "
        "at the end of both schedules.",
    )
    subsets: list[Count] = Field(
        default_factory=list, description="Sizes of the subsets of languages that are merged; all from 2 when empty."
    )
    joint_steps: Positive = Field(1.0, description="Steps of joint training / steps of all specialists together.")
    calibration: Calibration = Field(
        default_factory=lambda: Calibration.model_validate({}),
        description="The text of a specialist's language that methods such as `fisher` measure it on.",
    )

    @model_validator(mode="after")
    def _sizes(self) -> Growth:
        if self.pivot in self.languages:
            raise ValueError(f"languages: {self.pivot} is what the base is trained on; leave it out")
        if unknown := [code for code in self.steps if code not in self.languages]:
            raise ValueError(f"steps: {unknown[0]} is not among languages; expected some of {self.languages}")
        if late := [step for step in self.snapshots if step >= self.specialist.steps]:
            raise ValueError(f"snapshots: {late[0]} is not before the last step of {self.specialist.steps}")
        if wrong := [size for size in self.subsets if not 2 <= size <= len(self.languages)]:
            raise ValueError(f"subsets: expected sizes from 2 to {len(self.languages)}, found {wrong[0]}")
        for size in self.sizes():
            check_grids(f"merging.all, merges of {size}", self.merging.all, size)
        if self.matched and (self.origin.init is None or "1x" not in self.setups or len(self.setups) < 2):
            raise ValueError("matched: compares `1x` with a grown setup, of an origin whose size is known (`init`)")
        if self.control is not None and (
            self.control not in self.languages or "1x-cloned" not in self.setups or self.grow.noisy is None
        ):
            raise ValueError("control: expected one of `languages`, setup `1x-cloned`, and `grow` by hyperclone")
        if self.merging.pairs:
            raise ValueError("merging.pairs: pairs are among the subsets; put the methods under merging.all")
        return self

    def steps_of(self, language: str) -> int:
        """Steps of a language's specialist."""
        return self.steps.get(language, self.specialist.steps)

    def sizes(self) -> list[int]:
        """Sizes of the subsets of languages that are merged, ascending."""
        return sorted(set(self.subsets)) or list(range(2, len(self.languages) + 1))
