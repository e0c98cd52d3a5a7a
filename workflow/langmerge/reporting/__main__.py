"""``python -m langmerge.reporting``: write the report of a study from its finished results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

from langmerge import provenance
from langmerge.command import parse
from langmerge.reporting import booktabs, html, pdf
from langmerge.reporting import document as translation
from langmerge.reporting.document import Document
from langmerge.reporting.drawing import draw
from langmerge.reporting.figures import style
from langmerge.reporting.load import load
from langmerge.reporting.studies import compose as compose_study
from langmerge.reporting.studies import results as studies


def write(document: Document, folder: Path) -> None:
    """Write ``tables/*.{csv,tex,md}``, ``figures/*.{pdf,png}``, ``report.html`` and ``report.pdf`` into ``folder``."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for table in document.tables:
        path = folder / "tables" / table.name
        table.data.to_csv(f"{path}.csv", index=False, float_format="%.6g", lineterminator="\n")
        Path(f"{path}.tex").write_text(booktabs.render(table), encoding="utf-8")
        Path(f"{path}.md").write_text(table.markdown(), encoding="utf-8")
    drawings = draw(document.figures, folder / "figures")
    (folder / "report.html").write_text(html.render(document, drawings), encoding="utf-8")
    (folder / "report.pdf").write_bytes(pdf.render(document, folder / "figures"))


def compose(spec: dict[str, Any], inputs: Mapping[str, Path]) -> Document:
    """The report that the study's kind asks for."""
    if spec["study"].get("kind", "translation") == "translation":
        return translation.compose(load(spec, inputs))
    with style():
        return compose_study(studies.load(spec, inputs))


def main(arguments: list[str] | None = None) -> None:
    """Write the report of ``--spec`` from ``--inputs`` into ``--out``.

    The spec has ``name``, ``study``, ``systems`` and ``models``; the inputs ``systems/<key>``, ``sweeps/<name>``,
    ``costs/<name>``, and optionally ``comparisons``, ``corpora_check`` and ``measurements/<name>``.
    """
    command = parse("langmerge.reporting", __doc__, arguments)
    mpl.use("Agg")
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        for name, folder in command.inputs.items():
            # Systems of a sweep lie inside the sweep's result, which is an input too and whose manifest covers them.
            if (folder / provenance.MANIFEST).is_file():
                job.read(name, folder)
        write(compose(command.spec, command.inputs), job.folder)


if __name__ == "__main__":
    provenance.run(main)
