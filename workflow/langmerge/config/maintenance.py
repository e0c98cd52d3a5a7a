"""The study of maintenance: a specialist per language and task, merged; what building and updating them costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from langmerge.config.base import Count, Language, Name, Positive, Section, Share
from langmerge.config.language_study import LanguageStudy, Origin
from langmerge.config.recipes import Training
from langmerge.config.tasks import EmbeddedTasks, Tasks

AnswerTask = Literal["sentiment", "summarization", "causal_choice", "commonsense", "arithmetic", "question_answering"]
Tuning = Literal["lora", "full"]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Count = Field(64, description="Rank of the update of each matrix.")
    alpha: Positive = Field(64, description="The update is scaled by alpha / rank.")
    dropout: Share = Field(0.0, description="Of the adapter's input.")
    targets: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        min_length=1,
        description="Linear layers that are adapted.",
    )
    learning_rate: Positive | None = Field(
        None, description="Peak learning rate of adapters, which need a higher one; the specialist's when empty."
    )
    learning_rates: dict[AnswerTask, Positive] = Field(
        default_factory=dict, description="As `learning_rate`, for tasks that need another one."
    )

    def rate(self, task: str) -> float | None:
        """The peak learning rate of a task's adapters; None for the specialist's."""
        return next((rate for name, rate in self.learning_rates.items() if name == task), self.learning_rate)

    def adapter(self) -> dict[str, Any]:
        """What a training needs to know of the adapter itself."""
        return self.model_dump(mode="json", exclude={"learning_rate", "learning_rates"})


class Scenario(Section):
    """What update and addition share: in which tasks they are run, and how joint training goes on."""

    tasks: dict[AnswerTask, list[Tuning]] = Field(min_length=1, description="Task to tunings in which it is run.")
    language: Language = Field(description="The language that is updated or added.")
    replay: Fraction = Field(
        0.5,
        description="Share of old data in the continued joint training, which sees each new item as often as a "
        "specialist does.",
    )

    def includes(self, task: str, tuning: str) -> bool:
        """Whether it is run in a task and tuning."""
        return any(task == name and tuning in tunings for name, tunings in self.tasks.items())


class Update(Scenario):
    """One language's data grow; which ways there are to bring the model up to date, and what each costs."""

    before: Fraction = Field(
        0.6, description="Share of its training items that is there before the update; all are there after it."
    )


class Addition(Scenario):
    """A further language: the state before it has specialists and a combined model of all others."""


class Variant(Section):
    """A further initial build for comparison: adapters of another rank, or another origin; all else is the same."""

    tasks: dict[AnswerTask, list[Tuning]] = Field(min_length=1, description="Task to tunings in which it is built.")
    rank: Count | None = Field(None, description="Rank of the adapters; the study's when empty.")
    alpha: Positive | None = Field(None, description="Alpha of the adapters; the study's when empty.")
    origin: Origin | None = Field(
        None, description="What models descend from, such as a smaller one; the study's when empty."
    )

    @model_validator(mode="after")
    def _different(self) -> Variant:
        if self.rank is None and self.alpha is None and self.origin is None:
            raise ValueError("is the study's own build; expected `rank`, `alpha` or `origin`")
        if self.origin is None and any("full" in tunings for tunings in self.tasks.values()):
            raise ValueError("tasks: full fine-tuning has no adapters; name `lora` only, or another `origin`")
        return self


class Maintenance(LanguageStudy):
    """Merged specialists against models trained on all languages: scores, and the cost of building and updating."""

    kind: Literal["maintenance"]
    answer_tasks: dict[AnswerTask, list[Tuning]] = Field(
        min_length=1, description="Tasks that are trained, each apart, and how: `lora`, `full` or both."
    )
    base: Training | None = Field(
        None, description="Training of the base on text and `base_tasks`; none when the origin is the base."
    )
    base_tasks: Tasks | None = Field(
        None,
        description="Task items that the base reads: a data set of its own (`train` only), so that new data of a "
        "language leave the base alone; text only when empty. Embedded items are those that specialists then skip.",
    )
    base_examples: Share = Field(0.5, description="Share of task items in the base's mixture.")
    specialist: Training = Field(
        description="Training of one language's specialist in one task on all its items. Other trainings get as many "
        "steps per item: the combined model those of all its languages, a specialist before the update fewer."
    )
    specialists: dict[AnswerTask, Training] = Field(
        default_factory=dict, description="As `specialist`, for tasks that need another training."
    )
    lora: Lora = Field(default_factory=lambda: Lora.model_validate({}), description="The adapter.")
    workers: Count = Field(
        2,
        description="Workers (CPU cores, GPUs): so many specialists are trained at once, and the combined models by so "
        "many data-parallel processes, for equal wall-clock terms.",
    )
    densities: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=list,
        description="Densities at which TIES, DARE-TIES (untrimmed) and DARE-TIES in KnOTS's basis are scored on test.",
    )
    clusters: dict[Name, list[Language]] = Field(
        default_factory=dict, description="Groups of languages whose specialists are merged apart from the others."
    )
    update: Update | None = Field(None, description="The update of one language; none when empty.")
    addition: Addition | None = Field(None, description="A language that is added last; none when empty.")
    variants: dict[Name, Variant] = Field(
        default_factory=dict, description="Other sizes, of adapters or of the model, for comparison; none when empty."
    )
    margin: Positive = Field(
        2.0, description="Points within which two scores count as equal (two one-sided tests, level 0.05)."
    )

    def training(self, task: str) -> Training:
        """The training of a task's specialists."""
        return next((run for name, run in self.specialists.items() if name == task), self.specialist)

    def _items(self, task: str, language: str | None) -> tuple[int, int]:
        """Embedded training items of a task (in a language with sizes of its own): the base's, and all."""
        known = [tasks if isinstance(tasks, EmbeddedTasks) else None for tasks in (self.base_tasks, self.tasks)]
        first, whole = (tasks.splits(language).get(task, {}).get("train", 0) if tasks else 0 for tasks in known)
        return (first, whole) if whole else (0, 0)

    def skipped(self, task: str, language: str) -> float:
        """Share of a language's training items that specialists leave out, because the base has read them."""
        first, whole = self._items(task, language)
        return first / whole if whole else 0.0

    def size(self, task: str, language: str) -> float:
        """Training items that a language has for its specialist, in those of a language without sizes of its own.

        1 for files, whose rows nobody has counted.
        """
        (first, whole), (others_first, others) = (self._items(task, code) for code in (language, None))
        return (whole - first) / (others - others_first) if others > others_first else 1.0

    @model_validator(mode="after")
    def _known(self) -> Maintenance:
        if self.tasks is None:
            raise ValueError("tasks: missing; specialists are trained on task examples")
        scenarios = {"update": self.update, "addition": self.addition}
        for key, scenario in scenarios.items():
            if scenario and scenario.language not in self.languages:
                raise ValueError(
                    f"{key}.language: {scenario.language} is not among languages; expected one of {self.languages}"
                )
        builds = scenarios | {f"variants.{name}": variant for name, variant in self.variants.items()}
        for key, build in builds.items():
            for task, tunings in build.tasks.items() if build else ():
                if missing := [tuning for tuning in tunings if tuning not in self.answer_tasks.get(task, [])]:
                    raise ValueError(
                        f"{key}.tasks.{task}: {missing[0]} is not among answer_tasks.{task}; "
                        f"expected some of {self.answer_tasks.get(task, [])}"
                    )
        if self.addition and len(self.languages) < 3:
            raise ValueError("addition: the state before it needs two languages to merge; name three or more languages")
        for name, codes in self.clusters.items():
            if unknown := [code for code in codes if code not in self.languages]:
                raise ValueError(f"clusters.{name}: {unknown[0]} is not among languages; expected {self.languages}")
            if len(codes) < 2:
                raise ValueError(f"clusters.{name}: a merge needs two languages or more, found {codes}")
        return self

    @model_validator(mode="after")
    def _languages_of_tasks(self) -> Maintenance:
        for task in self.answer_tasks:
            having = [code for code in self.languages if self.offers(task, code)]
            if len(having) < 2:
                raise ValueError(
                    f"answer_tasks.{task}: only {having} of the languages have test items of it in `tasks`"
                )
            if isinstance(self.tasks, EmbeddedTasks):
                key, splits = f"tasks.{task}.train", set(self.tasks.splits()[task])
            else:
                assert self.tasks is not None  # languages have items
                key, splits = f"tasks.tasks.{task}.splits.train", set(self.tasks.splits(having[0])[task])
            if "train" not in splits:
                raise ValueError(f"{key}: missing, but answer_tasks trains specialists in {task}")
            for key, scenario in (("update", self.update), ("addition", self.addition)):
                if scenario and task in scenario.tasks and scenario.language not in having:
                    raise ValueError(f"{key}.tasks.{task}: {scenario.language} has no test items of it in `tasks`")
        return self

    @model_validator(mode="after")
    def _base_items(self) -> Maintenance:
        if self.base_tasks is None:
            return self
        if self.base is None:
            raise ValueError("base_tasks: no `base` is trained on them; leave them out or give `base`")
        if isinstance(self.base_tasks, EmbeddedTasks) and isinstance(self.tasks, EmbeddedTasks):
            for key in ("seed", "classes", "negation", "contrast"):
                own, expected = getattr(self.base_tasks, key), getattr(self.tasks, key)
                if own != expected:
                    raise ValueError(
                        f"base_tasks.{key}: {own} would put test items of `tasks` into the base's training data; "
                        f"expected that of tasks, {expected}"
                    )
            full = [(t, code) for t in self.answer_tasks for code in self.languages if self.skipped(t, code) >= 1]
            if full:
                task, language = full[0]
                raise ValueError(
                    f"base_tasks.{task}.train: leaves no training item to the specialist of {language}; expected fewer "
                    f"than tasks.{task}.train"
                )
        return self
