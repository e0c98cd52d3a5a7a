"""The table of language units by every ranking, with the thresholds of the base and with those of each model."""

from __future__ import annotations

import pandas as pd

from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import Cell, Table, number
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_units import (
    BASE,
    GATE,
    SITES,
    languages_of,
    ranking_name,
    seeds_note,
    specialists,
    unit_counts,
)

PLACES = ["group", "span", "ranking", "frozen"]
THRESHOLDS = {True: "of the base", False: "of each model"}


def ranking_counts(results: Results) -> pd.DataFrame:
    """Units of gate events over all layers, mean over seeds: :data:`PLACES`, model, language, units."""
    table = results.table("measurements/units")
    if table.empty:
        return table
    every = [unit_counts(results, ranking, frozen) for ranking in dict.fromkeys(table.ranking) for frozen in THRESHOLDS]
    keys = [*PLACES, "model", "language"]
    summed = pd.concat(every).groupby(["seed", *keys], sort=False).units.sum()
    return summed.groupby(level=keys, sort=False).mean().reset_index()


def ranking_table(results: Results) -> Table | None:
    """Units by ranking and thresholds in every model: of all languages, in specialists of their own; None without any.

    Spans without a unit by any ranking (the pivot's, before the model knows which language is asked for) are left out.
    """
    counts = ranking_counts(results)
    if counts.empty or not counts.units.any():
        return None
    own = {group: specialists(results, str(group)) for group in dict.fromkeys(counts.group)}
    trained = {name for names in own.values() for name in names}
    others = [model for model in dict.fromkeys(counts.model) if model not in trained]
    languages = [code for code in languages_of(results, counts.language) if code in results.languages]
    body: list[list[Cell]] = []
    rules: list[int] = []
    for (group, span), place in counts.groupby(["group", "span"], sort=False):
        if not place.units.any():
            continue
        rules.append(len(body))
        names = {code: model for model, code in own[group].items()}
        for (ranking, frozen), here in place.groupby(["ranking", "frozen"], sort=False):
            units = here.set_index(["model", "language"]).units
            line = [arrow(str(group), results.pivot), str(span), ranking_name(str(ranking)), THRESHOLDS[bool(frozen)]]
            totals = units.groupby(level="model").sum()
            line += [number(totals.get(model), 0) for model in others]
            pairs = [[units.get((model, code)) for model in (BASE, names[code])] for code in languages]
            line += ["→".join(number(count, 0) for count in pair) for pair in pairs]
            body.append([Cell(text) for text in line])
    head: list[tuple[str, int]] = [("All languages", len(others)), ("Own language, base→specialist", len(languages))]
    return Table(
        "rankings",
        "Language units by ranking",
        f"{SITES[GATE]} events: units of all layers that belong to a language, of all languages together and, for each "
        "specialist, of its own language. Thresholds of the base: equal for all models, so that a model with fewer "
        "selective units has fewer; of each model: refitted, which gives rankings that select a share about as many in "
        "all. LAPE (arXiv 2402.16438) and Mount Doom (arXiv 2604.02881) are those papers' settings; by them a unit may "
        "belong to several languages. Claims P0-6 and P0-7 are tested by Mount Doom, thresholds of each model, target "
        f"span. Intervals, by layer: units.csv of the measurements.{seeds_note(results)}",
        ["Direction", "Span", "Ranking", "Thresholds", *map(model_label, others), *languages],
        body,
        counts,
        [(title, width) for title, width in head if width],
        rules[1:],
        text_columns=4,
    )
