"""Where tasks with answers come from: the grammar of the embedded corpus, or files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from langmerge.config.base import Count, Language, Name, Portion, Section, Share, fill
from langmerge.config.corpus import HubDataset

Split = Literal["train", "dev", "test"]
TaskKind = Literal[
    "minimal_pairs", "sentiment", "summarization", "causal_choice", "commonsense", "arithmetic", "question_answering"
]
Format = Literal[
    "items", "blimp", "sling", "turblimp", "clams", "multiblimp", "mgsm", "xcopa", "xquad", "commonsense_qa",
    "afrisenti", "xed", "labelled", "klexikon", "scitldr", "ntrex_headline", "summaries",
]  # fmt: skip
Amount = Annotated[int, Field(ge=0)]
SPLITS: tuple[Split, ...] = get_args(Split)
TASKS: tuple[TaskKind, ...] = get_args(TaskKind)


class TaskSizes(Section):
    """How many items of a task each split holds."""

    train: Amount = Field(0, description="Items for training; no file when 0.")
    dev: Amount = Field(description="Items for tuning; no file when 0.")
    test: Amount = Field(description="Items for reporting; no file when 0.")

    def splits(self) -> dict[str, int]:
        """The sizes of the splits that are not empty."""
        return {name: size for name in SPLITS if (size := getattr(self, name))}


class PairSizes(Section):
    """How many minimal pairs each phenomenon has at most, in twos; sentences come from the corpus's dev and test."""

    dev: Amount = Field(description="Pairs per phenomenon for tuning, 2 or more; no file when 0.")
    test: Amount = Field(description="Pairs per phenomenon for reporting, 2 or more; no file when 0.")

    @field_validator("dev", "test")
    @classmethod
    def _in_twos(cls, size: int) -> int:
        if size == 1:
            raise ValueError("minimal pairs come in twos; expected 0, or 2 or more")
        return size

    def splits(self) -> dict[str, int]:
        """The sizes of the splits that are not empty."""
        return {name: size for name in ("dev", "test") if (size := getattr(self, name))}


class EmbeddedTasks(Section):
    """Tasks generated from the grammar in `data/grammar`, multi-parallel: the same id is the same content."""

    kind: Literal["embedded"]
    minimal_pairs: PairSizes | None = Field(
        None, description="Grammatical and ungrammatical sentences; none when empty."
    )
    sentiment: TaskSizes | None = Field(None, description="Reviews with a verdict; none when empty.")
    classes: Literal[2, 3] = Field(2, description="Verdicts of a review: good and bad, or also mixed.")
    negation: Share = Field(0.4, description="Share of evaluations in reviews that are negated.")
    contrast: Share = Field(0.45, description="Share of evaluations that come after `but` and one of the other sign.")
    summarization: TaskSizes | None = Field(None, description="Short texts with a summary; none when empty.")
    causal_choice: TaskSizes | None = Field(None, description="Which effect follows, of two; none when empty.")
    arithmetic: TaskSizes | None = Field(None, description="Word problems with a number as answer; none when empty.")
    seed: int = Field(1, description="Seed of the items: the same seed gives the same bytes.")
    by_language: dict[Language, dict[TaskKind, dict[Split, Amount]]] = Field(
        default_factory=dict,
        description="Sizes that are different for a language, such as `es: {sentiment: {train: 2000}}`: how the data "
        "of one language grow. Its first items stay those that they are.",
    )

    def of(self, language: str) -> EmbeddedTasks:
        """The tasks of one language: with its own sizes, and nobody else's."""
        values = self.model_dump(exclude={"by_language"})
        for task, sizes in self.by_language.get(language, {}).items():
            values[task] = {**(values.get(task) or {}), **sizes}
        return EmbeddedTasks.model_validate(values)

    def splits(self, language: str | None = None) -> dict[str, dict[str, int]]:
        """Per task that is asked for (by a language): the sizes of its splits, none of them empty."""
        if language is not None:
            return self.of(language).splits()
        asked = {task: getattr(self, task, None) for task in TASKS}
        return {task: sizes.splits() for task, sizes in asked.items() if sizes is not None and sizes.splits()}

    @model_validator(mode="after")
    def _something(self) -> EmbeddedTasks:
        if not self.splits():
            raise ValueError(f"asks for no item; expected sizes under some of {', '.join(TASKS)}")
        for language in self.by_language:
            self.of(language)
        return self


def _held_out() -> dict[Split, str]:
    return {"dev": "dev", "test": "test"}


class TaskSource(Section):
    """Where one task's items come from: a file, or a Hub dataset, per language and split."""

    path: str | None = Field(
        None,
        min_length=1,
        description="File (`.jsonl`, `.tsv`, also `.gz`); `{language}`, `{code}`, `{split}` and `{data_root}` are "
        "filled in.",
    )
    hub: HubDataset | None = Field(
        None, description="A Hub dataset instead of a file; the same but `{data_root}` are filled in, `splits` too."
    )
    codes: dict[Language, str] = Field(
        default_factory=dict,
        description="How this source writes language codes (`sv: swe`); fills `{code}` for the language.",
    )
    format: Format = Field(
        "items",
        description="`items`: the workflow's own rows; minimal pairs: `blimp`, `sling`, `turblimp`, `clams` (columns "
        "sentence_good, sentence_bad), `multiblimp`; sentiment: `labelled` (text, label), `afrisenti`, `xed`; "
        "summaries: `summaries` (text, summary), `klexikon`, `scitldr`, `ntrex_headline`; `xcopa`; `commonsense_qa`; "
        "`mgsm`; `xquad`.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column names of the file, where they are not those of the format."
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="Column to value: only rows that have it are read, for sets that hold all languages in one table "
        '(`language: "{language}"`); `{language}` and `{code}` are filled in.',
    )
    splits: dict[Split, str] = Field(
        default_factory=_held_out,
        min_length=1,
        description="Splits that are made, and what fills `{split}` for each (`dev: valid`).",
    )
    portions: dict[Split, Portion] = Field(
        default_factory=dict,
        description="Split to the share of the file's rows that it takes, by a hash of their id, for sets of one file "
        "(`train: [0, 0.8]`); all where not named.",
    )
    max_characters: Count | None = Field(None, description="Longer items (prompt and answer) are left out.")
    limit: Count | None = Field(None, description="At most so many items per split, the first.")
    prompts: dict[Language, str] = Field(
        default_factory=dict,
        description="Per language the prompt around a row's columns, such as `Rezension: {text} Urteil:`; the format's "
        "main column alone when empty.",
    )
    words: dict[Language, dict[str, str]] = Field(
        default_factory=dict,
        description="Per language what stands for a value of the file: of `labelled` the word of each label "
        "(`positive: gut`; rows with other labels are dropped), of `xcopa` the connectives (`cause: weil`).",
    )
    by_language: dict[Language, dict[str, Any]] = Field(
        default_factory=dict,
        description="Keys that are different for a language, such as `en: {path: ..., format: blimp}`.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> TaskSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        for language in self.by_language:
            self.of(language)
        return self

    def of(self, language: str) -> TaskSource:
        """The source with what is different for a language; a place of its own takes that of the others' place."""
        own = self.by_language.get(language, {})
        place = {"path", "hub"} if {"path", "hub"} & set(own) else set()
        values = self.model_dump(exclude={"by_language", *place}) | own
        return TaskSource.model_validate(values)

    def filled(self, language: str, split: Split) -> TaskSource:
        """The source of one language and split: its own keys; language, code and split filled in place and `where`."""
        own = self.of(language)
        place = {"path": own.path, "hub": own.hub.model_dump() if own.hub else None, "where": own.where}
        fields = {
            "{language}": language,
            "{code}": own.codes.get(language, language),
            "{split}": own.splits.get(split, split),
        }
        for field, text in fields.items():
            place = fill(place, field, text)
        hub = HubDataset.model_validate(place["hub"]) if place["hub"] else None
        return own.model_copy(update={"path": place["path"], "hub": hub, "where": place["where"]})


class FileTasks(Section):
    """Tasks read from files or from the Hub."""

    kind: Literal["files"]
    tasks: dict[TaskKind, TaskSource] = Field(min_length=1, description="Task to source.")
    languages: dict[Language, list[Name]] = Field(
        default_factory=dict, description="Tasks of a language that has not all of them; all when not named."
    )

    def splits(self, language: str) -> dict[TaskKind, list[Split]]:
        """Per task of a language: its splits, in order."""
        asked = self.languages.get(language, list(self.tasks))
        own = {task: source.of(language).splits for task, source in self.tasks.items() if task in asked}
        return {task: [name for name in SPLITS if name in splits] for task, splits in own.items()}

    @model_validator(mode="after")
    def _known(self) -> FileTasks:
        for language, tasks in self.languages.items():
            if unknown := [task for task in tasks if task not in self.tasks]:
                raise ValueError(
                    f"languages.{language}: {unknown[0]} is not among tasks; expected some of {sorted(self.tasks)}"
                )
        return self


Tasks = Annotated[EmbeddedTasks | FileTasks, Field(discriminator="kind")]
