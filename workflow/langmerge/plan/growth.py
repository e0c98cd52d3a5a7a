"""The graph of a study of growth: a base grown early, late or never, continued per language, merged in all subsets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from langmerge import catalogue
from langmerge.config import Growth
from langmerge.models import training_flops_per_token
from langmerge.plan.calibration import add_test_calibrations, data_of
from langmerge.plan.corpora import dependencies
from langmerge.plan.graph import SNAPSHOT, Job, Plan, parameters_of
from langmerge.plan.language_draft import (
    Data,
    Entry,
    LanguageDraft,
    Test,
    alone,
    entry,
    in_catalogue_order,
    tests_of,
    text_part,
)
from langmerge.plan.models import add_grown
from langmerge.provenance import canonical

# Bytes of a sweep's merges as JSON. A job's spec is an argument of a shell's command, which takes 128 KiB.
LONGEST = 60_000
SMALL, GROWN_LATE, GROWN_EARLY = "1x", "1x-cloned", "2x"
TASKS = ("text", "minimal_pairs")


class GrowthDraft(LanguageDraft):
    """The plan of a study of growth under construction."""

    def __init__(self, study: Growth, name: str, root: str) -> None:
        super().__init__(study, name, root)
        self.growth = study
        self.factor = 1.0  # parameters of a grown model / of a small one

    def text(self, languages: Iterable[str]) -> dict[str, str]:
        """Inputs that hold the text of some languages: the pivot's is its own corpus where there is one."""
        chosen, pivot = list(dict.fromkeys(languages)), self.study.pivot
        if self.growth.pivot_corpus is None or pivot not in chosen:
            return super().text(chosen)
        return super().text(code for code in chosen if code != pivot) | {
            f"pairs/{pivot}": f"{self.root}/corpora/{pivot}"
        }

    def add_data(self) -> None:
        """What every study has, the pivot's corpus if it has one of its own, and the pivot's tasks."""
        super().add_data()
        study, pivot = self.growth, self.study.pivot
        if study.pivot_corpus is not None:
            files, modules = dependencies(study.pivot_corpus, pivot, pivot)
            spec = {"corpus": study.pivot_corpus.model_dump(mode="json"), "pivot": pivot, "language": pivot}
            self.add_job(Job("prepare_corpus", f"{self.root}/corpora/{pivot}", spec, files=files, modules=modules))
        if study.tasks is not None and study.offers("minimal_pairs", pivot):
            self.add_tasks(pivot, pivot, study.tasks)

    def size(self, setup: str) -> float:
        """Parameters of a setup's specialists, for predictions."""
        return self.parameters * (1.0 if setup == SMALL else self.factor)


def build(study: Growth, name: str, root: str) -> Plan:
    """Expand the study into its plan."""
    draft = GrowthDraft(study, name, root)
    draft.add_data()
    for seed in study.seeds:
        add_bases(draft, seed)
        replicates = [Replicate(draft, seed, setup) for setup in study.setups]
        for replicate in replicates:
            replicate.add_models()
        measured = measure_specialists(draft, seed, replicates)
        for replicate in replicates:
            replicate.add_sweeps(measured)
    draft.add_report(listed=False)  # hundreds of systems: the report finds them in the sweeps
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


def flops_ratio(study: Growth) -> float:
    """FLOPs per token of a grown model / of a small one, at half of the context; 0 if the origin's size is unknown."""
    init = study.origin.init
    if init is None:
        return 0.0
    sizes = {"vocab_size": init.vocabulary_size, **init.architecture}
    small, grown = (SimpleNamespace(**fields) for fields in (sizes, study.grow.architecture(sizes)))
    context = study.specialist.context_length // 2
    return training_flops_per_token(grown, context) / training_flops_per_token(small, context)


def in_pieces(entries: Sequence[Entry], longest: int) -> list[list[Entry]]:
    """Runs of entries whose JSON has at most ``longest`` bytes (or that are one entry), in order."""
    pieces: list[list[Entry]] = []
    room = 0
    for one in entries:
        size = len(canonical(one).encode()) + 1
        if not pieces or size > room:
            pieces.append([])
            room = longest
        pieces[-1].append(one)
        room -= size
    return pieces


def source_of(setup: str) -> str:
    """The model that a setup's specialists start from, and that their task vectors are measured against."""
    return f"{setup}-source"


def add_bases(draft: GrowthDraft, seed: int) -> None:
    """The pivot's pre-training: the small base, and each setup's source."""
    study = draft.growth
    draft.add_origin(seed)
    if study.origin.init is not None:
        init = study.origin.init
        grown = parameters_of(study.grow.architecture(init.architecture), init.vocabulary_size)
        draft.factor = grown / draft.parameters
    pivot = study.pivot
    first, rest = (text_part(pivot, portion=run.portion) for run in (study.base, study.finish))
    draft.add_run(seed, "base", "origin", study.base, [first], f"train on {pivot}")
    if {SMALL, GROWN_LATE} & set(study.setups):
        draft.add_run(seed, source_of(SMALL), "base", study.finish, [rest], f"finish on {pivot}, small")
    if GROWN_LATE in study.setups:
        add_grown(draft, seed, source_of(GROWN_LATE), source_of(SMALL), study.grow)
    if GROWN_EARLY in study.setups:
        add_grown(draft, seed, "base-grown", "base", study.grow)
        size = draft.size(GROWN_EARLY)
        draft.add_run(
            seed,
            source_of(GROWN_EARLY),
            "base-grown",
            study.finish,
            [rest],
            f"finish on {pivot}, grown",
            parameters=size,
        )


def measure_specialists(draft: GrowthDraft, seed: int, replicates: Sequence[Replicate]) -> dict[str, str]:
    """What merge methods ask to be measured of the specialists of a seed, as inputs of its sweeps."""
    study = draft.growth
    methods = in_catalogue_order(study.merging.all)
    kinds = dict.fromkeys(kind for method, _ in methods if (kind := catalogue.METHODS[method].data))
    models = {model: language for one in replicates for language, model in one.specialists.items()}
    return add_test_calibrations(
        draft,
        seed,
        "specialists",
        {model: [{"task": "text", "language": language}] for model, language in models.items()},
        list(kinds),
        study.calibration,
        study.specialist.context_length,
        4 * len(kinds) * sum(draft.size(one.setup) * len(one.specialists) for one in replicates),
    )


class Replicate:
    """One setup of one seed: its specialists, joint model and merges, scored in one sweep."""

    def __init__(self, draft: GrowthDraft, seed: int, setup: str) -> None:
        self.draft, self.study, self.seed, self.setup = draft, draft.growth, seed, setup
        self.source = source_of(setup)
        self.specialists: dict[str, str] = {}
        self.entries: list[Entry] = []

    def tests(self, languages: Iterable[str]) -> list[Test]:
        """Text and minimal pairs in some languages and in the pivot, which must not be forgotten."""
        return tests_of(self.study, TASKS, [*languages, self.study.pivot])

    def score(self, model: str, role: str, languages: Iterable[str], **details: Any) -> None:
        """Have the sweep score a model as it is."""
        self.entries.append(alone(model, role, self.tests(languages), **details))

    def mixture(self, weights: Mapping[str, float]) -> list[Data]:
        """Languages with their shares, and the pivot's replay."""
        study, total = self.study, sum(weights.values())
        share = 1 - study.replay
        data = [text_part(code, share * w / total, study.specialist.portion) for code, w in weights.items()]
        return [*data, *([text_part(study.pivot, study.replay, study.base.portion)] if study.replay else [])]

    def run(
        self, name: str, steps: int, weights: Mapping[str, float], snapshots: Sequence[int] = (), source: str = ""
    ) -> str:
        """Continued pre-training of the setup's source, or of another one; the model's name."""
        run = self.study.specialist.model_copy(update={"steps": steps})
        recipe = f"continue on {', '.join(weights)}"
        model = f"{self.setup}-{name}"
        size = self.draft.size(self.setup)
        data = self.mixture(weights)
        self.draft.add_run(self.seed, model, source or self.source, run, data, recipe, snapshots, parameters=size)
        return model

    def add_models(self) -> None:
        """Everything of this setup but its merges."""
        study = self.study
        if self.setup == SMALL:
            self.score("base", "base", study.languages)
        elif self.setup == GROWN_EARLY:
            self.score("base-grown", "grown", study.languages)
        self.score(self.source, "source", study.languages, step=0)
        self.specialists = {language: self.add_specialist(language) for language in study.languages}
        steps = {language: float(study.steps_of(language)) for language in study.languages}
        joint = self.run("joint", max(1, round(study.joint_steps * sum(steps.values()))), steps)
        self.score(joint, "joint", study.languages)
        if study.control and self.setup == GROWN_LATE and self.seed == study.seeds[0]:
            self.add_control(study.control)

    def snapshots(self, language: str) -> list[int]:
        """Steps of a language's specialist that are scored besides its last."""
        return [step for step in self.study.snapshots if step < self.study.steps_of(language)]

    def add_specialist(self, language: str) -> str:
        """The specialist of a language with its snapshots, and its longer run if compute is to be matched; its name."""
        study, last, snapshots = self.study, self.study.steps_of(language), self.snapshots(language)
        model = self.run(language, last, {language: 1.0}, snapshots)
        for step in snapshots:
            self.score(f"{model}{SNAPSHOT}{step}", "snapshot", [language], language=language, step=step)
        self.score(model, "specialist", [language], language=language, step=last)
        if study.matched and self.setup == SMALL:
            steps = round(last * flops_ratio(study))
            longer = self.run(f"{language}-matched", steps, {language: 1.0})
            self.score(longer, "matched", [language], language=language, step=steps)
        return model

    def add_control(self, language: str) -> None:
        """A language's specialist from a clone with noise where the study's has none, and the reverse; their copies."""
        study, last, snapshots = self.study, self.study.steps_of(language), self.snapshots(language)
        noisy = bool(study.grow.noisy)
        origin = f"{self.setup}-control"
        add_grown(self.draft, self.seed, origin, source_of(SMALL), study.grow.with_noise(not noisy))
        model = self.run(f"control-{language}", last, {language: 1.0}, snapshots, origin)
        self.score(model, "control", [language], language=language, step=last)
        trained = ((noisy, self.source, self.specialists[language]), (not noisy, origin, model))
        rows: list[dict[str, Any]] = []
        for noise, born, grown in trained:
            steps = {0: born, **{step: f"{grown}{SNAPSHOT}{step}" for step in snapshots}, last: grown}
            rows += [
                {"model": name, "noise": noise, "language": language, "step": step} for step, name in steps.items()
            ]
        folder = f"{self.draft.root}/copies/seed{self.seed}/{self.setup}"
        spec = {key: study.grow.spec()[key] for key in ("width", "heads")} | {"models": rows}
        inputs = {f"models/{row['model']}": self.draft.folder_of(self.seed, row["model"], "control") for row in rows}
        inputs["model"] = self.draft.folder_of(self.seed, source_of(SMALL), "control")
        self.draft.add_job(Job("measure_copies", folder, spec, inputs, modules=("langmerge.growing.measure",)))

    def add_sweeps(self, measured: Mapping[str, str]) -> None:
        """Score all that :meth:`add_models` has named and the merges, in as many sweeps as command lines take."""
        entries = [*self.entries, *self.merges()]
        for number, piece in enumerate(in_pieces(entries, LONGEST), start=1):
            title = self.setup if number == 1 else f"{self.setup}.{number}"
            recipes = [recipe for entry in piece for recipe in entry["candidates"]]
            named = {f"data/{name}" for recipe in recipes for name in recipe.get("data", {}).values()}
            own = {name: folder for name, folder in measured.items() if name in named}
            self.draft.add_sweep(self.seed, title, self.setup, piece, own)

    def merges(self) -> list[Entry]:
        """Every method over every subset of the languages.

        Methods that can do without a base get none, as in the configurations of the paper (its Multi-SLERP is of
        weights, not of task vectors).
        """
        study, found = self.study, []
        for size, (method, grid) in itertools.product(study.sizes(), in_catalogue_order(study.merging.all)):
            base = self.source if catalogue.METHODS[method].needs_base else None
            for languages in itertools.combinations(study.languages, size):
                chosen = [self.specialists[language] for language in languages]
                title = f"{method}.{'+'.join(languages)}"
                details: dict[str, Any] = {"languages": list(languages), "size": size}
                made = entry(title, "merge", method, chosen, base, grid, self.tests(languages), **details)
                if data := data_of(method, chosen, self.setup):
                    made["candidates"] = [candidate | {"data": data} for candidate in made["candidates"]]
                found.append(made)
        return found
