"""The graph of a study of distance: a base, a specialist of each transform, every pair merged and diagnosed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from langmerge.config import Distance
from langmerge.plan.graph import Plan
from langmerge.plan.language_draft import Entry, LanguageDraft, alone, entry, in_catalogue_order, tests_of, text_part
from langmerge.provenance import canonical

TWIN = "twin"
AT_ONCE = 90_000  # characters of a sweep's merges: a shell takes commands of 128 KiB
GROUP = "merges"  # of the systems of a seed, and the name of their sweep
TASKS = ("text", "minimal_pairs")


def build(study: Distance, name: str, root: str) -> Plan:
    """Expand the study into its plan."""
    draft = LanguageDraft(study, name, root)
    draft.add_data()
    for seed in study.seeds:
        add_replicate(draft, study, seed)
    draft.add_report(listed=False)
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


def add_replicate(draft: LanguageDraft, study: Distance, seed: int) -> None:
    """Base, specialists, pair merges and diagnoses of one seed."""
    codes = sorted(study.corpora())  # whoever of them gets a specialist
    everything = [text_part(code, study.weights.get(code, 1.0)) for code in codes]
    draft.add_origin(seed)
    draft.add_run(seed, "base", "origin", study.base, everything, "train on all languages")
    models = specialists(draft, study, seed)
    tests = tests_of(study, TASKS)
    merges = [alone("base", "base", tests)]
    for model, language in models.items():
        merges.append(alone(model, "specialist", tests_of(study, TASKS, [language]), language=language))
    pairs = list(itertools.combinations(models, 2))
    for method, grid in in_catalogue_order(study.merging.pairs):
        for a, b in pairs:
            own = tests_of(study, TASKS, dict.fromkeys([models[a], models[b]]))
            merges.append(entry(f"{method}.{a}+{b}", "pair", method, [a, b], "base", grid, own))
    own_models = [model for model in models if model != TWIN]
    for method, grid in in_catalogue_order(study.merging.all):
        merges.append(entry(f"{method}.all", "merge", method, own_models, "base", grid, tests))
    add_sweeps(draft, seed, merges)
    draft.add_diagnosis(seed, "all", "base", pairs, models)


def add_sweeps(draft: LanguageDraft, seed: int, merges: Sequence[Entry]) -> None:
    """As few sweeps as :data:`AT_ONCE` lets: each saves the start of a job. Numbered from the second on."""
    parts: list[list[Entry]] = [[]]
    length = 0
    for merge in merges:
        length += len(canonical(merge)) + 1
        if parts[-1] and length > AT_ONCE:
            parts.append([])
            length = len(canonical(merge)) + 1
        parts[-1].append(merge)
    for number, part in enumerate(parts, 1):
        name = GROUP if number == 1 else f"{GROUP}-{number}"
        draft.add_sweep(seed, name, GROUP, part)


def specialists(draft: LanguageDraft, study: Distance, seed: int) -> dict[str, str]:
    """A specialist of each language, and the first language's twin; language by model name.

    The twin, and the specialist that it is paired with, read halves of the sentences that share none.
    """
    start, end = study.specialist.portion
    halfway = (start + end) / 2
    models: dict[str, str] = {}
    for language in study.languages:
        models[language] = language
    if study.twin:
        models[TWIN] = study.languages[0]
    for model, language in models.items():
        portion = (halfway, end) if model == TWIN else (start, halfway if study.twin else end)
        data = [text_part(language, 1 - study.replay, portion)]
        if study.replay:
            data += [text_part(code, study.replay / len(study.corpora())) for code in sorted(study.corpora())]
        draft.add_run(seed, model, "base", study.specialist, data, f"train on {language}")
    return models
