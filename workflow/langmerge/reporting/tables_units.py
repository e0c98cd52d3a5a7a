"""Language units in numbers: which rows of the measurements the report shows, and the tables of units and tokens.

Tables: :func:`unit_table`, :func:`embedding_table`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import Cell, Table, interval, number

GATE = "mlp_gate"
SITES = {
    GATE: "MLP gate",
    "mlp_product": "MLP product",
    "attention": "attention output",
    "residual": "residual stream",
    "embedding": "embedding output",
}
BASE, JOINT = "base", "joint"
INTERVAL = ["value", "low", "high"]


# ---- what is shown -------------------------------------------------------------------------------------------------


def own_span(group: str) -> str:
    """The span that is in another language in each of the group's directions: source into the pivot, target out."""
    return "target" if group.startswith("from-") else "source"


def in_own_span(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each direction group's :func:`own_span`: in the other one all languages read the same pivot."""
    return table if table.empty else table[table.span == table.group.map(own_span)]


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the study's own ranking, which is the first, by the frozen thresholds where a table has others too."""
    if table.empty:
        return table
    found = table[table.ranking == table.ranking.iloc[0]]
    return found[found.frozen.astype(str) == "True"] if "frozen" in found else found


def languages_of(results: Results, named: pd.Series) -> list[str]:
    """The study's languages in order, then others that rows name (the pivot may be among them)."""
    found = list(dict.fromkeys(named.dropna()))
    return [*(code for code in results.languages if code in found), *(c for c in found if c not in results.languages)]


def colour_index(results: Results, language: str) -> int:
    """A language's place in the palette: that in the study, so that it is equal in all figures."""
    return results.languages.index(language) if language in results.languages else len(results.languages)


def specialists(results: Results, group: str) -> dict[str, str]:
    """Languages by the names of their specialists in a direction group."""
    return {results.direction(group, code): code for code in results.languages}


def means(table: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Means of ``values`` over seeds by ``keys``, in the order of the rows."""
    return table.groupby(keys, sort=False)[values].mean().reset_index()


def seeds_note(results: Results) -> str:
    """A sentence for captions of means over seeds; empty for one seed."""
    return " Means over seeds, intervals those of one seed." if len(results.seeds) > 1 else ""


def ranking_name(ranking: str) -> str:
    """A ranking in print."""
    return {"lape": "LAPE", "mount_doom": "Mount Doom"}.get(ranking, ranking.replace("_", " "))


def ranking_label(table: pd.DataFrame) -> str:
    """The ranking of a table's rows in print."""
    return ranking_name(str(table.ranking.iloc[0]))


def unit_counts(results: Results, ranking: str, frozen: bool) -> pd.DataFrame:
    """Units of gate events by layer and language, by one ranking; empty where it was not measured.

    By the thresholds of the base for all models (``frozen``), or refitted to each model.
    """
    table = results.table("measurements/units")
    if table.empty:
        return table
    return table[(table.site == GATE) & (table.ranking == ranking) & (table.frozen.astype(bool) == frozen)]


def sentences_note(results: Results) -> str:
    """How many sentences and blocks the measurements rest on, for captions."""
    analysis = results.study.get("analysis") or {}
    n, blocks = analysis.get("sentences"), analysis.get("blocks")
    return f"n = {n} sentences a direction in {blocks} blocks" if n and blocks else "over blocks of sentences"


# ---- tables --------------------------------------------------------------------------------------------------------


def unit_table(results: Results) -> Table | None:
    """The base's units by site and language: how many, and at which depth; None without measurements."""
    units, layers = (headline(in_own_span(results.table(f"measurements/{name}"))) for name in ("units", "layers"))
    units = units[units.model == BASE] if len(units) else units
    if units.empty:
        return None
    depths = layers[(layers.model == BASE) & (layers.measure == "centre_of_mass")] if len(layers) else layers
    languages = languages_of(results, units.language)
    body: list[list[Cell]] = []
    rules: list[int] = []
    data: list[dict[str, Any]] = []
    for group in dict.fromkeys(units.group):
        rules.append(len(body))
        for site in sites_of(units[units.group == group]):
            line = [Cell(arrow(group, results.pivot)), Cell(SITES.get(site, site))]
            for code in languages:
                here, depth = (
                    t[(t.group == group) & (t.site == site) & (t.language == code)] if len(t) else t
                    for t in (units, depths)
                )
                count = here.groupby("seed").units.sum().mean()
                value, low, high = (float(depth[c].mean()) if len(depth) else float("nan") for c in INTERVAL)
                row = {"group": group, "site": site, "language": code, "units": count}
                data.append({**row, "depth": value, "depth_low": low, "depth_high": high})
                where = f"{number(value, 2)} {interval(low, high, 2)}" if np.isfinite(value) else ""
                line.append(Cell(f"{number(count, 0)} {f'at {where}' if where else ''}".strip()))
            body.append(line)
    warnings = [str(text) for text in dict.fromkeys(units.warning.dropna()) if str(text)]
    return Table(
        "units",
        "Where the base's language units lie",
        f"Units of the base that belong to each language (ranking: {ranking_label(units)}) and their mean depth "
        "(0: first layer, 1: last; units spread evenly have .50) with the 95 % delete-one-block jackknife interval; "
        f"{sentences_note(results)}. The span in the language itself.{seeds_note(results)}"
        + (f" Caution: {'; '.join(warnings)}." if warnings else ""),
        ["Direction", "Site", *languages],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=2,
    )


def sites_of(table: pd.DataFrame) -> list[str]:
    """Sites of the rows, those of :data:`SITES` first."""
    found = list(dict.fromkeys(table.site))
    return [*(site for site in SITES if site in found), *(site for site in found if site not in SITES)]


def embedding_table(results: Results) -> Table | None:
    """Which tokens of the text are one language's own, so that its embedding rows are; None without measurements."""
    rows = in_own_span(results.table("measurements/embedding_rows"))
    if rows.empty:
        return None
    tokens = in_own_span(results.table("measurements/embedding_tokens"))
    body: list[list[Cell]] = []
    rules: list[int] = []
    data: list[dict[str, Any]] = []
    # Counted from the text: equal for all models and, but for the tokenizer, for all seeds
    numbers = [*INTERVAL, "n", "types", "own_types"]
    mean = means(rows, ["group", "language", "measure"], numbers)
    for groups in _alike(mean):
        rules.append(len(body))
        group, named = groups[0], ", ".join(arrow(one, results.pivot) for one in groups)
        for code in languages_of(results, mean[mean.group == group].language):
            here = mean[(mean.group == group) & (mean.language == code)]
            row: dict[str, Any] = {"groups": " ".join(groups), "language": code}
            row |= {name: float(here[name].iloc[0]) for name in ("n", "types", "own_types")}
            for measure in ("exclusive_share", "entropy"):
                found = here[here.measure == measure]
                row |= {f"{measure}_{name}": float(found[name].mean()) for name in INTERVAL}
            data.append(row)
            own, mixed = ([row[f"{m}_{name}"] for name in INTERVAL] for m in ("exclusive_share", "entropy"))
            body.append(
                [
                    Cell(named),
                    Cell(code),
                    *(Cell(number(row[name], 0)) for name in ("n", "types", "own_types")),
                    Cell(number(100 * own[0], 1)),
                    Cell(interval(100 * own[1], 100 * own[2], 1)),
                    Cell(number(mixed[0], 2)),
                    Cell(interval(mixed[1], mixed[2], 2)),
                ]
            )
    return Table(
        "embedding_rows",
        "Tokens that belong to one language",
        "Tokens of the span in the language itself; own: types of which this language has more than 90 % (by "
        "frequency within languages), and the share of its tokens that are of such types; entropy: over languages, "
        "mean over tokens (0: tokens of one language alone, 1: of all alike). Intervals: 95 %, delete-one-block "
        f"jackknife; {sentences_note(results)}. Counted from the text, so equal for all models."
        f"{_alone(tokens, results.pivot)}",
        ["Direction", "Language", "tokens", "types", "own types", "own tokens, %", "95 %", "entropy", "95 %"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=2,
    )


def _alike(rows: pd.DataFrame) -> list[list[str]]:
    """Direction groups, those with equal numbers together: the text may be the same."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for group, table in rows.groupby("group", sort=False):
        key = tuple(map(tuple, table.drop(columns="group").sort_values(["language", "measure"]).to_numpy()))
        found.setdefault(key, []).append(str(group))
    return list(found.values())


def _alone(tokens: pd.DataFrame, pivot: str) -> str:
    """How many token types one language alone uses, in a sentence."""
    if tokens.empty:
        return ""
    tokens = tokens[tokens.seed == tokens.seed.min()]
    found = [
        f"{arrow(str(group), pivot)} {(table.entropy < 1e-9).sum()} of {len(table)}"
        for group, table in tokens.groupby("group", sort=False)
    ]
    return f" Types that one language alone uses: {', '.join(found)}."
