"""The scales `gpu`, and `paper` of maintenance, from the study file to the report, with tiny models and few steps.

What a dry run cannot see: that sources, columns, splits and languages fit together, and that the report can show them.
"""

import pytest
import yaml
from hub_layouts import write_hub
from real_data import DATA

pytestmark = pytest.mark.slow

# Key to its value here, wherever it stands with a number.
SMALLER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocabulary_size": 1500,
    "steps": 6,
    "batch_tokens": 4096,
    "context_length": 1024,
    "accumulation": 1,
    "rank": 4,
    "alpha": 4,
    "sentences": 24,
    "points": 3,
    "blocks": 4,
    "permutations": 2,
    "dev": 8,
    "test": 16,
    "batch_size": 32,
    "max_new_tokens": 8,
}
WHOLE = {"seeds": [1], "snapshots": [2, 4], "compile": False, "gradient_checkpointing": False, "gpus": 0}


def smaller(values, inside=""):
    """The same study or scale for models that train in a second."""
    if isinstance(values, dict):
        return {key: smaller(value, key) for key, value in values.items() if key not in WHOLE} | {
            key: value for key, value in WHOLE.items() if key in values and value
        }
    if inside == "steps" and isinstance(values, list):
        return [3, 6]
    if isinstance(values, list):
        return [smaller(value) for value in values]
    return min(values, SMALLER[inside]) if isinstance(values, int) and inside in SMALLER else values


def shrink(workflow):
    """Make the study and the scale of a working copy small."""
    kind = yaml.safe_load((workflow.folder / f"config/studies/{workflow.study}.yaml").read_text()).get("kind")
    scale = f"{workflow.scale}.{kind}" if kind else workflow.scale
    for name in (f"studies/{workflow.study}", f"scales/{scale}"):
        path = workflow.folder / f"config/{name}.yaml"
        values = smaller(yaml.safe_load(path.read_text()))
        if isinstance(values.get("steps"), dict):
            values["steps"] = dict.fromkeys(values["steps"], 3)
        if name.startswith("scales"):
            values["evaluation"] |= {"dev": 8, "test": 16}
        if "run" in values:
            values["run"]["steps"] = 20  # the earliest branch point is a twentieth
        path.write_text(yaml.safe_dump(values, allow_unicode=True))


def runs(workflow):
    """From nothing to the report."""
    shrink(workflow)
    workflow.snakemake("--cores", "2")
    report = workflow.folder / "results" / workflow.study / "report"
    assert all((report / name).stat().st_size > 10_000 for name in ("report.html", "report.pdf"))
    assert workflow.pending() == set()


def test_the_papers_study_of_maintenance_runs_on_data_in_the_layouts_of_the_hub(start, monkeypatch, tmp_path):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    workflow = start("language_specific_merging", scale="paper")
    write_hub(workflow.folder)
    workflow.data_root = str(workflow.folder)
    runs(workflow)


@pytest.mark.real
@pytest.mark.parametrize("study", ["tatoeba", "pretraining", "subtitles", "growth", "distance"])
def test_studies_for_a_gpu_run_on_real_text(start, study):
    if not (DATA / "translation").is_dir():
        pytest.skip(f"no real text in {DATA}")
    workflow = start(study, scale="gpu")
    workflow.data_root = str(DATA)
    runs(workflow)
