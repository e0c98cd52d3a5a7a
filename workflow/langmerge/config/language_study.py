"""What the studies of languages share (pretraining, maintenance, growth, distance): data, origin, merges, scores."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from langmerge import catalogue
from langmerge.config.base import Language, Name, Section
from langmerge.config.corpus import Corpus, EmbeddedCorpus
from langmerge.config.evaluation import TaskEvaluation
from langmerge.config.merging import Grid, check_grids
from langmerge.config.recipes import Import, Initialisation
from langmerge.config.study import Hardware
from langmerge.config.tasks import Tasks

TaskName = Literal[
    "text", "minimal_pairs", "sentiment", "summarization", "causal_choice", "commonsense", "arithmetic",
    "question_answering",
]  # fmt: skip


class Origin(Section):
    """What all models of a study descend from: random weights, or an existing model."""

    init: Initialisation | None = Field(None, description="Start from random weights.")
    import_: Import | None = Field(None, alias="import", description="Start from an existing model.")
    languages: list[Language] = Field(
        default_factory=list,
        description="Languages of the tokenizer's training text; the study's when empty. Name them, so that a further "
        "language leaves the tokenizer, and with it every model, as it is.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Origin:
        if (self.init is None) == (self.import_ is None):
            raise ValueError("give either `init` or `import`")
        return self


class Merges(Section):
    """Which merges are made. A list of values is a grid, tuned on dev."""

    all: dict[str, Grid] = Field(default_factory=dict, description="Method to parameters, over all specialists.")
    pairs: dict[str, Grid] = Field(default_factory=dict, description="Method to parameters, over every pair.")

    @model_validator(mode="after")
    def _methods(self) -> Merges:
        check_grids("pairs", self.pairs, 2)
        return self


class Diagnosis(Section):
    """What is measured of two models before they are merged."""

    sentences: Annotated[int, Field(ge=8)] = Field(64, description="Parallel sentences.")
    split: Name = Field("dev", description="Split that they come from.")
    points: Annotated[int, Field(ge=3)] = Field(7, description="Points of the line between two models, ends included.")
    blocks: Annotated[int, Field(ge=2)] = Field(8, description="Blocks of the jackknife.")


class LanguageStudy(Section):
    """A study whose specialists each belong to one language."""

    MEASURED: ClassVar[tuple[str, ...]] = ()  # kinds of data that the study gives to methods which ask for some

    title: str = Field(min_length=1, description="Heading of the report.")
    pivot: Language = Field("en", description="The language that every corpus is parallel to.")
    languages: list[Language] = Field(min_length=2, description="Languages that get specialists.")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([1], min_length=1, description="One replicate per seed.")
    corpus: Corpus = Field(description="The text.")
    tasks: Tasks | None = Field(None, description="Tasks with answers; none when empty.")
    origin: Origin = Field(description="What all models descend from.")
    merging: Merges = Field(default_factory=lambda: Merges.model_validate({}), description="The merges.")
    evaluation: TaskEvaluation = Field(
        default_factory=lambda: TaskEvaluation.model_validate({}), description="The scoring."
    )
    diagnosis: Diagnosis | None = Field(
        default_factory=lambda: Diagnosis.model_validate({}),
        description="What is measured of every pair of specialists; none when empty.",
    )
    hardware: Hardware = Field(default_factory=lambda: Hardware.model_validate({}), description="For predictions only.")

    @model_validator(mode="after")
    def _consistent(self) -> LanguageStudy:
        named: list[tuple[str, list[Any]]] = [
            ("languages", self.languages),
            ("seeds", self.seeds),
            ("origin.languages", self.origin.languages),
        ]
        for key, values in named:
            repeated = [value for i, value in enumerate(values) if value in values[:i]]
            if repeated:
                raise ValueError(f"{key}: {repeated[0]} stands there twice; name each once")
        check_grids("merging.all", self.merging.all, len(self.languages))
        for place, grids in (("all", self.merging.all), ("pairs", self.merging.pairs)):
            for method in grids:
                data = catalogue.METHODS[method].data
                if catalogue.METHODS[method].search or (data and data not in self.MEASURED):
                    raise ValueError(f"merging.{place}.{method}: needs data that this kind of study does not measure")
        if isinstance(self.corpus, EmbeddedCorpus) and self.diagnosis and self.diagnosis.split not in ("dev", "test"):
            raise ValueError(f"diagnosis.split: no split {self.diagnosis.split}; the corpus has dev, test")
        return self

    def corpora(self) -> list[str]:
        """Languages whose text is read, each once: the study's and the tokenizer's."""
        return list(dict.fromkeys([*self.languages, *self.origin.languages]))

    def offers(self, task: str, language: str, split: str = "test") -> bool:
        """Whether a language has items of a task in a split; every language has text."""
        if task == "text" or self.tasks is None:
            return task == "text"
        return any(name == task and split in splits for name, splits in self.tasks.splits(language).items())
