"""Jobs that make models: base, specialists, joint models, and whatever `models:` adds to the graph."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from langmerge import catalogue
from langmerge.config import ExtraModel, Growing, Import, MergeSpec, Training
from langmerge.host_memory import sizes_in, sizes_of
from langmerge.plan.graph import (
    SNAPSHOT,
    Draft,
    Graph,
    Job,
    Model,
    Pair,
    direction_name,
    directions_of,
    group_name,
    imported_parameters,
    parameters_of,
)
from langmerge.provenance import InputError


def add_training(
    draft: Draft,
    seed: int,
    name: str,
    parent: str,
    run: Training,
    directions: list[Pair],
    recipe: str,
    snapshots: list[int] | None = None,
) -> None:
    """A training of ``parent`` on translation in ``directions``, mixed with plain sentences as the run says."""
    pivot, steps = draft.study.pivot, sorted(set(snapshots or []))
    languages = list(dict.fromkeys(b if a == pivot else a for a, b in directions))
    part = {"portion": list(run.portion)}
    data: list[dict[str, Any]] = [
        {
            "task": "translate",
            "source": a,
            "target": b,
            "loss": run.loss,
            **part,
            "weight": (1 - run.monolingual) / len(directions),
        }
        for a, b in directions
    ]
    if run.monolingual:
        spoken = [pivot, *languages]
        data += [
            {"task": "text", "language": code, "loss": "all", **part, "weight": run.monolingual / len(spoken)}
            for code in spoken
        ]
    # Portion, mixture and loss are in the data already; threads and GPUs do not decide what is learnt.
    spec = run.model_dump(mode="json", exclude={"portion", "monolingual", "loss", "threads", "gpus"})
    spec |= {
        "parent": parent,
        "data": data,
        "prompt": draft.prompt(),
        "text_tag": "<{code}>",
        "snapshots": steps,
        "seed": seed,
    }
    folder = f"{draft.root}/models/trained/seed{seed}/{name}"
    inputs = {"model": draft.folder_of(seed, parent, f"models.{name}.train.parent"), **draft.pairs(languages)}
    tokens = float(run.steps * run.batch_tokens)
    draft.add_job(
        Job(
            "train_model",
            folder,
            spec,
            inputs,
            modules=("langmerge.training",),
            threads=run.threads,
            gpus=run.gpus,
            tokens=tokens,
            flops=6 * draft.parameters * tokens,
            disk=4 * draft.parameters * (1 + len(steps)),
        )
    )
    draft.add_model(Model(name, "train", folder, (parent,), seed, recipe))


def import_job(root: str, seed: int, name: str, recipe: Import) -> tuple[str, Job, Model]:
    """Folder, job and node of a model from the Hub or a local folder."""
    folder = f"{root}/models/imported/seed{seed}/{name}"
    local = Path(recipe.source)
    files = tuple(str(path) for path in sorted(local.glob("*.json"))) if local.is_dir() else ()
    spec = recipe.model_dump(mode="json", exclude={"parameters"})
    job = Job("import_model", folder, spec, files=files, modules=("langmerge.training.import_model",))
    return folder, job, Model(name, "import", folder, (), seed, f"import {recipe.source}")


def add_import(draft: Draft, seed: int, name: str, recipe: Import) -> None:
    """A model from the Hub or a local folder."""
    _, job, model = import_job(draft.root, seed, name, recipe)
    draft.add_job(job)
    draft.add_model(model)


def add_base(draft: Draft, seed: int) -> None:
    """The common ancestor `base`; where it is trained, what it starts from is called `origin`."""
    base, study = draft.study.base, draft.study
    origin = "origin" if base.train else "base"
    if base.init:
        spec = {
            **base.init.model_dump(mode="json"),
            "languages": base.languages,
            "pivot": study.pivot,
            "seed": seed,
            "special_tokens": [f"<{code}>" for code in [study.pivot, *base.languages]],
            "portion": [0.0, 1.0],
        }
        folder = f"{draft.root}/models/initialised/seed{seed}/{origin}"
        draft.parameters = parameters_of(base.init.architecture, base.init.vocabulary_size)
        draft.sizes = sizes_of(base.init.architecture, base.init.vocabulary_size)
        draft.add_job(
            Job(
                "init_model",
                folder,
                spec,
                draft.pairs(base.languages),
                modules=("langmerge.training.init",),
                disk=4 * draft.parameters,
            )
        )
        size = f"init, {draft.parameters / 1e6:.2f} M parameters"
        draft.add_model(Model(origin, "init", folder, (), seed, size))
    elif base.import_:
        draft.parameters = imported_parameters(base.import_)
        add_import(draft, seed, origin, base.import_)
        # A model on the Hub is known once it is imported
        draft.sizes = sizes_in(Path(base.import_.source), Path(draft.folder_of(seed, origin, "base")))
    if base.train:
        directions = [pair for group in study.directions for pair in directions_of(study, group, base.languages)]
        add_training(draft, seed, "base", origin, base.train, directions, f"train on {', '.join(base.languages)}")


def add_specialists(draft: Draft, seed: int, group: str) -> list[str]:
    """One specialist per language of a direction group, with the snapshots that the drift curve merges; their names."""
    study = draft.study
    drift = study.merging.drift
    snapshots = [step for step in drift.steps if step < study.specialist.steps] if drift else []
    names = []
    for pair in directions_of(study, group):
        names.append(direction_name(pair))
        recipe = f"train {pair[0]} to {pair[1]}"
        add_training(draft, seed, names[-1], "base", study.specialist, [pair], recipe, snapshots)
    return names


def add_joint(draft: Draft, seed: int, group: str) -> str | None:
    """The model trained on all languages of a direction group, if the study has one; its name."""
    study = draft.study
    if not study.joint:
        return None
    name = f"joint-{group_name(study, group)}"
    add_training(draft, seed, name, "base", study.joint, directions_of(study, group), "train on all languages")
    return name


def add_extra_models(draft: Draft, seed: int) -> None:
    """The models of `models:`, each after its parents; :class:`InputError` for a cycle."""
    extras = draft.study.models
    graph = {name: [p for p in map(_stem, _parents(extra)) if p in extras] for name, extra in extras.items()}
    try:
        ordered = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = " <- ".join(error.args[1])
        raise InputError(f"models: {cycle} is a cycle; a model cannot be its own ancestor") from None
    for name in ordered:
        extra = extras[name]
        if extra.import_:
            add_import(draft, seed, name, extra.import_)
        elif extra.train:
            parent, run = extra.train.parent, extra.train.train
            for pair in extra.train.directions:
                _check_direction(draft, name, pair)
            add_training(draft, seed, name, parent, run, list(extra.train.directions), f"train from {parent}")
        elif extra.grow:
            add_grown(draft, seed, name, extra.grow.parent, extra.grow, f"models.{name}.grow.parent")
        elif extra.merge:
            add_fixed_merge(draft, seed, name, extra.merge)


def add_grown(draft: Graph, seed: int, name: str, parent: str, grow: Growing, needed_by: str = "") -> None:
    """A model made larger without training; noise takes the replicate's seed where the recipe names none."""
    factor = grow.parameters.get("width", 2) ** 2 if grow.method == "hyperclone" else grow.parameters.get("depth", 2)
    job = Job(
        "grow_model",
        f"{draft.root}/models/grown/seed{seed}/{name}",
        grow.spec(seed),
        {"model": draft.folder_of(seed, parent, needed_by or name)},
        modules=("langmerge.growing",),
        gpus=1,
        disk=4 * draft.parameters * factor,  # at most: embeddings grow less than that
    )
    draft.add_job(job)
    draft.add_model(Model(name, "grow", job.folder, (parent.partition(SNAPSHOT)[0],), seed, f"{grow.method} {parent}"))


def add_fixed_merge(draft: Draft, seed: int, name: str, merge: MergeSpec) -> None:
    """A merge with fixed parameters, as a model of its own."""
    try:
        parameters = catalogue.check(merge.method, merge.parameters, len(merge.models))
    except ValueError as error:
        raise InputError(f"models.{name}.merge: {error}") from None
    if catalogue.METHODS[merge.method].data or catalogue.METHODS[merge.method].search:
        raise InputError(
            f"models.{name}.merge.method: {merge.method} needs data of each model's own direction; "
            "put it under merging.all or merging.pairs, which merge specialists"
        )
    if catalogue.METHODS[merge.method].needs_base and merge.base is None:
        raise InputError(
            f"models.{name}.merge.base: {merge.method} works on task vectors; name the common ancestor, e.g. base: base"
        )
    sources = [*merge.models, *([merge.base] if merge.base else [])]
    recipe = {
        "name": name,
        "method": merge.method,
        "models": merge.models,
        "base": merge.base,
        "parameters": parameters,
    }
    folder = f"{draft.root}/models/merged/seed{seed}/{name}"
    inputs = {f"models/{source}": draft.folder_of(seed, source, f"models.{name}.merge") for source in sources}
    draft.add_job(
        Job(
            "merge_models",
            folder,
            {"recipe": recipe},
            inputs,
            modules=("langmerge.merging",),
            disk=4 * draft.parameters,
        )
    )
    draft.add_model(Model(name, "merge", folder, tuple(sources), seed, f"{merge.method} of {', '.join(merge.models)}"))


def _check_direction(draft: Draft, name: str, pair: Pair) -> None:
    languages = draft.languages()
    if draft.study.pivot not in pair or not set(pair) <= {draft.study.pivot, *languages} or pair[0] == pair[1]:
        raise InputError(
            f"models.{name}.train.directions: {list(pair)}: "
            f"expected {draft.study.pivot} and one of {', '.join(languages)}"
        )


def _parents(extra: ExtraModel) -> list[str]:
    if extra.train:
        return [extra.train.parent]
    if extra.grow:
        return [extra.grow.parent]
    if extra.merge:
        return [*extra.merge.models, *([extra.merge.base] if extra.merge.base else [])]
    return []


def _stem(name: str) -> str:
    return name.partition(SNAPSHOT)[0]
