"""The graph of a study of pre-training: monolingual, mixed and branching models, merged and compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from langmerge.config import Pretraining
from langmerge.plan.graph import SNAPSHOT, Plan
from langmerge.plan.language_draft import (
    Entry,
    LanguageDraft,
    Test,
    alone,
    entry,
    in_catalogue_order,
    tests_of,
    text_part,
)

TRUNK = "mixed-trunk"


def build(study: Pretraining, name: str, root: str) -> Plan:
    """Expand the study into its plan."""
    draft = LanguageDraft(study, name, root)
    draft.add_data()
    for seed in study.seeds:
        add_replicate(draft, study, seed)
    draft.add_report()
    return Plan(name, study, draft.models, tuple(draft.systems), draft.jobs)


def add_replicate(draft: LanguageDraft, study: Pretraining, seed: int) -> None:
    """All models, merges and diagnoses of one seed. One sweep scores them all: models too, as they are."""
    tests = tests_of(study, ["text", "minimal_pairs"])
    draft.add_origin(seed)
    entries = [alone("origin", "origin", tests)]
    for initialisation in study.initialisations:
        names = add_monolingual(draft, study, seed, initialisation)
        entries += [
            alone(name, "monolingual", tests, language=language, group=initialisation)
            for name, language in names.items()
        ]
        entries += merges(study, initialisation, names, "origin", tests)
        pairs = list(itertools.combinations(names, 2))
        draft.add_diagnosis(seed, initialisation, "origin" if initialisation == "shared" else None, pairs, names)
    for kind in study.mixed:
        steps = study.run.steps * (len(study.languages) if kind == "each" else 1)
        run = study.run.model_copy(update={"steps": steps})
        draft.add_run(seed, f"mixed-{kind}", "origin", run, mixture(study), f"mixed, {steps} steps")
        entries.append(alone(f"mixed-{kind}", "mixed", tests, tokens=kind))
    entries += branches(draft, study, seed, tests)
    draft.add_sweep(seed, "all", "", entries)


def mixture(study: Pretraining) -> list[dict[str, object]]:
    """The text of all languages in equal shares of tokens."""
    return [text_part(language) for language in study.languages]


def add_monolingual(draft: LanguageDraft, study: Pretraining, seed: int, initialisation: str) -> dict[str, str]:
    """One model per language, from shared weights or from its own; language by model name."""
    names = {}
    for number, language in enumerate(study.languages, start=1):
        parent = "origin"
        name = f"mono-{language}"
        if initialisation == "different":
            parent, name = f"origin-{language}", f"mono-{language}-own"
            draft.add_origin(seed, parent, weights_seed=1000 * number + seed)
        recipe = f"{language} from {'shared' if initialisation == 'shared' else 'its own'} random weights"
        draft.add_run(seed, name, parent, study.run, [text_part(language)], recipe)
        names[name] = language
    return names


def merges(
    study: Pretraining, initialisation: str, names: dict[str, str], base: str, tests: Sequence[Test]
) -> list[Entry]:
    """All models of an initialisation merged, and every pair of them."""
    suffix = "" if initialisation == "shared" else "-own"
    entries = [
        entry(
            f"{method}{suffix}",
            "merge",
            method,
            list(names),
            base,
            grid,
            tests,
            group=initialisation,
            languages=study.languages,
        )
        for method, grid in in_catalogue_order(study.merging.all)
    ]
    return [*entries, *pair_merges(study, initialisation, names, base, tests, suffix)]


def pair_merges(
    study: Pretraining, group: str, names: dict[str, str], base: str, tests: Sequence[Test], suffix: str
) -> list[Entry]:
    """Every pair of some models merged, scored in its two languages."""
    entries = []
    for (a, b), (method, grid) in itertools.product(
        itertools.combinations(names, 2), in_catalogue_order(study.merging.pairs)
    ):
        languages = [names[a], names[b]]
        own = [test for test in tests if test["language"] in languages]
        title = f"{method}.{'+'.join(languages)}{suffix}"
        entries.append(entry(title, "pair", method, [a, b], base, grid, own, group=group, languages=languages))
    return entries


def branches(draft: LanguageDraft, study: Pretraining, seed: int, tests: Sequence[Test]) -> list[Entry]:
    """Monolingual branches of a mixed trunk at each share of the steps, and their merges; what is to be scored."""
    if study.branches is None:
        return []
    total, entries = study.run.steps, []
    points = {share: round(share * total) for share in sorted(set(study.branches.shares)) if share}
    if points:
        # One run with snapshots: what a branch at p starts from is what a branch at q > p passed through.
        trunk = study.run.model_copy(update={"steps": max(points.values()), "schedule": "constant"})
        recipe = f"mixed, {trunk.steps} steps at a constant learning rate"
        draft.add_run(seed, TRUNK, "origin", trunk, mixture(study), recipe, snapshots=points.values())
    for share in sorted(set(study.branches.shares)):
        group, names, base = "shared", {f"mono-{language}": language for language in study.languages}, "origin"
        if share:
            group, start = f"branch-{share:g}", points[share]
            base = TRUNK if start == max(points.values()) else f"{TRUNK}{SNAPSHOT}{start}"
            run = study.run.model_copy(update={"steps": total - start})
            names = {f"{group}-{language}": language for language in study.languages}
            for name, language in names.items():
                draft.add_run(seed, name, base, run, [text_part(language)], f"{language} after {start} mixed steps")
                entries.append(alone(name, "branch", tests, language=language, share=share, group=group))
            draft.add_diagnosis(seed, group, base, list(itertools.combinations(names, 2)), names)
        entries += [
            entry(
                f"{method}@{share:g}", "branch_merge", method, list(names), base, grid, tests, share=share, group=group
            )
            for method, grid in in_catalogue_order(study.branches.merges)
        ]
        if share:
            entries += pair_merges(study, group, names, base, tests, f"@{share:g}")
    return entries
