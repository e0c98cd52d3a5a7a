"""Every measure of a pair of languages that the stages' tables hold, in one long form; the mapping stands here alone.

A measure is one number for an unordered pair of languages: of their two specialists, of the two languages in the base,
or of one number for each language their ``mean`` and their ``gap`` (absolute difference). Where a table has layers, the
``mean`` over them (and for some the ``last``); where it has directions, the mean over those of the pair's languages.
Numbers of single layers and modules, of further rankings and sites of units stay out: each would be one more test. So
do flows of units, which are of a model and two languages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from langmerge.provenance import InputError

COLUMNS = ["language_a", "language_b", "measure", "value"]


@dataclass(frozen=True)
class Table:
    """Measures in ``<place>/<file>.csv``; in the long form they are called ``<prefix>.<value>.<names>.<layers>``.

    ``subject``: the columns that a row is of: two models, two languages, a model and a language, or one of them; rows
    of a specialist and its own language are left out. ``values``: columns of numbers, with what each is called.
    ``names``: columns that tell measures apart. ``where``: what columns must be one of. ``layers``: over a column
    ``layer``, ``mean`` or ``last``. ``directed``: whether a column ``direction`` says on which sentences.
    """

    place: str
    file: str
    prefix: str
    subject: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=lambda: {"value": ""})
    names: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    directed: bool = False

    @property
    def title(self) -> str:
        """What the table is called where it is missing."""
        return f"{self.place}/{self.file}.csv: {self.prefix}"

    @property
    def texts(self) -> list[str]:
        """Columns that are read as text."""
        return [*self.subject, *self.names, *self.where, *(["direction"] if self.directed else [])]

    @property
    def needed(self) -> list[str]:
        """All columns that are read."""
        return [*dict.fromkeys([*self.texts, *self.values, *(["layer"] if self.layers else [])])]


MODELS, LANGUAGES = ("model_a", "model_b"), ("language_a", "language_b")
UNITS = {"site": ("mlp_gate",), "ranking": ("mutual_information",)}
WHOLE, BASE, RAW = {"scope": ("global",)}, {"model": ("base",)}, {"variant": ("raw",)}

TABLES = (
    Table("weighing", "pairs", "weights", MODELS, names=("measure",), where=WHOLE),
    Table("weighing", "subspaces", "subspaces", MODELS, names=("measure", "side"), where=WHOLE),
    Table(
        "weighing", "task_vectors", "task_vector", ("model",),
        names=("measure",), where={**WHOLE, "measure": ("norm", "effective_rank")},
    ),
    Table(
        "measurements", "cka", "representations", MODELS,
        {"cka": "cka", "anc": "anc"}, ("span",), RAW, ("mean", "last"), directed=True,
    ),
    Table(
        "measurements", "angles", "representations", MODELS,
        {"median_degrees": "angle"}, ("span",), layers=("mean", "last"), directed=True,
    ),
    Table(
        "measurements", "similarity", "representations", MODELS, names=("measure", "span"),
        where={**RAW, "measure": ("mutual_neighbours", "procrustes")}, layers=("mean",), directed=True,
    ),
    Table("measurements", "usage", "neurons", MODELS, {"nua": "usage"}, ("span",), layers=("mean",)),
    Table(
        "measurements", "languages", "languages_in_base", LANGUAGES, names=("measure",), layers=("mean", "last"),
        where={**BASE, **RAW, "pool": ("mean",), "measure": ("cka", "anc", "mutual_neighbours", "procrustes")},
    ),
    Table(
        "measurements", "overlaps", "units_in_base", LANGUAGES, {"jaccard": "jaccard"}, ("span",),
        {**BASE, **UNITS, "frozen": ("True",)},
    ),
    Table(
        "measurements", "turnovers", "units_of_other_language", ("model", "language"), {"jaccard": "kept"}, ("span",),
        UNITS,
    ),
    Table("landscape", "barriers", "landscape", MODELS, names=("measure",), where={"language": ("mean",)}),
    Table("landscape", "fisher", "fisher", LANGUAGES, names=("measure", "at"), where={"layer": ("all",)}),
    Table("landscape", "gradients", "gradients", LANGUAGES, names=("measure",), where={"layer": ("all",)}),
    Table("landscape", "losses", "base_loss", ("language",), {"loss": ""}, where=BASE),
    Table("landscape", "losses", "loss_on_other_language", ("model", "language"), {"loss": ""}),
)  # fmt: skip


def read(
    folders: Mapping[str, Path], specialists: Mapping[str, str], directions: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """All measures of one seed and direction group (:data:`COLUMNS`), and of each table that gave none why.

    ``folders`` maps places to folders of results, ``specialists`` languages to the label of their specialist,
    ``directions`` languages to their direction (``en-es``).
    """
    frames, absent = [], {}
    for table in TABLES:
        found = _read(table, folders)
        if not isinstance(found, str):
            found = measures(table, found, specialists, directions)
            found = found if len(found) else "no number for any pair of specialists or languages"
        if isinstance(found, str):
            absent[table.title] = found
        else:
            frames.append(found)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS), absent


def _read(table: Table, folders: Mapping[str, Path]) -> pd.DataFrame | str:
    """The rows of a table that count, or why there is none."""
    if table.place not in folders:
        return f"the study has no results of {table.place}"
    path = folders[table.place] / f"{table.file}.csv"
    if not path.is_file():
        return f"the results of {table.place} have no {table.file}.csv"
    try:
        # "nan" and the like may be names; only numbers can be missing
        frame = pd.read_csv(path, dtype=dict.fromkeys(table.texts, str), keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table ({error}); remove its folder and run snakemake again") from None
    if lacking := [name for name in table.needed if name not in frame]:
        return f"{table.file}.csv has no column {', '.join(lacking)}"
    for column, values in table.where.items():
        frame = frame[frame[column].isin(values)]
    for column in [*table.values, *(["layer"] if table.layers else [])]:
        try:
            frame = frame.assign(**{column: pd.to_numeric(frame[column].mask(frame[column] == ""))})
        except ValueError as error:
            raise InputError(f"{path}: column {column}: {error}; expected numbers or empty cells") from None
    return frame


def measures(
    table: Table, frame: pd.DataFrame, specialists: Mapping[str, str], directions: Mapping[str, str]
) -> pd.DataFrame:
    """The measures of one table's rows in the long form, a row for each pair and measure that is known."""
    codes = {label: code for code, label in specialists.items()} | {code: code for code in specialists}
    who = [frame[column].map(codes) for column in table.subject]
    known = pd.DataFrame({"a": who[0], "b": who[-1]}).notna().all(axis=1)
    if len(who) > 1:
        known &= who[0] != who[-1]
    if table.directed:
        own = [column.map(directions) == frame["direction"] for column in who]
        known &= own[0] | own[-1]
    parts = []
    for column, called in table.values.items():
        title = pd.Series(f"{table.prefix}.{called}" if called else table.prefix, index=frame.index)
        for name in table.names:
            title = title.str.cat(frame[name], sep=".")
        title = title.str.rstrip(".")  # a name may be empty
        layer = frame["layer"] if table.layers else 0
        parts.append(
            pd.DataFrame({"a": who[0], "b": who[-1], "measure": title, "layer": layer, "value": frame[column]})
        )
        parts[-1] = parts[-1][known]
    long = pd.concat(parts).dropna(subset="value")
    long = _over_layers(long, table.layers)
    rows = _each(long, specialists) if len(who) == 1 else _both(long, specialists)
    return pd.DataFrame(rows, columns=COLUMNS)


def _over_layers(long: pd.DataFrame, how: tuple[str, ...]) -> pd.DataFrame:
    """Columns a, b, measure, value: the mean of all rows, or for each way over layers ``<measure>.<way>``."""
    keys = ["a", "b", "measure"]
    if not how:
        return long.groupby(keys, sort=False)["value"].mean().reset_index()
    found = {"mean": long, "last": long[long.layer == long.layer.max()]}
    parts = [found[way].assign(measure=found[way].measure + f".{way}") for way in how]
    return pd.concat(parts).groupby(keys, sort=False)["value"].mean().reset_index()


def _both(long: pd.DataFrame, languages: Mapping[str, str]) -> Iterator[tuple[str, str, str, float]]:
    """Numbers of two languages; the mean where a table has both orders."""
    place = {code: i for i, code in enumerate(languages)}
    in_order = long.a.map(place) < long.b.map(place)
    ordered = long.assign(a=long.a.where(in_order, long.b), b=long.b.where(in_order, long.a))
    means = _over_layers(ordered, ())
    for a, b, measure, value in zip(means.a, means.b, means.measure, means.value, strict=True):
        yield a, b, measure, float(value)


def _each(long: pd.DataFrame, languages: Mapping[str, str]) -> Iterator[tuple[str, str, str, float]]:
    """Numbers of one language each: of every two the mean and the gap."""
    for measure, found in long.groupby("measure", sort=False):
        values = dict(zip(found.a, found.value, strict=True))
        for a, b in itertools.combinations(languages, 2):
            if a in values and b in values:
                yield a, b, f"{measure}.mean", float((values[a] + values[b]) / 2)
                yield a, b, f"{measure}.gap", float(abs(values[a] - values[b]))
