"""What a plan is made of: models, systems that are scored, jobs; and the draft in which they are gathered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from langmerge.config import Import, LanguageStudy, Study
from langmerge.host_memory import Sizes
from langmerge.provenance import InputError

SNAPSHOT = "@"  # `en-es@40` is the model en-es after 40 steps

Pair = tuple[str, str]  # (source, target) language codes


@dataclass(frozen=True)
class Job:
    """One call of one rule.

    ``folder`` is the result and the job's identity. ``inputs`` maps names to folders of other jobs' results (or of
    snapshots inside them), ``files`` lists data files that are read besides. ``modules`` are the code that the job
    runs. ``tokens``, ``flops``, ``disk`` and ``memory`` (bytes) are predictions; ``memory`` are the arrays that looking
    inside models holds on the host (0: not predicted).
    """

    rule: str
    folder: str
    spec: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    threads: int = 1
    gpus: int = 0
    tokens: float = 0.0
    flops: float = 0.0
    disk: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Model:
    """A node of the graph: a model folder and, in one readable line, the recipe that makes it from its parents."""

    name: str
    kind: str  # import, init, train, grow, merge
    folder: str
    parents: tuple[str, ...]
    seed: int
    recipe: str


@dataclass(frozen=True)
class System:
    """Something that is scored: a model, or a merge that a sweep tuned. ``folder`` holds its scores."""

    name: str
    role: str  # base, specialist, joint, merge, pair, patch, drift, snapshot, extra; or a role of the study's kind
    group: str  # of systems that are compared, such as from-en; empty for what belongs to none
    seed: int
    folder: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The system's name in the whole study."""
        return f"seed{self.seed}/{self.group}/{self.name}"


@dataclass(frozen=True)
class Plan:
    """The graph of a study."""

    name: str
    study: Study | LanguageStudy
    models: dict[str, Model]  # by "seed/name"
    systems: tuple[System, ...]
    jobs: dict[str, Job]  # by folder

    @property
    def report(self) -> Job:
        """The job that everything else leads to."""
        return next(job for job in self.jobs.values() if job.rule == "write_report")


class Graph:
    """A plan under construction. ``parameters`` and ``sizes`` (None: unknown) are those of a model, for predictions."""

    def __init__(self, name: str, root: str) -> None:
        self.name, self.root = name, f"{root}/{name}"
        self.models: dict[str, Model] = {}
        self.systems: list[System] = []
        self.jobs: dict[str, Job] = {}
        self.parameters = 0.0
        self.sizes: Sizes | None = None

    def add_job(self, job: Job) -> None:
        """Add a job; two jobs cannot make the same folder."""
        assert job.folder not in self.jobs, job.folder
        self.jobs[job.folder] = job

    def add_model(self, model: Model) -> None:
        """Add a model; :class:`InputError` if the user gave it the name of another."""
        key = f"{model.seed}/{model.name}"
        if key in self.models:
            raise InputError(f"models.{model.name}: the study makes a model of this name itself; choose another name")
        self.models[key] = model

    def folder_of(self, seed: int, name: str, needed_by: str) -> str:
        """Folder of a model or of its snapshot ``name@step``; :class:`InputError` naming the key that asks for it."""
        stem, _, step = name.partition(SNAPSHOT)
        model = self.models.get(f"{seed}/{stem}")
        if model is None:
            known = sorted(m.name for m in self.models.values() if m.seed == seed)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the study has {', '.join(known)}"
            raise InputError(f"{needed_by}: no model {name}; {hint}")
        snapshots = self.jobs[model.folder].spec["snapshots"] if model.kind == "train" else []
        if step and step not in map(str, snapshots):
            kept = ", ".join(map(str, snapshots)) or "none"
            raise InputError(
                f"{needed_by}: {stem} has no snapshot at step {step} (it has: {kept}); "
                f"name one of merging.drift.steps before the last, or {stem} itself"
            )
        return f"{model.folder}/step{step}" if step else model.folder


class Draft(Graph):
    """The plan of a study of translation under construction."""

    def __init__(self, study: Study, name: str, root: str) -> None:
        super().__init__(name, root)
        self.study = study

    def languages(self) -> list[str]:
        """Every language with data, each once: the study's and the base's."""
        return list(dict.fromkeys([*self.study.languages, *self.study.base.languages]))

    def pairs(self, languages: Iterable[str]) -> dict[str, str]:
        """Inputs that name the corpora of some languages."""
        return {f"pairs/{language}": f"{self.root}/corpora/{language}" for language in languages}

    def prompt(self) -> dict[str, Any]:
        """The prompt as specs write it."""
        return self.study.prompt.model_dump(mode="json")


def result_folder(folder: str, jobs: dict[str, Job]) -> str:
    """The folder of the job that makes ``folder``: itself, or the job's folder that it lies in."""
    path = PurePosixPath(folder)
    return next(str(candidate) for candidate in (path, *path.parents) if str(candidate) in jobs)


def direction(pair: Pair) -> dict[str, str]:
    """A direction as specs write it."""
    return {"source": pair[0], "target": pair[1]}


def direction_name(pair: Pair) -> str:
    """``en-es``."""
    return "-".join(pair)


def group_name(study: Study, group: str) -> str:
    """``from-en`` or ``to-en``."""
    return f"{group.partition('_')[0]}-{study.pivot}"


def directions_of(study: Study, group: str, languages: Iterable[str] | None = None) -> list[Pair]:
    """(source, target) of a direction group, in the order of the study's (or the given) languages."""
    chosen = study.languages if languages is None else languages
    return [(study.pivot, code) if group == "from_pivot" else (code, study.pivot) for code in chosen]


def merge_recipe(entry: dict[str, Any]) -> str:
    """The recipe of a merge of a sweep, for people: its method, and that it was tuned where there was a choice."""
    return str(entry["details"]["method"]) + (", tuned on dev" if len(entry["candidates"]) > 1 else "")


def parameters_of(architecture: dict[str, Any], vocabulary: int) -> float:
    """Parameters of a Llama-type decoder without norms, for predictions."""
    d = architecture.get("hidden_size", 0)
    heads = architecture.get("num_attention_heads", 1)
    kv = architecture.get("num_key_value_heads", heads)
    head = architecture.get("head_dim", d // max(heads, 1))
    layer = d * head * (2 * heads + 2 * kv) + 3 * d * architecture.get("intermediate_size", 0)
    embeddings = vocabulary * d * (1 if architecture.get("tie_word_embeddings", True) else 2)
    return float(architecture.get("num_hidden_layers", 0) * layer + embeddings)


def imported_parameters(recipe: Import) -> float:
    """Parameters of an imported model: as said, else by the size of its weights; 0 (unknown) where they are not yet."""
    folder = Path(recipe.source)
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 4 if folder.is_dir() else 0.0
    return recipe.parameters or held
