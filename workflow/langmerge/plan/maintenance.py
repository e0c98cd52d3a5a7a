"""The graph of a study of maintenance: specialists by task and language, merges, combined models, updates.

Every training sees each of its items about as often: its steps are those of a specialist with all items of one
language, times the *amount* of data (1 for all items of a language without sizes of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langmerge.config import Maintenance, Origin, candidates
from langmerge.plan.graph import Plan
from langmerge.plan.language_draft import (
    Data,
    Entry,
    LanguageDraft,
    alone,
    entry,
    examples_part,
    in_catalogue_order,
    tests_of,
    text_part,
)

# Recipes of the paper at a fixed density; with density 1 the first two drop nothing, and are the same merge.
AT_DENSITY: dict[str, tuple[str, dict[str, Any]]] = {
    "TIES": ("ties", {}),
    "DARE-TIES": ("dare_ties", {"trim": 1.0}),
    "DARE-TIES-SVD": ("knots", {"inner": "dare_ties"}),
}
LEAD = "ties"  # the paper's one technique; methods of clusters


def build(study: Maintenance, name: str, root: str) -> Plan:
    """Expand the study into its plan."""
    draft = LanguageDraft(study, name, root)
    draft.add_data()
    if study.base_tasks is not None:
        for code in study.languages:
            draft.add_tasks(f"base/{code}", code, study.base_tasks)
    for seed in study.seeds:
        base = add_base(draft, study, seed)
        for task, tunings in study.answer_tasks.items():
            for tuning in tunings:
                Trainings(draft, study, seed, base, task, tuning).add()
        parameters = draft.parameters
        for name, variant in study.variants.items():
            draft.parameters = parameters
            start = add_base(draft, study, seed, name, variant.origin) if variant.origin else base
            for task, tunings in variant.tasks.items():
                for tuning in tunings:
                    Trainings(draft, study, seed, start, task, tuning, name).add_variant()
    draft.add_report()
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


def add_base(
    draft: LanguageDraft, study: Maintenance, seed: int, variant: str = "", origin: Origin | None = None
) -> str:
    """What specialists start from: the origin, or the origin trained on text and items of all tasks; its name.

    ``variant`` and ``origin``: those of a variant with an origin of its own.
    """
    first, trained = (f"{name}-{variant}" if variant else name for name in ("origin", "base"))
    draft.add_origin(seed, first, origin=origin)
    if study.base is None:
        return first
    items = 0.0 if study.base_tasks is None else study.base_examples
    count = len(study.languages)
    data = [text_part(code, (1 - items) / count) for code in study.languages if items < 1]
    inputs = draft.inputs_of(data)
    if items:
        share = items / (count * len(study.answer_tasks))
        data += [
            examples_part(task, test["language"], share)
            for task in study.answer_tasks
            for test in tests_of(study, [task])
        ]
        inputs |= {f"tasks/{code}": f"{draft.root}/tasks/base/{code}" for code in study.languages}
    draft.add_run(seed, trained, first, study.base, data, "train on text and tasks of all languages", inputs=inputs)
    return trained


class Trainings:
    """One task and one way to tune it: the initial build, the update and the addition of a language.

    Of a ``variant`` of the study, with what is different there, only the initial build.
    """

    def __init__(
        self, draft: LanguageDraft, study: Maintenance, seed: int, base: str, task: str, tuning: str, variant: str = ""
    ) -> None:
        self.draft, self.study, self.seed, self.base, self.task, self.tuning = draft, study, seed, base, task, tuning
        self.group = f"{task}-{tuning}-{variant}" if variant else f"{task}-{tuning}"
        self.tests = tests_of(study, [task])
        self.languages = [test["language"] for test in self.tests]
        self.lora = study.lora.adapter() if tuning == "lora" else None
        if self.lora and variant:
            self.lora |= study.variants[variant].model_dump(mode="json", include={"rank", "alpha"}, exclude_none=True)
        rate = study.lora.rate(task) if self.lora else None
        self.recipe = study.training(task).model_copy(update={"learning_rate": rate} if rate else {})
        self.entries: list[Entry] = []
        self.update = study.update if study.update and study.update.includes(task, tuning) else None
        self.addition = study.addition if study.addition and study.addition.includes(task, tuning) else None

    def share(self, language: str, updated: bool) -> float:
        """Share of a language's training items that is there, before or after the update."""
        return self.update.before if self.update and language == self.update.language and not updated else 1.0

    def amounts(self, shares: Mapping[str, float]) -> dict[str, float]:
        """What some shares of languages' items amount to."""
        return {code: share * self.study.size(self.task, code) for code, share in shares.items()}

    def part(self, language: str, start: float, end: float, weight: float) -> Data:
        """The items of a language from one share to another of those that the base has not read."""
        first = self.study.skipped(self.task, language)
        portion = (first + start * (1 - first), first + end * (1 - first))
        return examples_part(self.task, language, weight, portion)

    def run(self, name: str, data: Sequence[Data], amount: float, recipe: str, parent: str = "", **details: Any) -> str:
        """A training of ``amount`` times a specialist's steps, scored in every language; its name in the study."""
        full_name, workers = f"{self.group}-{name}", 1 if details["role"] == "specialist" else self.study.workers
        steps = max(1, round(amount * self.recipe.steps))
        run = self.recipe.model_copy(update={"steps": steps, "threads": workers, "gpus": workers})
        start = f"{self.group}-{parent}" if parent else self.base
        self.draft.add_run(self.seed, full_name, start, run, data, recipe, lora=self.lora)
        self.score_alone(full_name, "", **details)
        return full_name

    def score_alone(self, model: str, name: str, role: str, **details: Any) -> None:
        """Score a model in every language."""
        self.entries.append(alone(model, role, self.tests, name, task=self.task, tuning=self.tuning, **details))

    def joint(self, name: str, languages: Sequence[str], updated: bool, scenario: str) -> None:
        """A combined model: trained on the data of some languages, each in proportion to its items."""
        shares = {code: self.share(code, updated) for code in languages}
        amounts = self.amounts(shares)
        data = [self.part(code, 0, shares[code], amount) for code, amount in amounts.items()]
        recipe = f"{self.task} in {', '.join(languages)}"
        self.run(name, data, sum(amounts.values()), recipe, role="combined", scenario=scenario)

    def continued(
        self, scenario: str, parent: str, new: Data, amount: float, old: Mapping[str, float], replay: float
    ) -> None:
        """The combined model trained on, on ``amount`` new items and, for the share ``replay``, on old ones.

        ``old``: share of the items by language.
        """
        amounts = self.amounts(old)
        total = sum(amounts.values())
        data = [{**new, "weight": 1 - replay}]
        data += [self.part(code, 0, share, replay * amounts[code] / total) for code, share in old.items()]
        recipe = f"{self.task}, new items and {replay:.0%} old ones"
        steps = amount / (1 - replay)
        self.run(f"continued-{scenario}", data, steps, recipe, parent, role="continued", scenario=scenario)

    def merges(self, models: Sequence[str], scenario: str, like: str = "") -> None:
        """Every merge of the study over some specialists, tuned on dev.

        With the parameters that were chosen in the scenario ``like``, if one is named: what then changes is due to the
        specialists alone.
        """
        for method, grid in in_catalogue_order(self.study.merging.all):
            self.merge(f"{method}-{scenario}", "merge", method, models, grid, scenario=scenario)
            if like and self.entries[-1]["tune"]:
                self.entries[-1] |= {"tune": [], "parameters_of": f"{self.group}-{method}-{like}"}

    def merge(
        self, name: str, role: str, method: str, models: Sequence[str], grid: Mapping[str, Any], **details: Any
    ) -> None:
        """A merge of some specialists, scored in every language."""
        made = entry(f"{self.group}-{name}", role, method, models, self.base, dict(grid), self.tests)
        made["details"] |= {"task": self.task, "tuning": self.tuning, **details}
        self.entries.append(made)

    def add(self) -> None:
        """Everything of this task and tuning."""
        specialists = self.add_build()
        for label, (method, fixed) in AT_DENSITY.items():
            for density in self.study.densities:
                grid = {**fixed, "density": density}
                at = {"recipe": label, "density": density}
                name = f"{label.lower()}-{density:g}"
                self.merge(name, "density", method, list(specialists.values()), grid, **at)
        for cluster, codes in self.study.clusters.items():
            if not set(codes) <= set(self.languages):
                continue
            grid = self.study.merging.all.get(LEAD, {})
            at = {"cluster": cluster, "languages": codes}
            self.merge(f"cluster-{cluster}", "cluster", LEAD, [specialists[code] for code in codes], grid, **at)
        if self.update:
            self.add_update(specialists)
        if self.addition:
            self.add_addition(specialists)
        self.draft.add_sweep(self.seed, self.group, self.group, self.entries)
        models = list(specialists.values())
        pairs = [(a, b) for i, a in enumerate(models) for b in models[i + 1 :]]
        names = {model: code for code, model in specialists.items()}
        self.draft.add_diagnosis(self.seed, self.group, self.base, pairs, names)

    def add_variant(self) -> None:
        """The initial build alone, on the same items."""
        self.add_build()
        self.draft.add_sweep(self.seed, self.group, self.group, self.entries)

    def add_build(self) -> dict[str, str]:
        """Base, specialists, combined model and merges of all; the specialists by language."""
        self.score_alone(self.base, f"{self.group}-{self.base}", "base")
        specialists = {code: self.specialist(code, False, "initial") for code in self.languages}
        self.joint("combined", self.languages, False, "initial")
        self.merges(list(specialists.values()), "initial")
        return specialists

    def specialist(self, code: str, updated: bool, scenario: str) -> str:
        """The specialist of a language on the items that are there."""
        share = self.share(code, updated)
        suffix = "-updated" if updated else ""
        details = {"role": "specialist", "language": code, "scenario": scenario}
        data, amount = [self.part(code, 0, share, 1.0)], self.amounts({code: share})[code]
        return self.run(f"{code}{suffix}", data, amount, f"{self.task} in {code}", **details)

    def add_update(self, specialists: Mapping[str, str]) -> None:
        """One language's data grow: its specialist anew and merged; all anew; joint training continued with replay.

        It is merged with the parameters of the initial build, and beside that with parameters tuned anew.
        """
        assert self.update is not None
        changed, before = self.update.language, self.update.before
        again = self.specialist(changed, True, "update")
        models = [again if code == changed else model for code, model in specialists.items()]
        self.merges(models, "update", like="initial")
        for method, grid in in_catalogue_order(self.study.merging.all):
            if len(list(candidates(method, grid))) > 1:
                self.merge(f"{method}-retuned", "merge", method, models, grid, scenario="retuned")
        self.joint("combined-updated", self.languages, True, "update")
        old = {code: self.share(code, False) for code in self.languages}
        new, amount = self.part(changed, before, 1.0, 1.0), self.amounts({changed: 1 - before})[changed]
        self.continued("update", "combined", new, amount, old, self.update.replay)

    def add_addition(self, specialists: Mapping[str, str]) -> None:
        """The state before a language came, and joint training continued with it; the state after is the initial one.

        Merges before and after have the same parameters, those of the initial build.

        The specialist of the language and the merge of all are those of the initial build, and training all anew is
        its combined model.
        """
        assert self.addition is not None
        others = [code for code in self.languages if code != self.addition.language]
        self.joint("combined-before", others, False, "before")
        self.merges([specialists[code] for code in others], "before", like="initial")
        added = {self.addition.language: self.share(self.addition.language, False)}
        new = self.part(self.addition.language, 0, added[self.addition.language], 1.0)
        amount = self.amounts(added)[self.addition.language]
        old = {code: self.share(code, False) for code in others}
        self.continued("addition", "combined-before", new, amount, old, self.addition.replay)
