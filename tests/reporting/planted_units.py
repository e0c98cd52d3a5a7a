"""Planted tables of language units and of the similarity of representations, as the analysis and the ablation write."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from langmerge.reporting.load import Results

LANGUAGES = ("es", "de", "tr")
GROUPS = ("from-en", "to-en")
LAYERS = 4
OWN, OTHER = 0.03, -0.01  # excess of E of the supervised language, and of unrelated ones; of related ones 0
GAIN = {True: 0.5, False: 0.03}  # excess of information where units sharpen, and where not
MATCHED = 0.02  # change of E of matched units
KEPT, LOST, MOVED = 7, 2, 1  # of the ten units of each language
COST, RANDOM = 0.02, 0.002  # bits per byte of a language's own units, and of random ones

Row = dict[str, Any]


def specialists(group: str, languages: Sequence[str] = LANGUAGES) -> dict[str, str]:
    """Languages by the names of their specialists."""
    return {(f"en-{code}" if group == "from-en" else f"{code}-en"): code for code in languages}


def models(group: str, languages: Sequence[str] = LANGUAGES) -> list[str]:
    return ["base", *specialists(group, languages), "joint", "linear", "task_arithmetic"]


def numbers(value: float, half: float, null: float) -> Row:
    return {"value": value, "low": value - half, "high": value + half, "n": 64, "null": null}


def units_of(model: str, group: str, code: str, layer: int, languages: Sequence[str] = LANGUAGES) -> int:
    """Units of a language in a layer: more at both ends, another number for each language, one less in others."""
    place, own = list(languages).index(code), specialists(group, languages).get(model) == code
    return 2 + 6 * (layer in (0, LAYERS - 1)) + place + 4 * own


def unit_tables(group: str, languages: Sequence[str]) -> dict[str, list[Row]]:
    """Units at three sites; the wrong span, a second ranking and refitted thresholds have 900 units."""
    rows: dict[str, list[Row]] = {"units": [], "layers": [], "flows": [], "turnovers": []}
    own = "target" if group == "from-en" else "source"
    sites = {"mlp_gate": LAYERS, "attention": LAYERS, "embedding": 1}
    cases = itertools.product(models(group, languages), ("source", "target"), ("mutual_information", "lape"), sites)
    for model, span, ranking, site in cases:
        head = {"model": model, "span": span, "site": site, "ranking": ranking}
        for frozen, code in itertools.product((True, False), languages):
            shown = span == own and ranking == "mutual_information" and frozen
            for layer in range(sites[site]):
                units = units_of(model, group, code, layer, languages) if shown else 900
                row = {**head, "frozen": frozen, "layer": layer, "language": code, "units": units, "share": 0.1}
                ends = {"low": units - 1.5, "high": units + 1.5, "share_low": 0.05, "share_high": 0.15}
                rows["units"].append({**row, **ends, "total_units": 100, "tokens": 900, "warning": "few tokens"})
            if sites[site] > 1:
                depth = {**head, "frozen": frozen, "language": code, "measure": "centre_of_mass"}
                rows["layers"].append({**depth, **numbers(0.4 if shown else 0.9, 0.1, 0.5)})
        if model == "base":
            continue
        for kind, names in (("set", [*languages, "none"]), ("argmax", list(languages))):
            for a, b in itertools.product(names, repeat=2):
                units = _flow(kind, a, b, languages) if span == own and ranking == "mutual_information" else 900
                row = {**head, "kind": kind, "language_from": a, "language_to": b, "units": units}
                rows["flows"].append({**row, "low": max(0, units - 2), "high": units + 2})
        for code in languages:
            row = {**head, "language": code, "base_units": 10, "units": 10, "overlap": KEPT, "gained": 3, "lost": 3}
            rows["turnovers"].append({**row, "jaccard": 0.4, "ceiling": 0.8, "low": 0.3, "high": 0.5})
    return rows


def _flow(kind: str, a: str, b: str, languages: Sequence[str]) -> int:
    following = dict(zip(languages, [*languages[1:], languages[0]], strict=True))
    if a == "none":
        return 1200 if b == "none" else 3
    if b == "none":
        return LOST
    if kind == "argmax":
        return {a: KEPT + LOST, following[a]: MOVED}.get(b, 0)
    return {a: KEPT, following[a]: MOVED}.get(b, 0)


def embedding_tables(languages: Sequence[str]) -> dict[str, list[Row]]:
    """Equal in both direction groups; 2 of 3 types belong to one language alone."""
    rows: list[Row] = []
    tokens: list[Row] = []
    for span in ("source", "target"):
        for k, code in enumerate(languages):
            head = {"span": span, "language": code}
            count = {"n": 1000 + k, "types": 200, "own_types": 150}
            rows.append({**head, "measure": "exclusive_share", "value": 0.7, "low": 0.65, "high": 0.75, **count})
            rows.append({**head, "measure": "entropy", "value": 0.2, "low": 0.15, "high": 0.25, **count})
        for token, entropy in enumerate((0.0, 0.0, 0.5)):
            row = {
                "span": span,
                "token": token,
                "tokens": 9,
                "entropy": entropy,
                "language": languages[0],
                "share": 0.9,
            }
            tokens.append(row)
    return {"embedding_rows": rows, "embedding_tokens": tokens}


def redistribution_tables(group: str, languages: Sequence[str]) -> dict[str, list[Row]]:
    """Specialists into the pivot sharpen, those out of it are inconclusive; Turkish is unrelated to the others."""
    rows: list[Row] = []
    verdicts: list[Row] = []
    own = specialists(group, languages)
    sharp = group == "to-en"
    for model, span in itertools.product(models(group, languages), ("source", "target")):
        head = {"model": model, "span": span, "site": "mlp_gate", "ranking": "mutual_information"}
        mass = {**head, "set": "all", "role": "", "language": "", "measure": "mass"}
        rows.append({**mass, **numbers(60 if model in own else 40, 2, 3), "null_low": "", "null_high": ""})
        if model == "base":
            continue
        band = {"null_low": -0.005, "null_high": 0.005}
        change = {**mass, "measure": "mass_change", **numbers(0.5 if sharp else 0.02, 0.05, 0.0)}
        rows.append({**change, "null_low": -0.1, "null_high": 0.1})
        if model not in own:
            continue
        roles = {
            code: "supervised" if code == own[model] else "unrelated" if "tr" in (code, own[model]) else "related"
            for code in languages
        }
        value = {"supervised": OWN if sharp else 0.001, "related": 0.0, "unrelated": OTHER}
        named = [*roles.items(), *(("", role) for role in dict.fromkeys(roles.values()))]
        kinds = itertools.product(("supervised", "union"), ("change", "matched", "excess"))
        for name, kind in kinds:
            shown = name == "supervised" and kind != "change"
            row = {**head, "set": name}
            for code, role in named:
                at = (MATCHED if kind == "matched" else value[role]) if shown else 9.0
                line = {**row, "role": role, "language": code, "measure": f"share_{kind}"}
                rows.append({**line, **numbers(at, 0.01, 0.0), **band})
            at = (-0.2 if kind == "matched" else GAIN[sharp]) if shown else 9.0
            line = {**row, "role": "", "language": "", "measure": f"information_{kind}", **numbers(at, 0.05, 0.0)}
            rows.append({**line, "null_low": -0.1, "null_high": 0.1})
        called = ("sharpens", "both rise") if sharp else ("inconclusive", "no more than between sentences")
        row = {**head, "language": own[model], "units": 50}
        for part, at in (
            *(("supervised", value["supervised"]), ("elsewhere", OTHER)),
            *(("information", GAIN[sharp]), ("matched", MATCHED)),
        ):
            row |= {f"{part}_change": at, f"{part}_low": at - 0.01, f"{part}_high": at + 0.01}
        verdicts.append({**row, "verdict": called[0], "reason": called[1]})
    return {"redistribution": rows, "verdicts": verdicts}


def similarity_tables(group: str, languages: Sequence[str]) -> dict[str, list[Row]]:
    """Pairs of models by kind: .9 less .1 a layer, merge and base .99; languages .5, without lengths .3."""
    cka: list[Row] = []
    similarity: list[Row] = []
    within: list[Row] = []
    names, own = models(group, languages), specialists(group, languages)
    for span, layer, direction in itertools.product(("source", "target"), range(LAYERS + 1), own):
        for (a, b), variant in itertools.product(itertools.combinations(names, 2), ("raw", "zscore")):
            near = 0.99 if a == "base" and b in ("linear", "task_arithmetic") else 0.9 - 0.1 * layer
            near = near if variant == "raw" else 0.0
            head = {"span": span, "direction": direction, "layer": layer, "layers": LAYERS}
            pair = {"model_a": a, "model_b": b, "variant": variant}
            line = {"n": 64, "cka": near, "cka_biased": near, "anc": near, "null_mean": 0.0, "null_high": 0.05}
            cka.append({**head, **pair, **line, "standard_error": 0.01, "dropped": 0})
            measures = {"anc": (near, 0.1), "mutual_neighbours": (near, 0.15)}
            measures |= {"procrustes": (1 - near, 1.2)} if a == "base" else {}
            for measure, (value, null) in measures.items():
                similarity.append({**head, "pool": "mean", **pair, "measure": measure, **numbers(value, 0.02, null)})
        rank = {"span": span, "direction": direction, "layer": layer, "layers": LAYERS, "pool": "mean"}
        rank |= {"model_a": "base", "model_b": "", "variant": "raw", "measure": "stable_rank"}
        similarity.append({**rank, **numbers(9, 1, 0), "null": ""})
    span = "target" if group == "from-en" else "source"
    cases = itertools.product(names, range(LAYERS + 1), itertools.combinations(languages, 2), ("raw", "length"))
    for (model, layer, (a, b), variant), pool in itertools.product(cases, ("mean", "last")):
        head = {"model": model, "span": span, "layer": layer, "layers": LAYERS, "pool": pool, "variant": variant}
        head |= {"language_a": a, "language_b": b, "direction_a": f"en-{a}", "direction_b": f"en-{b}"}
        value = {"raw": 0.5, "length": 0.3}[variant] + 0.1 * layer if pool == "mean" else 0.0
        for measure in ("cka", "anc", "mutual_neighbours", "procrustes"):
            within.append({**head, "measure": measure, **numbers(value, 0.02, 0.05)})
    return {"cka": cka, "similarity": similarity, "languages": within}


def ablation_rows(group: str, languages: Sequence[str]) -> list[Row]:
    """Own units cost ten times what random ones do, clearly out of the pivot and not into it; others as random ones."""
    rows = []
    for model, off, read in itertools.product(("base", "linear"), languages, languages):
        value, half = (COST, 0.005 if group == "from-en" else 0.05) if off == read else (RANDOM, 0.002)
        row = {"model": model, "site": "mlp_gate", "ranking": "mutual_information", "units_of": off, "language": read}
        row |= {"units": 12, "draws": 8, "n": 32, "bytes": 1500, "intact": 0.5}
        row |= {"value": value, "low": value - half, "high": value + half}
        row |= {"null": RANDOM, "null_low": RANDOM - 0.01, "null_high": RANDOM + 0.01}
        excess = value - RANDOM
        rows.append({**row, "excess": excess, "excess_low": excess - half, "excess_high": excess + half})
    return rows


def planted(results: Results, languages: Sequence[str] = LANGUAGES) -> Results:
    """``results`` with all of these tables, as :func:`langmerge.reporting.load.load` would give them."""
    found: dict[str, list[pd.DataFrame]] = {}
    for group in GROUPS:
        tables = unit_tables(group, languages) | embedding_tables(languages)
        tables |= redistribution_tables(group, languages) | similarity_tables(group, languages)
        named = {f"measurements/{name}": rows for name, rows in tables.items()}
        named["ablation/ablation"] = ablation_rows(group, languages)
        for name, rows in named.items():
            # Empty cells are NaN, as in a file
            table = pd.DataFrame(rows).replace("", float("nan")).infer_objects()
            found.setdefault(name, []).append(table.assign(seed=1, group=group))
    for name, parts in found.items():
        results = results.with_table(name, pd.concat(parts, ignore_index=True))
    return results


def bare(languages: Sequence[str] = LANGUAGES, seeds: Sequence[int] = (1,)) -> Results:
    """Results of a study that has measured nothing."""
    study: Row = {"title": "planted", "pivot": "en", "languages": list(languages), "seeds": list(seeds)}
    study |= {"directions": ["from_pivot", "to_pivot"], "analysis": {"sentences": 64, "blocks": 16}}
    empty = pd.DataFrame()
    return Results(spec={"study": study}, folders={}, systems=empty, scores=empty, rates=empty)
