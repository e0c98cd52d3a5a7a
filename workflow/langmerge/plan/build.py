"""Put a study's jobs together, from corpora to the report."""

from __future__ import annotations

from typing import Any

from langmerge.config import Study
from langmerge.plan.corpora import add_corpora
from langmerge.plan.graph import Draft, Job, Plan, direction, directions_of, group_name
from langmerge.plan.models import add_base, add_extra_models, add_joint, add_specialists
from langmerge.plan.scores import add_comparisons, add_evaluation, add_sweeps


def build(study: Study, name: str, root: str = "results") -> Plan:
    """Expand a study into its plan; :class:`InputError` for references that lead nowhere or in a circle."""
    draft = Draft(study, name, root)
    add_corpora(draft)
    for seed in study.seeds:
        add_base(draft, seed)
        add_evaluation(draft, seed, "base", "base", "")
        specialists = {}
        for group in study.directions:
            title = group_name(study, group)
            specialists[group] = add_specialists(draft, seed, group)
            for specialist in specialists[group]:
                add_evaluation(draft, seed, specialist, "specialist", title)
            joint = add_joint(draft, seed, group)
            if joint:
                add_evaluation(draft, seed, joint, "joint", title)
            add_sweeps(draft, seed, group, specialists[group])
        add_extra_models(draft, seed)
        for extra in study.models:
            add_evaluation(draft, seed, extra, "extra", "")
        for group, names in specialists.items():
            _add_measurements(draft, seed, group, names)
    _add_report(draft, add_comparisons(draft))
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


def _add_measurements(draft: Draft, seed: int, group: str, specialists: list[str]) -> None:
    """One job per direction group: base, specialists, joint model and tuned merges on the same sentences."""
    analysis = draft.study.analysis
    if analysis is None:
        return
    title = group_name(draft.study, group)
    names = {name: name for name in ["base", *specialists]}
    if draft.study.joint:
        names["joint"] = f"joint-{title}"
    names |= {method: f"{method}-{title}" for method in analysis.merges}
    spec = {
        **analysis.model_dump(mode="json", exclude={"merges"}),
        "models": list(names),
        "baseline": "base",
        "pivot": draft.study.pivot,
        "prompt": draft.prompt(),
        "directions": [direction(pair) for pair in directions_of(draft.study, group)],
    }
    inputs = {f"models/{label}": draft.folder_of(seed, name, "analysis") for label, name in names.items()}
    folder = f"{draft.root}/measurements/seed{seed}/{title}"
    inputs |= draft.pairs(draft.study.languages)
    draft.add_job(Job("measure_models", folder, spec, inputs, modules=("langmerge.analysis",), gpus=1))


# What decides how fast a study runs, but nothing that it finds.
SPEED: dict[str, Any] = {"threads": True, "gpus": True}
NOT_REPORTED: dict[str, Any] = {"hardware": True, "base": {"train": SPEED}, "specialist": SPEED, "joint": SPEED}


def _add_report(draft: Draft, comparisons: str) -> None:
    """The report reads scores, comparisons, measurements and costs; never weights."""
    inputs = {"comparisons": comparisons, "corpora_check": f"{draft.root}/corpora_check"}
    inputs |= {f"systems/{system.key}": system.folder for system in draft.systems}
    for rule, place in (("measure_models", "measurements"), ("sweep_merges", "sweeps")):
        for job in draft.jobs.values():
            if job.rule == rule:
                inputs[f"{place}/{job.folder.partition(f'/{place}/')[2]}"] = job.folder
    for model in draft.models.values():
        if model.kind == "train":
            inputs[f"costs/seed{model.seed}/{model.name}"] = model.folder
    spec = {
        "name": draft.name,
        "study": draft.study.model_dump(mode="json", exclude=NOT_REPORTED, by_alias=True),
        "systems": [
            {"key": s.key, "name": s.name, "role": s.role, "group": s.group, "seed": s.seed, **s.details}
            for s in draft.systems
        ],
        "models": [
            {"seed": m.seed, "name": m.name, "kind": m.kind, "parents": list(m.parents), "recipe": m.recipe}
            for m in draft.models.values()
        ],
    }
    draft.add_job(Job("write_report", f"{draft.root}/report", spec, inputs, modules=("langmerge.reporting",)))
