"""Put a study's jobs together, from corpora to the report."""

from __future__ import annotations

from typing import Any

from langmerge.config import Distance, Growth, LanguageStudy, Maintenance, Pretraining, Study
from langmerge.plan import distance, growth, maintenance, pretraining
from langmerge.plan.ablation import add_ablation
from langmerge.plan.analysis import add_measurements
from langmerge.plan.corpora import add_corpora
from langmerge.plan.damage import add_damage
from langmerge.plan.graph import Draft, Job, Plan, group_name
from langmerge.plan.harness import add_harness
from langmerge.plan.landscape import add_landscape
from langmerge.plan.models import add_base, add_extra_models, add_joint, add_specialists
from langmerge.plan.patches import add_patches
from langmerge.plan.replication import add_replication
from langmerge.plan.scores import add_comparisons, add_evaluation, add_sweeps
from langmerge.plan.weighing import add_weighing


def build(study: Study | LanguageStudy, name: str, root: str = "results") -> Plan:
    """Expand a study into its plan; :class:`InputError` for references that lead nowhere or in a circle."""
    if isinstance(study, Pretraining):
        return pretraining.build(study, name, root)
    if isinstance(study, Maintenance):
        return maintenance.build(study, name, root)
    if isinstance(study, Distance):
        return distance.build(study, name, root)
    if isinstance(study, Growth):
        return growth.build(study, name, root)
    assert isinstance(study, Study), type(study)
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
            add_measurements(draft, seed, group, names)
            add_landscape(draft, seed, group, names)
            add_weighing(draft, seed, group, names)
            add_ablation(draft, seed, group, names)
            add_patches(draft, seed, group, names)
    comparisons = add_comparisons(draft)
    add_damage(draft, comparisons)
    add_replication(draft)
    _add_report(draft, comparisons)
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


# What decides how fast a study runs, but nothing that it finds.
SPEED: dict[str, Any] = {"threads": True, "gpus": True}
NOT_REPORTED: dict[str, Any] = {"hardware": True, "base": {"train": SPEED}, "specialist": SPEED, "joint": SPEED}


def _add_report(draft: Draft, comparisons: str) -> None:
    """The report reads scores, comparisons, measurements and costs; never weights."""
    inputs = {"comparisons": comparisons, "corpora_check": f"{draft.root}/corpora_check"}
    inputs |= add_harness(draft, draft.study.evaluation)
    inputs |= {f"systems/{system.key}": system.folder for system in draft.systems}
    for rule, place in (
        ("measure_models", "measurements"),
        ("survey_landscape", "landscape"),
        ("ablate_units", "ablation"),
        ("calibrate_model", "calibrations"),
        ("sweep_merges", "sweeps"),
        ("weigh_models", "weighing"),
        ("sweep_patches", "patches"),
    ):
        for job in draft.jobs.values():
            if job.rule == rule:
                inputs[f"{place}/{job.folder.partition(f'/{place}/')[2]}"] = job.folder
    for name in ("damage", "replication"):
        if (folder := f"{draft.root}/{name}") in draft.jobs:
            inputs[name] = folder
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
