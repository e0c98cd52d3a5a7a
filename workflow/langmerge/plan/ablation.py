"""Jobs that switch off the language units of models."""

from __future__ import annotations

from collections.abc import Sequence

from langmerge.plan.graph import Draft, Job, direction, directions_of, group_name
from langmerge.provenance import InputError

BASELINE = "base"
DEFAULT = "mutual_information"  # average precision ranks sentences, not firing


def add_ablation(draft: Draft, seed: int, group: str, specialists: Sequence[str]) -> None:
    """One job for a direction group and seed, on models that are observed; after :func:`.analysis.add_measurements`.

    None where `analysis` or `analysis.ablation` is empty. :class:`InputError` for a model that is not observed.
    """
    study, analysis = draft.study, draft.study.analysis
    if analysis is None or analysis.ablation is None:
        return
    title = group_name(study, group)
    labels = {BASELINE: BASELINE} | dict(zip(study.languages, specialists, strict=True))
    labels |= {"joint": "joint"} if study.joint else {}
    labels |= {method: method for method in analysis.merges}
    if wrong := [name for name in analysis.ablation.models if name not in labels]:
        raise InputError(f"analysis.ablation.models: no model {wrong[0]}; expected some of {', '.join(labels)}")
    chosen = list(dict.fromkeys(labels[name] for name in analysis.ablation.models))
    root = f"{draft.root}/observations/seed{seed}/{title}"
    spec = {
        **analysis.ablation.model_dump(mode="json", exclude={"models"}),
        "models": chosen,
        "baseline": BASELINE,
        "ranking": DEFAULT if analysis.neurons == "average_precision" else analysis.neurons,
        "top": analysis.top,
        "blocks": analysis.blocks,
        "split": analysis.split,
        "seed": analysis.seed,
        "pivot": study.pivot,
        "prompt": draft.prompt(),
        "directions": [direction(pair) for pair in directions_of(study, group)],
    }
    observed = dict.fromkeys([BASELINE, *chosen])
    inputs = {f"observations/{label}": f"{root}/{label}" for label in observed}
    inputs |= {f"models/{label}": draft.jobs[f"{root}/{label}"].inputs["model"] for label in chosen}
    folder = f"{draft.root}/ablation/seed{seed}/{title}"
    inputs |= draft.pairs(study.languages)
    draft.add_job(Job("ablate_units", folder, spec, inputs, modules=("langmerge.ablation",), gpus=1))
