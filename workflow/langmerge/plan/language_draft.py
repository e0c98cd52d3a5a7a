"""The jobs that studies of languages are made of: data, origins, trainings, scores, merges, diagnoses, report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langmerge import catalogue
from langmerge.config import EmbeddedTasks, FileTasks, Grid, Initialisation, LanguageStudy, Origin, Training, candidates
from langmerge.plan.corpora import dependencies, task_dependencies
from langmerge.plan.graph import Graph, Job, Model, System, imported_parameters, merge_recipe, parameters_of
from langmerge.plan.harness import add_harness, to_be_scored
from langmerge.plan.models import import_job
from langmerge.provenance import InputError

Data = dict[str, Any]  # one part of a training mixture, as specs write it
Test = dict[str, str]  # {"task": ..., "language": ...}
Entry = dict[str, Any]  # one merge of a sweep: candidates, the tests that tune and report it, what it is


class LanguageDraft(Graph):
    """The plan of a study of languages under construction."""

    def __init__(self, study: LanguageStudy, name: str, root: str) -> None:
        super().__init__(name, root)
        self.study = study

    # ---- data ------------------------------------------------------------------------------------------------------

    def text(self, languages: Iterable[str]) -> dict[str, str]:
        """Inputs that hold the text of some languages; the pivot's is in every corpus."""
        chosen = list(dict.fromkeys(languages))
        own = [code for code in chosen if code != self.study.pivot]
        if self.study.pivot in chosen and not own:
            own = [code for code in self.study.corpora() if code != self.study.pivot][:1]
        return {f"pairs/{code}": f"{self.root}/corpora/{code}" for code in own}

    def task_folders(self, languages: Iterable[str]) -> dict[str, str]:
        """Inputs that hold the tasks of some languages."""
        return {f"tasks/{code}": f"{self.root}/tasks/{code}" for code in dict.fromkeys(languages)}

    def inputs_of(self, parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Inputs that parts of a mixture, or tests, are read from."""
        known = list(parts)
        text = [part["language"] for part in known if part["task"] == "text"]
        tasks = [part["language"] for part in known if part["task"] != "text"]
        return {**(self.text(text) if text else {}), **self.task_folders(tasks)}

    def add_data(self) -> None:
        """One job per language, so that a further language, or another text of one, touches no other's data."""
        corpus, pivot = self.study.corpus, self.study.pivot
        for language in self.study.corpora():
            if language != pivot:
                files, modules = dependencies(corpus, pivot, language)
                spec = {"corpus": corpus.model_dump(mode="json"), "pivot": pivot, "language": language}
                folder = f"{self.root}/corpora/{language}"
                self.add_job(Job("prepare_corpus", folder, spec, files=files, modules=modules))
        if self.study.tasks is None:
            return
        for language in self.study.languages:
            self.add_tasks(language, language, self.study.tasks)

    def add_tasks(self, name: str, language: str, tasks: EmbeddedTasks | FileTasks) -> str:
        """A job that writes the tasks of a language; its folder, named ``name``."""
        corpus = self.study.corpus
        files, modules = task_dependencies(corpus, tasks, self.study.pivot, language)
        own = tasks.of(language) if isinstance(tasks, EmbeddedTasks) else tasks
        spec: dict[str, Any] = {"language": language, "pivot": self.study.pivot, "tasks": own.model_dump(mode="json")}
        spec["corpus"] = corpus.model_dump(mode="json") if isinstance(own, EmbeddedTasks) else None
        folder = f"{self.root}/tasks/{name}"
        self.add_job(Job("prepare_tasks", folder, spec, files=files, modules=modules))
        return folder

    # ---- models ----------------------------------------------------------------------------------------------------

    def add_origin(
        self, seed: int, name: str = "origin", weights_seed: int | None = None, origin: Origin | None = None
    ) -> None:
        """What models start from: random weights drawn with ``weights_seed`` (``seed`` when empty), or an import.

        ``origin``: another than the study's.
        """
        origin = origin or self.study.origin
        if origin.import_ is not None:
            _, job, model = import_job(self.root, seed, name, origin.import_)
            self.add_job(job)
            self.add_model(model)
            self.parameters = imported_parameters(origin.import_)
            return
        assert origin.init is not None
        self.add_init(seed, name, origin.init, seed if weights_seed is None else weights_seed)

    def add_init(self, seed: int, name: str, init: Initialisation, weights_seed: int) -> None:
        """A model with random weights, and the tokenizer of the study's languages."""
        languages = self.study.origin.languages or self.study.languages
        others = [code for code in languages if code != self.study.pivot]
        spec = {
            **init.model_dump(mode="json"),
            "languages": others,
            "pivot": self.study.pivot if self.study.pivot in languages else None,
            "seed": weights_seed,
            "special_tokens": [],
            "portion": [0.0, 1.0],
        }
        folder = f"{self.root}/models/initialised/seed{seed}/{name}"
        self.parameters = parameters_of(init.architecture, init.vocabulary_size)
        job = Job(
            "init_model",
            folder,
            spec,
            self.text(others),
            modules=("langmerge.training.init",),
            disk=4 * self.parameters,
        )
        self.add_job(job)
        self.add_model(Model(name, "init", folder, (), seed, f"init, {self.parameters / 1e6:.2f} M parameters"))

    def add_run(
        self,
        seed: int,
        name: str,
        parent: str,
        run: Training,
        data: Sequence[Data],
        recipe: str,
        snapshots: Iterable[int] = (),
        lora: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        parameters: float | None = None,
    ) -> None:
        """A training of ``parent`` on a mixture. ``inputs`` replace those that the mixture names by themselves."""
        # Portion, mixture and loss are in the data; threads and GPUs do not decide what is learnt.
        spec = run.model_dump(mode="json", exclude={"portion", "monolingual", "loss", "threads", "gpus"})
        steps = sorted(set(snapshots))
        spec |= {"parent": parent, "data": list(data), "text_tag": "", "snapshots": steps, "seed": seed}
        if lora:
            spec["lora"] = dict(lora)
        folder = f"{self.root}/models/trained/seed{seed}/{name}"
        size, tokens = parameters or self.parameters, float(run.steps * run.batch_tokens)
        job = Job(
            "train_model",
            folder,
            spec,
            {"model": self.folder_of(seed, parent, name), **(self.inputs_of(data) if inputs is None else inputs)},
            modules=("langmerge.training",),
            threads=run.threads,
            gpus=run.gpus,
            tokens=tokens,
            flops=6 * size * tokens,
            disk=4 * size * (1 + len(steps)),
        )
        self.add_job(job)
        self.add_model(Model(name, "train", folder, (parent.partition("@")[0],), seed, recipe))

    # ---- scores ----------------------------------------------------------------------------------------------------

    def scoring(self) -> dict[str, Any]:
        """What every scoring job needs to know."""
        e = self.study.evaluation
        return {
            "pivot": self.study.pivot,
            "directions": [],
            "decode": {"batch_size": e.batch_size, "max_new_tokens": e.max_new_tokens},
            "splits": {"test": e.test},
        }

    def add_scores(
        self, seed: int, name: str, role: str, group: str, tests: Sequence[Test], model: str = "", **details: Any
    ) -> None:
        """One job that scores a model (``model``, if it is not called ``name``) on all its tests."""
        folder = f"{self.root}/evaluations/seed{seed}/{name}"
        spec = {**self.scoring(), "tests": list(tests)}
        inputs = {"model": self.folder_of(seed, model or name, name), **self.inputs_of(tests)}
        self.add_job(Job("evaluate_model", folder, spec, inputs, modules=("langmerge.evaluation",), gpus=1))
        self.systems.append(System(name, role, group, seed, folder, details))

    def add_sweep(
        self, seed: int, title: str, group: str, entries: Sequence[Entry], measured: Mapping[str, str] | None = None
    ) -> None:
        """A job that makes merges in memory, tunes each on dev and scores the chosen one on test.

        ``group`` is that of its systems, unless an entry's details name another.

        ``measured`` are the inputs ``data/<name>`` of methods that weigh models by data.
        """
        folder = f"{self.root}/sweeps/seed{seed}/{title}"
        entries = [entry | {"keep": entry["keep"] or to_be_scored(self.study, entry)} for entry in entries]
        recipes = [candidate for entry in entries for candidate in entry["candidates"]]
        named = [source for recipe in recipes for source in [*recipe["models"], recipe["base"]]]
        sources = dict.fromkeys(source for source in named if source and not source.startswith("merge:"))
        tests = [test for entry in entries for test in [*entry["tune"], *entry["report"]]]
        for test in (test for entry in entries for test in entry["tune"]):
            if not self.study.offers(test["task"], test["language"], "dev"):
                raise InputError(
                    f"tasks: merges are tuned on dev, and {test['language']} has no dev items of {test['task']}; "
                    f"give {test['task']} some, or merges without lists of values"
                )
        spec = {**self.scoring(), "merges": entries, "dev": self.study.evaluation.dev, "select_by": "mean"}
        inputs = {f"models/{source}": self.folder_of(seed, source, title) for source in sources}
        kept = [entry for entry in entries if entry["keep"]]
        job = Job(
            "sweep_merges",
            folder,
            spec,
            inputs | self.inputs_of(tests) | dict(measured or {}),
            modules=("langmerge.sweeping",),
            gpus=1,
            disk=4 * self.parameters * len(kept),
        )
        self.add_job(job)
        for entry in entries:
            place = f"{folder}/systems/{entry['name']}"
            own = entry["details"].get("group", group)
            self.systems.append(System(entry["name"], entry["role"], own, seed, place, entry["details"]))
        for entry in kept:
            name, parents = entry["name"], tuple(entry["candidates"][0]["models"])
            # Names of merges are those of one group; models have theirs in the whole seed.
            model = name if name.startswith(group) else f"{group}.{name}"
            self.add_model(Model(model, "merge", f"{folder}/merged/{name}", parents, seed, merge_recipe(entry)))

    # ---- diagnoses and report --------------------------------------------------------------------------------------

    def add_diagnosis(
        self, seed: int, title: str, base: str | None, pairs: Sequence[tuple[str, str]], languages: Mapping[str, str]
    ) -> None:
        """A job that measures pairs of models before they are merged; ``languages`` names the language of each."""
        diagnosis = self.study.diagnosis
        if diagnosis is None or not pairs:
            return
        names = list(dict.fromkeys([*(one for pair in pairs for one in pair), *([base] if base else [])]))
        spec = {
            **diagnosis.model_dump(mode="json"),
            "base": base,
            "pairs": [list(pair) for pair in pairs],
            "languages": {name: languages[name] for name in names if name in languages},
            "pivot": self.study.pivot,
        }
        inputs = {f"models/{name}": self.folder_of(seed, name, title) for name in names}
        inputs |= self.text(languages[name] for name in names if name in languages)
        folder = f"{self.root}/diagnoses/seed{seed}/{title}"
        self.add_job(Job("diagnose_pairs", folder, spec, inputs, modules=("langmerge.diagnosis",), gpus=1))

    def add_report(self, listed: bool = True, **extra: Any) -> None:
        """The report reads scores, selections, diagnoses and costs; never weights. ``extra`` goes into its spec.

        ``listed``: whether its command names every system; where all are in sweeps and too many for a command line (a
        shell takes 128 KiB), the report finds them there.
        """
        systems = self.systems if listed else []
        inputs = add_harness(self, self.study.evaluation)
        inputs |= {f"systems/{system.key}": system.folder for system in systems}
        for rule, place in (("diagnose_pairs", "diagnoses"), ("sweep_merges", "sweeps"), ("measure_copies", "copies")):
            for job in self.jobs.values():
                if job.rule == rule:
                    inputs[f"{place}/{job.folder.partition(f'/{place}/')[2]}"] = job.folder
        for model in self.models.values():
            if model.kind in ("train", "grow"):
                inputs[f"costs/seed{model.seed}/{model.name}"] = model.folder
        speed = {"threads": True, "gpus": True}
        runs = {name: speed for name, value in self.study if isinstance(value, Training)}
        spec = {
            "name": self.name,
            "study": self.study.model_dump(mode="json", exclude={"hardware": True, **runs}, by_alias=True),
            "systems": [
                {"key": s.key, "name": s.name, "role": s.role, "group": s.group, "seed": s.seed, **s.details}
                for s in systems
            ],
            "models": [
                {"seed": m.seed, "name": m.name, "kind": m.kind, "parents": list(m.parents), "recipe": m.recipe}
                for m in self.models.values()
            ],
            **extra,
        }
        self.add_job(Job("write_report", f"{self.root}/report", spec, inputs, modules=("langmerge.reporting",)))


# ---- parts of specs ------------------------------------------------------------------------------------------------


def text_part(language: str, weight: float = 1.0, portion: tuple[float, float] = (0.0, 1.0)) -> Data:
    """A part of a mixture: the language's text; every token is asked for."""
    return {"task": "text", "language": language, "loss": "all", "portion": list(portion), "weight": weight}


def examples_part(task: str, language: str, weight: float = 1.0, portion: tuple[float, float] = (0.0, 1.0)) -> Data:
    """A part of a mixture: the language's examples of a task; the answers are asked for."""
    return {
        "task": "examples",
        "name": task,
        "language": language,
        "loss": "target",
        "portion": list(portion),
        "weight": weight,
    }


def tests_of(study: LanguageStudy, tasks: Iterable[str], languages: Iterable[str] | None = None) -> list[Test]:
    """Every task in every language (the study's, or some) that has it."""
    chosen = study.languages if languages is None else list(languages)
    return [
        {"task": task, "language": language} for task in tasks for language in chosen if study.offers(task, language)
    ]


def entry(
    name: str,
    role: str,
    method: str,
    models: Sequence[str],
    base: str | None,
    grid: Grid,
    report: Sequence[Test],
    tune: Sequence[Test] = (),
    keep: bool = False,
    **details: Any,
) -> Entry:
    """One merge of a sweep: a candidate for each point of the grid, tuned on ``tune`` (``report`` when empty)."""
    made = [
        {
            "name": name,
            "method": method,
            "models": list(models),
            "base": base,
            "parameters": catalogue.check(method, parameters, len(models)),
        }
        for parameters in candidates(method, grid)
    ]
    tuned = list(tune or report) if len(made) > 1 else []
    return {
        "name": name,
        "role": role,
        "candidates": made,
        "tune": tuned,
        "report": list(report),
        "keep": keep,
        "details": {"method": method, "models": list(models), **details},
    }


def alone(model: str, role: str, report: Sequence[Test], name: str = "", **details: Any) -> Entry:
    """A model scored as it is, inside a sweep: saves the start of a job of its own. ``name`` if it is called else."""
    return entry(name or model, role, "linear", [model], None, {}, report, **details)


def in_catalogue_order(grids: Mapping[str, Grid]) -> list[tuple[str, Grid]]:
    """Methods with their grids, in one order whatever the study file's: moving its lines reruns nothing."""
    return [(method, grids[method]) for method in catalogue.METHODS if method in grids]
