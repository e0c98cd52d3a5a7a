"""``python -m langmerge.evaluation.harness``: published tasks, scored by lm-evaluation-harness (``lm_eval``).

The harness lives in a Python of its own, because it pins what this project does not: the one that the environment
variable LANGMERGE_HARNESS names, or that of ``.venv-harness`` in the current folder. It fetches its data sets itself.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.provenance import InputError, read_json, write_json

VARIABLE = "LANGMERGE_HARNESS"
FOLDER = Path(".venv-harness")
# Metrics that the harness gives as shares of 1; ours are in percent. All others stay as they are.
SHARES = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "f1", "mcc"})
LINES = 15  # of the harness's own words, where it fails
# How it says that data or code are neither in its cache nor within reach (datasets, huggingface_hub, requests).
UNREACHED = re.compile(
    r"^\S*(?:ConnectionError|ConnectError|ConnectTimeout|OfflineModeIsEnabled|LocalEntryNotFoundError)\b.*",
    re.MULTILINE,
)
# What of the harness's report is kept: times, machine and paths differ between equal runs.
KEPT = ("results", "versions", "n-shot", "n-samples", "group_subtasks", "higher_is_better", "lm_eval_version")


# lm_eval starts without what it needs for models, and says so only after it has read the tasks.
LACKING = (
    "from importlib.util import find_spec as found; "
    "print(*(name for name in ('lm_eval', 'torch', 'transformers', 'accelerate') if not found(name)))"
)


def harness_program() -> list[str]:
    """The command that starts lm_eval; :class:`InputError` saying how to install it if there is none."""
    named = os.environ.get(VARIABLE)
    python = Path(named) if named else FOLDER / "bin" / "python"
    if not python.is_file():
        where = (
            f"{VARIABLE} names {named}, which is no file" if named else f"there is no {python}, {VARIABLE} is not set"
        )
        raise InputError(
            f"evaluation.harness: lm-evaluation-harness was not found ({where}); run `make harness`, or install it "
            f"with `python -m venv {FOLDER} && {FOLDER}/bin/pip install torch==2.13.0 'lm-eval[hf]==0.4.13'`, "
            f"or set {VARIABLE} to a Python that has it"
        )
    program = [str(python), "-m", "lm_eval"]
    done = subprocess.run([str(python), "-c", LACKING], capture_output=True, text=True, check=False)
    if lacking := done.stdout.split():
        raise InputError(
            f"evaluation.harness: {python} has no {lacking[0]}; install it there with "
            f"`{python} -m pip install 'lm-eval[hf]'`"
        )
    return program


def _last(text: str, lines: int) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def run_harness(model: Path, spec: Mapping[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """Run the tasks of ``spec`` on a model folder; what the harness says, with its files in ``folder``.

    ``folder`` gets ``results.json`` and, a task each, ``samples_<task>.jsonl``. ``spec`` has ``tasks`` and optionally
    ``limit`` (items a task), ``batch_size``, ``fewshot``, ``dtype`` and ``include_path`` (a folder of task files).
    Raises :class:`InputError` with the harness's last words if it fails.
    """
    options = {
        "--model": "hf",
        "--model_args": f"pretrained={model.resolve()},dtype={spec.get('dtype', 'float32')},trust_remote_code=False",
        "--tasks": ",".join(spec["tasks"]),
        "--batch_size": str(spec.get("batch_size", 16)),
        "--device": device,
    }
    for key, option in (("limit", "--limit"), ("fewshot", "--num_fewshot"), ("include_path", "--include_path")):
        if spec.get(key) is not None:
            options[option] = str(spec[key])
    with tempfile.TemporaryDirectory(dir=folder) as place:
        words = [word for pair in options.items() for word in pair]
        command = [*harness_program(), "run", *words, "--output_path", place, "--log_samples"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        files = sorted(Path(place).rglob("results_*.json"))
        if done.returncode or len(files) != 1:
            raise InputError(_explained(done, spec["tasks"], command[0]))
        found = {key: value for key, value in read_json(files[0]).items() if key in KEPT}
        write_json(folder / "results.json", found)
        for path in Path(place).rglob("samples_*.jsonl"):
            # samples_<task>_<time>.jsonl
            path.rename(folder / f"{path.stem.rpartition('_')[0]}.jsonl")
    return found


def _explained(done: subprocess.CompletedProcess[str], tasks: Sequence[str], python: str) -> str:
    """What went wrong, and what helps: fetch the data elsewhere if they could not be reached."""
    named = ",".join(tasks)
    if unreached := UNREACHED.findall(done.stderr):
        return (
            f"evaluation.harness: the data of {named} are not on this machine and could not be fetched "
            f"({unreached[-1]}). Where there is a network, fetch them with `{python} -m lm_eval run --model dummy "
            f"--tasks {named} --limit 1`, copy the cache (the folder HF_HOME, ~/.cache/huggingface unless set) to "
            "this machine and set HF_HUB_OFFLINE=1; or name tasks on files of your own (evaluation.harness_include)"
        )
    return (
        f"evaluation.harness: lm_eval failed on {named} (exit status {done.returncode}); its last words:\n"
        f"{_last(done.stderr, LINES)}"
    )


def _environment() -> dict[str, str]:
    """This process's, without its own packages: the other Python has its own."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def summaries(found: Mapping[str, Any]) -> dict[str, Any]:
    """The results of the harness in the form of ``scores.json``, all under the split "test".

    A task (or group of tasks) has ``task``, ``n``, ``metrics`` (name to ``score``, ``standard_error`` or null, and
    ``signature``) and ``groups`` (subtasks to ``n`` and ``score`` in the first metric; empty if it has none). Shares
    are in percent, other metrics as the harness gives them.
    """
    results = found["results"]
    sizes = found.get("n-samples", {})

    def metrics_of(task: str) -> dict[str, Any]:
        metrics = {}
        for key, value in results[task].items():
            name, _, rule = key.partition(",")
            if name.endswith("_stderr") or not isinstance(value, int | float) or not rule:
                continue
            factor = 100.0 if name in SHARES else 1.0
            error = results[task].get(f"{name}_stderr,{rule}")
            metrics[name if rule == "none" else f"{name}.{rule}"] = {
                "score": factor * float(value),
                "standard_error": factor * float(error) if isinstance(error, int | float) else None,
                "signature": _signature(found, task, rule),
            }
        return metrics

    def parts(task: str) -> list[str]:
        below: Sequence[str] = found.get("group_subtasks", {}).get(task, [])
        return [leaf for part in below for leaf in (parts(part) or [part])]

    def size(task: str) -> int:
        return sum(int(sizes.get(leaf, {}).get("effective", 0)) for leaf in (parts(task) or [task]))

    def main_score(task: str) -> float:
        return next((float(metric["score"]) for metric in metrics_of(task).values()), math.nan)

    return {
        "test": {
            task: {
                "task": task,
                "n": size(task),
                "metrics": metrics_of(task),
                "groups": {leaf: {"n": size(leaf), "score": main_score(leaf)} for leaf in parts(task)},
            }
            for task in results
        }
    }


def _signature(found: Mapping[str, Any], task: str, rule: str) -> str:
    fewshot = found.get("n-shot", {}).get(task, 0)
    version = found.get("versions", {}).get(task, "none")
    harness = found.get("lm_eval_version", "unknown")
    return f"lm_eval:{harness}|task:{version}|fewshot:{fewshot}|filter:{rule}"


def main(arguments: list[str] | None = None) -> None:
    """Write ``scores.json`` and, from the harness, ``results.json`` (:data:`KEPT`) and ``samples_<task>.jsonl``.

    The spec is that of :func:`run_harness`; the input is ``model``.
    """
    command = parse("langmerge.evaluation.harness", __doc__, arguments)
    folder, tasks = command.input("model"), command.spec.get("tasks")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) and task for task in tasks):
        raise InputError(f"tasks: expected a list of names of lm-evaluation-harness's tasks, found {tasks!r}")
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        provenance.verify(job.read("model", folder))
        models.weight_files(folder)
        device = str(models.device())
        found = run_harness(folder, command.spec, job.folder, device)
        scores = summaries(found)
        write_json(job.folder / "scores.json", scores)
        job.cost.update(device=device, sentences=sum(entry["n"] for entry in scores["test"].values()))


if __name__ == "__main__":
    provenance.run(main)
