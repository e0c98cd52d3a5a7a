"""Merges that are measured or searched for on data, from the study file to the report."""

import json
import shutil

import pytest

METHODS = {"fisher": {}, "regmean": {}, "adamerging": {"steps": 2, "batch_size": 2}, "greedy_soup": {}}


@pytest.mark.slow
def test_they_run_from_end_to_end(finished, tmp_path):
    """In a copy of the finished run, so that only the sweeps and what reads them are left to do."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    copy = type(finished)(tmp_path / "copy")

    def change(study):
        study["merging"] = {"all": METHODS, "calibration": {"sentences": 8}}
        study["analysis"]["merges"] = ["fisher"]

    copy.edit_yaml("config/studies/small.yaml", change)
    copy.edit_yaml("config/scales/smoke.yaml", lambda scale: scale["merging"].pop("drift"))
    rules = {job.split()[0] for job in copy.pending()}
    assert {"calibrate_model", "sweep_merges", "write_report"} <= rules
    copy.snakemake("--cores", "2")
    results = copy.folder / "results/small"
    selection = json.loads((results / "sweeps/seed1/from-en.all/selection.json").read_text())
    assert set(selection) == set(METHODS)
    assert selection["fisher"]["recipe"]["data"] == {name: f"{name}.fisher" for name in ("en-es", "en-it")}
    assert len(selection["adamerging"]["search"]["entropies"]) == 2
    tried = [trial["mean"] for trial in selection["greedy_soup"]["trials"]]
    assert len(tried) == 3
    for name in METHODS:
        assert (results / f"sweeps/seed1/from-en.all/merged/{name}/model.safetensors").is_file()
    for kind in ("fisher", "gram"):
        cost = json.loads((results / f"calibrations/seed1/en-es.{kind}/cost.json").read_text())
        assert cost["tokens"] > 0
    assert (results / "report/report.html").stat().st_size > 10_000
    assert copy.pending() == set()
