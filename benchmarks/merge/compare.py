"""Whole-process cost of merges: this engine against mergekit on the same YAML and checkpoints, and the physical limit.

    python compare.py --mergekit .venv-mergekit/bin/mergekit-yaml [--size small] [--methods ties linear] [--repeats 3]

Each pair of runs stands side by side in time and alternates in order, so that other load hits both; ratios are medians
over the pairs. CPU seconds are user + system of the whole process, imports included. Peak anonymous memory is sampled
from /proc every 10 ms (mapped files do not count). The limit reads all inputs and writes one output of the same size.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from models import SIZES, write_models

METHODS = {
    "linear": {"weight": 1.0},
    "task_arithmetic": {"weight": 0.3},
    "slerp": {},
    "nuslerp": {"weight": 1.0},
    "multislerp": {"weight": 1.0},
    "karcher": {},
    "model_stock": {},
    "ties": {"weight": 1.0, "density": 0.5},
    "dare_linear": {"weight": 0.3, "density": 0.5},
    "dare_ties": {"weight": 0.3, "density": 0.5},
    "della": {"weight": 1.0, "density": 0.5, "epsilon": 0.1},
    "della_linear": {"weight": 0.3, "density": 0.5, "epsilon": 0.1},
    "breadcrumbs": {"weight": 0.3, "density": 0.9, "gamma": 0.01},
    "breadcrumbs_ties": {"weight": 0.3, "density": 0.9, "gamma": 0.01},
    "sce": {},
    "ram": {},
    "arcee_fusion": {},
    "nearswap": {},
}
"""Method -> parameters of each model."""

SHARED = {"sce": {"select_topk": 0.5}}
"""Parameters of the merge for methods of any number of models."""

PAIRS = {"slerp": {"t": 0.5}, "nuslerp": {}, "nearswap": {"t": 0.001}, "arcee_fusion": {}}
"""Methods for two models -> parameters of the merge."""

WITHOUT_BASE = {"linear", "multislerp", "karcher", "nuslerp"}


def document(method, models):
    """mergekit's YAML for a method."""
    base = models["base"]
    others = [folder for name, folder in models.items() if name != "base"]
    used = others
    if method in PAIRS:  # nuslerp takes no base; the others count the base as the first of the two
        used = others[:2] if method in WITHOUT_BASE else [base, others[0]]
    entries = [{"model": str(folder)} | ({"parameters": METHODS[method]} if METHODS[method] else {}) for folder in used]
    result = {"merge_method": method, "models": entries, "dtype": "float32", "out_dtype": "bfloat16"}
    if method not in WITHOUT_BASE:
        result["base_model"] = str(base)
    if shared := PAIRS.get(method) or SHARED.get(method):
        result["parameters"] = shared
    return result


def measure(command, environment):
    """Wall and CPU seconds, peak resident and anonymous memory in bytes of a process."""
    # Bytecode is kept, as in any installation: the first run compiles it.
    compiled = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=compiled | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    anonymous = [0]

    def watch():
        status = Path(f"/proc/{process.pid}/status")
        while process.returncode is None:
            try:
                rows = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                anonymous[0] = max(anonymous[0], int(rows.get("RssAnon", "0 kB").split()[0]) * 1024)
            except (OSError, ValueError):
                return
            time.sleep(0.01)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{errors[-3000:]}")
    return {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss * 1024,
        "anonymous": anonymous[0],
    }


def limit(models, used, out):
    """Wall and CPU seconds of reading `used` models and writing one of that size, in this process."""
    started, before = time.perf_counter(), os.times()
    buffer = bytearray(1 << 24)
    with out.open("wb") as target:
        for name in used:
            with (models[name] / "model.safetensors").open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    if name == used[0]:
                        target.write(memoryview(buffer)[:count])
    after = os.times()
    return {
        "wall": time.perf_counter() - started,
        "cpu": after.user + after.system - before.user - before.system,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", type=Path, required=True, help="mergekit-yaml of mergekit's own environment")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="threads of both")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are kept (default: a temporary folder)")
    parser.add_argument("--options", default="", help="further options of our tool, in one string")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    environment = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary)
        models = write_models(options.folder or work, options.size, 4)
        limit(models, list(models), work / "limit")  # warm the page cache
        for method in options.methods:
            recipe = work / f"{method}.yml"
            recipe.write_text(yaml.safe_dump(document(method, models)))
            commands = {
                "langmerge": [sys.executable, "-m", "langmerge.merging", recipe, work / "out", "--quiet"],
                "mergekit": [options.mergekit, recipe, work / "out", "--quiet"],
            }
            commands["langmerge"] += options.options.split()
            runs = {name: [] for name in (*commands, "limit")}
            used = [Path(entry["model"]).name for entry in document(method, models)["models"]]
            for repeat in range(options.repeats):
                for name in list(commands)[:: 1 if repeat % 2 else -1]:
                    runs[name].append(measure(commands[name], environment))
                    shutil.rmtree(work / "out")
                runs["limit"].append(limit(models, used, work / "limit"))
            ratio = [
                theirs["cpu"] / ours["cpu"] for ours, theirs in zip(runs["langmerge"], runs["mergekit"], strict=True)
            ]
            row = {"method": method, "cpu_ratio": statistics.median(ratio), "cpu_ratios": ratio, "runs": runs}
            rows.append(row)
            middle = {
                name: {key: statistics.median(run[key] for run in found) for key in found[0]}
                for name, found in runs.items()
            }
            print(
                f"{method:17} cpu {middle['langmerge']['cpu']:7.2f} / {middle['mergekit']['cpu']:7.2f} s = 1/"
                f"{row['cpu_ratio']:.1f}   wall {middle['langmerge']['wall']:7.2f} / {middle['mergekit']['wall']:7.2f}"
                f" / limit {middle['limit']['wall']:.2f} s   anonymous {middle['langmerge']['anonymous'] / 1e9:.2f} /"
                f" {middle['mergekit']['anonymous'] / 1e9:.2f} GB",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps({"size": options.size, "threads": options.threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
