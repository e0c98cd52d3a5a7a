"""The command around lm-evaluation-harness, with a program in its place; how its results are read."""

import json
import stat
import subprocess
import sys

import pytest

from langmerge import provenance
from langmerge.evaluation import harness
from langmerge.provenance import InputError, read_json

RESULTS = {
    "results": {
        "blimp": {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "blimp"},
        "blimp_a": {"acc,none": 0.25, "acc_stderr,none": "N/A", "alias": " - blimp_a"},
        "blimp_b": {"acc,none": 0.75, "alias": " - blimp_b"},
        "mgsm": {"exact_match,flexible-extract": 0.125, "exact_match,strict-match": 0.0, "alias": "mgsm"},
        "lambada": {"perplexity,none": 12.5, "acc,none": 1, "alias": "lambada"},
    },
    "group_subtasks": {"blimp": ["blimp_a", "blimp_b"], "mgsm": []},
    "n-samples": {name: {"original": 9, "effective": 4} for name in ("blimp_a", "blimp_b", "mgsm", "lambada")},
    "versions": {"blimp_a": 1.0, "mgsm": 3.0},
    "n-shot": {"mgsm": 8},
    "lm_eval_version": "0.4.13",
    "date": 123.4,
    "config": {"model_args": "pretrained=/somewhere"},
}

PROGRAM = """#!{python}
import json, os, sys
from pathlib import Path
if sys.argv[1] == "-c":
    sys.exit(print(os.environ.get("LACKING", "")))
assert sys.argv[1:4] == ["-m", "lm_eval", "run"], sys.argv
options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
if options["--tasks"] == "unknown":
    sys.exit("Tasks not found: unknown")
if options["--tasks"] == "far":
    sys.exit("Traceback\\n  a line\\nConnectionError: Couldn't reach 'their/data' on the Hub (OfflineModeIsEnabled)\\n")
place = Path(options["--output_path"]) / "model"
place.mkdir()
(place / "results_2026-01-01T00-00-00.1.json").write_text({results!r})
(place / "samples_blimp_a_2026-01-01T00-00-00.1.jsonl").write_text(json.dumps(options) + "\\n")
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    path = tmp_path / "python"
    path.write_text(PROGRAM.format(python=sys.executable, results=json.dumps(RESULTS)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(harness.VARIABLE, str(path))
    return path


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = provenance.sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": digest}}))
    return folder


def run(spec, folder, out):
    harness.main(["--spec", json.dumps(spec), "--inputs", json.dumps({"model": str(folder)}), "--out", str(out)])
    return out


def test_results_get_the_form_of_our_scores():
    found = harness.summaries(RESULTS)["test"]
    blimp = found["blimp"]
    assert (blimp["n"], blimp["metrics"]["acc"]["score"], blimp["metrics"]["acc"]["standard_error"]) == (8, 50, 10)
    assert blimp["groups"] == {"blimp_a": {"n": 4, "score": 25}, "blimp_b": {"n": 4, "score": 75}}
    assert found["blimp_a"]["metrics"]["acc"]["standard_error"] is None and found["blimp_a"]["groups"] == {}
    metrics = found["mgsm"]["metrics"]
    assert (
        metrics["exact_match.flexible-extract"]["score"] == 12.5 and metrics["exact_match.strict-match"]["score"] == 0
    )
    assert metrics["exact_match.strict-match"]["signature"] == "lm_eval:0.4.13|task:3.0|fewshot:8|filter:strict-match"
    lambada = found["lambada"]["metrics"]
    assert lambada["perplexity"]["score"] == 12.5 and lambada["acc"]["score"] == 100


def test_the_command_keeps_what_equal_runs_have_in_common(python, model_folder, tmp_path):
    spec = {"tasks": ["blimp", "mgsm"], "limit": 4, "batch_size": 2}
    out = run(spec, model_folder, tmp_path / "out")
    assert read_json(out / "scores.json") == harness.summaries(RESULTS)
    assert not {"date", "config"} & set(read_json(out / "results.json"))
    options = json.loads((out / "samples_blimp_a.jsonl").read_text())
    assert options["--tasks"] == "blimp,mgsm" and options["--limit"] == "4" and options["--batch_size"] == "2"
    assert f"pretrained={model_folder},dtype=float32,trust_remote_code=False" == options["--model_args"]
    assert {path.name for path in out.iterdir()} == {
        "scores.json", "results.json", "samples_blimp_a.jsonl", "manifest.json", "cost.json",
    }  # fmt: skip


def test_what_is_missing_or_fails_is_explained(python, model_folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"failed on unknown \(exit status 1\)(.|\n)*Tasks not found: unknown"):
        run({"tasks": ["unknown"]}, model_folder, tmp_path / "out")
    with pytest.raises(InputError, match="tasks: expected a list of names"):
        run({"tasks": []}, model_folder, tmp_path / "out")
    monkeypatch.setenv("LACKING", "transformers accelerate")
    with pytest.raises(InputError, match=r"has no transformers; install it there with .*lm-eval\[hf\]"):
        run({"tasks": ["blimp"]}, model_folder, tmp_path / "out")
    monkeypatch.setenv(harness.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"names .*none, which is no file(.|\n)*lm-eval"):
        run({"tasks": ["blimp"]}, model_folder, tmp_path / "out")
    monkeypatch.delenv(harness.VARIABLE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no \.venv-harness/bin/python"):
        run({"tasks": ["blimp"]}, model_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_python_is_asked_for_the_packages_themselves():
    said = subprocess.run([sys.executable, "-c", harness.LACKING], capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) <= {"lm_eval"}, "this one has all the others"
    bare = subprocess.run([sys.executable, "-S", "-c", harness.LACKING], capture_output=True, text=True, check=True)
    assert bare.stdout.split() == ["lm_eval", "torch", "transformers", "accelerate"]


def test_data_out_of_reach_are_named_with_what_helps(python, model_folder, tmp_path):
    with pytest.raises(InputError) as raised:
        run({"tasks": ["far"]}, model_folder, tmp_path / "out")
    message = str(raised.value)
    assert "Couldn't reach 'their/data' on the Hub" in message
    assert f"{python} -m lm_eval run --model dummy --tasks far --limit 1" in message
    assert "HF_HUB_OFFLINE=1" in message and "harness_include" in message
    assert "Traceback" not in message


def test_changed_weights_are_refused(python, model_folder, tmp_path):
    (model_folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(InputError, match="expected SHA-256"):
        run({"tasks": ["blimp"]}, model_folder, tmp_path / "out")
