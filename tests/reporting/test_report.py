"""The command: whole reports, with everything and with as little as a study can have."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from finished_results import Finished

from langmerge.provenance import InputError
from langmerge.reporting.__main__ import main, write
from langmerge.reporting.document import Document


def run(made: Finished, out: Path, **inputs: str | None) -> Path:
    given = {name: str(folder) for name, folder in made.inputs.items()}
    for name, folder in inputs.items():
        given.pop(name) if folder is None else given.update({name: folder})
    main(["--spec", json.dumps(made.spec), "--inputs", json.dumps(given), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def whole(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(document, folder)
    return folder


class Links(HTMLParser):
    """Collects what a page would load or link to, its ids, and whether its elements are closed."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "srcset")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(whole: Path) -> None:
    text = (whole / "report.html").read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not set(page.tags) & {"script", "iframe", "link", "img"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids)), "ids of several figures collide"
    assert page.tags.count("svg") == 17
    assert 'name="viewport"' in text


def test_the_page_escapes_texts(small: Finished, tmp_path: Path) -> None:
    spec = small.spec
    spec["study"]["title"] = "A <b>title</b> & more"
    inputs = {name: str(folder) for name, folder in small.inputs.items()}
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(tmp_path / "report")])
    assert "<h1>A &lt;b&gt;title&lt;/b&gt; &amp; more</h1>" in (tmp_path / "report/report.html").read_text(
        encoding="utf-8"
    )


def test_all_languages_are_in_the_page(whole: Path) -> None:
    text = (whole / "report.html").read_text(encoding="utf-8")
    assert "बूढ़ी" in text or "कुत्तों" in text
    assert "старая" in text or "дети" in text


def test_the_pdf_has_pages_and_its_figures(whole: Path) -> None:
    data = (whole / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 6


def test_every_table_and_figure_is_written(whole: Path) -> None:
    tables = {path.name for path in (whole / "tables").iterdir()}
    assert {"scores_from_en.csv", "scores_from_en.tex", "scores_from_en.md", "findings.csv", "cost.tex"} <= tables
    assert len(tables) % 3 == 0
    drawn = sorted((whole / "figures").iterdir())
    assert {path.suffix for path in drawn} == {".pdf", ".png"}
    assert all(b"/Type3" not in path.read_bytes() for path in drawn if path.suffix == ".pdf")  # fonttype 42


def test_equal_results_give_equal_reports(small: Finished, tmp_path: Path) -> None:
    one, two = (run(small, tmp_path / name) for name in ("one", "two"))
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file() and p.name != "cost.json")
    assert len(files) > 20
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_a_small_study_has_a_report_without_empty_parts(small: Finished, tmp_path: Path) -> None:
    out = run(small, tmp_path / "report")
    assert set(json.loads((out / "manifest.json").read_text())["inputs"]) >= {"comparisons"}
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "Linear" in text
    assert "Variation over seeds" in text
    for absent in ("Layer patch", "Merges of two specialists", "Inside the models", "Fine-tuning strength", "Joint"):
        assert absent not in text
    assert not (out / "figures/drift.pdf").exists()


def test_comparisons_and_contamination_may_be_missing(small: Finished, tmp_path: Path) -> None:
    out = run(small, tmp_path / "report", comparisons=None, corpora_check=None)
    assert "†" not in "".join(
        line for line in (out / "tables/scores_from_en.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    )
    assert not (out / "tables/data.csv").exists()


def test_a_missing_file_is_named(small: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*scores\.json: file not found"):
        run(small, tmp_path / "report", **{"systems/seed1//base": str(tmp_path / "nowhere")})
    assert not (tmp_path / "report").exists() or not any((tmp_path / "report").iterdir())


def test_nothing_to_report(small: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one system"):
        main(["--spec", json.dumps(small.spec), "--inputs", "{}", "--out", str(tmp_path / "report")])


def test_no_heavy_imports() -> None:
    import subprocess
    import sys

    code = "import sys, langmerge.reporting.__main__; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
