"""The study of translation: specialists, merges, evaluation, analysis; and the workflow that names studies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from langmerge.config.analysis import Analysis
from langmerge.config.base import Count, DirectionGroup, Language, Name, Positive, Section
from langmerge.config.corpus import Corpus, EmbeddedCorpus
from langmerge.config.evaluation import Evaluation
from langmerge.config.merging import Merging, check_grids
from langmerge.config.recipes import Base, ExtraModel, PromptConfig, Training


class Hardware(Section):
    """What the plan assumes when it predicts time; it decides nothing else."""

    flops_per_second: Positive = Field(1e11, description="Useful model FLOPs per second of one training job.")
    startup_seconds: Positive = Field(6.0, description="Imports and start of one job.")
    workers: Count = Field(2, description="Jobs at once.")


class Study(Section):
    """A study: languages, one base, a specialist for each language and direction, and what is made of them."""

    kind: Literal["translation"] = Field("translation", description="What is studied.")
    title: str = Field(min_length=1, description="Heading of the report.")
    pivot: Language = Field("en", description="The language that all pairs share.")
    languages: list[Language] = Field(min_length=1, description="Languages that get specialists.")
    directions: list[DirectionGroup] = Field(
        ["from_pivot", "to_pivot"], min_length=1, description="Translate from the pivot, to it, or both."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [1], min_length=1, description="One replicate of all models per seed."
    )
    corpus: Corpus = Field(description="The sentence pairs.")
    prompt: PromptConfig = Field(
        default_factory=lambda: PromptConfig.model_validate({}), description="How a translation is asked for."
    )
    base: Base = Field(description="The common ancestor.")
    specialist: Training = Field(description="Training of each specialist.")
    joint: Training | None = Field(
        None, description="Training of the joint model of a direction group; none when empty."
    )
    models: dict[Name, ExtraModel] = Field(default_factory=dict, description="Further models by name.")
    merging: Merging = Field(default_factory=lambda: Merging.model_validate({}), description="The merges.")
    evaluation: Evaluation = Field(default_factory=lambda: Evaluation.model_validate({}), description="The scoring.")
    analysis: Analysis | None = Field(None, description="The measurements; none when empty.")
    hardware: Hardware = Field(default_factory=lambda: Hardware.model_validate({}), description="For predictions only.")

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        named: list[tuple[str, list[Any]]] = [
            ("languages", self.languages),
            ("directions", [*self.directions]),
            ("seeds", self.seeds),
            ("base.languages", self.base.languages),
        ]
        for key, values in named:
            repeated = [value for i, value in enumerate(values) if value in values[:i]]
            if repeated:
                raise ValueError(f"{key}: {repeated[0]} stands there twice; name each once")
        for key, languages in (("languages", self.languages), ("base.languages", self.base.languages)):
            if self.pivot in languages:
                raise ValueError(f"{key}: {self.pivot} is the pivot; leave it out")
        if len(self.languages) < 2 and (self.merging.all or self.merging.pairs or self.merging.drift):
            raise ValueError("languages: a merge needs at least two; add a language or remove `merging`")
        check_grids("merging.all", self.merging.all, len(self.languages))
        for method in self.analysis.merges if self.analysis else []:
            if method not in self.merging.all:
                raise ValueError(
                    f"analysis.merges: {method} is not among merging.all; expected one of {sorted(self.merging.all)}"
                )
        if self.merging.drift and (late := [s for s in self.merging.drift.steps if s > self.specialist.steps]):
            raise ValueError(
                f"merging.drift.steps: {late[0]} lies after the last step of the specialists ({self.specialist.steps})"
            )
        for method in self.merging.layer_patch.onto if self.merging.layer_patch else []:
            if method not in self.merging.all:
                known = sorted(self.merging.all)
                raise ValueError(
                    f"merging.layer_patch.onto: {method} is not among merging.all; expected one of {known}"
                )
        for code in self.merging.layer_patch.languages if self.merging.layer_patch else []:
            if code not in self.languages:
                raise ValueError(
                    f"merging.layer_patch.languages: {code} has no specialist; expected some of {self.languages}"
                )
        splits = (
            ["dev", "test"]
            if isinstance(self.corpus, EmbeddedCorpus)
            else [s for s in self.corpus.splits if s != "train"]
        )
        wanted = [("evaluation.splits", split) for split in self.evaluation.splits]
        wanted += [("analysis.split", self.analysis.split)] if self.analysis else []
        for key, split in wanted:
            if split not in splits:
                raise ValueError(f"{key}: no split {split}; the corpus has {', '.join(splits)}")
        return self


class Workflow(Section):
    """`config/config.yaml`: which studies at which scale."""

    studies: list[Name] = Field(min_length=1, description="Files in `config/studies/`, without `.yaml`.")
    scale: Name = Field("cpu", description="File in `config/scales/`, without `.yaml`.")
    data_root: str | None = Field(
        None, description="Folder of your own data, where a scale or study says `{data_root}`."
    )
    keep_merges: bool = Field(
        True, description="Keep the tuned merges' weights; `false` removes them once they are measured."
    )

    @field_validator("studies", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
