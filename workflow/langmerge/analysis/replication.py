"""``python -m langmerge.analysis.replication``: do verdicts on redistribution outlive another seed?

Intervals over sentences hold for the very models that were read. Training them again changes more than other sentences
do, so a study of several seeds has one more table: the mean of each change over S seeds, Student's interval with S - 1
degrees of freedom, and the verdict of those intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from langmerge import provenance
from langmerge.analysis.redistribution import Estimate, across_seeds, verdict
from langmerge.analysis.redistribution_tables import CHANGES, HEAD
from langmerge.command import parse
from langmerge.csv_files import Row, write_csv
from langmerge.provenance import InputError

KEY = (*HEAD, "language")
COLUMNS = (
    *("group", *KEY, "seeds"),
    *(f"{name}_{part}" for name in CHANGES for part in ("change", "low", "high")),
    *("verdict", "reason", "agreeing"),
)


def replicate(group: str, tables: Sequence[pd.DataFrame]) -> list[Row]:
    """Rows of :data:`COLUMNS` from ``verdicts.csv`` of each seed of one direction group.

    ``agreeing`` seeds have by themselves the verdict of all; a model that a seed does not have has no row.
    """
    rows: list[Row] = []
    indexed = [table.set_index(list(KEY)) for table in tables]
    for key in indexed[0].index:
        if not all(key in table.index for table in indexed):
            continue
        found = [table.loc[key] for table in indexed]
        row: Row = {"group": group, **dict(zip(KEY, key, strict=True)), "seeds": len(found)}
        estimates = []
        for name in CHANGES:
            value, low, high = across_seeds([float(one[f"{name}_change"]) for one in found])
            estimates.append(Estimate(value, low, high, 0.0))
            row |= {f"{name}_change": value, f"{name}_low": low, f"{name}_high": high}
        called, reason = verdict(*estimates)
        rows.append(
            {**row, "verdict": called, "reason": reason, "agreeing": sum(o["verdict"] == called for o in found)}
        )
    return rows


def read(folders: Mapping[str, Path]) -> list[pd.DataFrame]:
    """``verdicts.csv`` of each measurement; :class:`InputError` where it is missing."""
    found = []
    for folder in folders.values():
        path = folder / "verdicts.csv"
        if not path.is_file():
            raise InputError(f"{path}: file not found; expected a measurement, as langmerge.analysis writes it")
        found.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))  # "nan" may be a language
    return found


def main(arguments: list[str] | None = None) -> None:
    """Write ``replication.csv``. The inputs are ``<group>/seed<n>``: measurements of two or more seeds of each group.

    The spec has ``groups``.
    """
    command = parse("langmerge.analysis.replication", __doc__, arguments)
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        rows: list[Row] = []
        for group in command.spec["groups"]:
            folders = command.named(group)
            if len(folders) < 2:
                raise InputError(f'--inputs: expected two or more seeds of "{group}/", found {sorted(folders)}')
            for name, folder in folders.items():
                job.read(f"{group}/{name}", folder)
            rows += replicate(group, read(folders))
        write_csv(job.folder / "replication.csv", rows, COLUMNS)


if __name__ == "__main__":
    provenance.run(main)
