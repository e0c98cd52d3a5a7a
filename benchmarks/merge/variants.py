"""Twenty variants of a merge in one pass, against one variant: CPU and wall seconds of the whole process.

    python variants.py [--size small] [--folder FOLDER] [--repeats 1] [--in-memory]

Every variant is written as a model of its own, with its statistics and hashes; or, in memory, given as tensors with
its statistics, as the workflow's sweeps take them (all twenty at once, which takes as many models' memory). Beside it
stands the floor, what twenty models cost without reading or computing anything: writing and hashing as many bytes or,
in memory, filling them. Each repeat runs the three one after the other; ratios are medians over the repeats.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import yaml
from compare import measure
from models import SIZES, write_models

GRIDS = {
    "task_arithmetic, 20 scales": ("task_arithmetic", {"scale": [round(0.05 * i, 2) for i in range(1, 21)]}),
    "ties, 4 densities x 5 scales": (
        "ties",
        {"density": [0.2, 0.4, 0.6, 0.8], "scale": [0.2, 0.4, 0.6, 0.8, 1.0], "convention": "mergekit"},
    ),
}

IN_MEMORY = """
import sys
from pathlib import Path
from langmerge.garbage import collect_seldom, without_collection
from langmerge.merging.documents.prepare import prepare, read_job
from langmerge.merging.memory import keep_freed_memory
with without_collection():
    from langmerge.merging import state_dicts
collect_seldom()
keep_freed_memory()
prepared = prepare(*read_job(Path(sys.argv[1])))
for merged in state_dicts(prepared.recipes, prepared.sources, together=20):
    del merged
"""
"""A process that makes the models of a recipe and lets them go."""


WRITTEN_FLOOR = """
import hashlib, os, sys
folder, outputs, size, piece = sys.argv[1], *map(int, sys.argv[2:])
os.mkdir(folder)
data = memoryview(os.urandom(piece))
files = [open(f"{folder}/{i}", "wb") for i in range(outputs)]
digests = [hashlib.sha256() for _ in files]
for start in range(0, size, piece):
    part = data[: size - start]
    for file, digest in zip(files, digests):
        file.write(part)
        digest.update(part)
for file in files:
    file.flush()
    os.fsync(file.fileno())
"""
"""A process that writes and hashes as many bytes as the outputs have, in pieces as large as a block."""

FILLED_FLOOR = """
import os, sys
os.environ["NUMPY_MADVISE_HUGEPAGE"] = "0"  # torch takes its memory without huge pages, too
import numpy
models = [numpy.full(int(sys.argv[3]), 1, "uint8") for _ in range(int(sys.argv[2]))]
"""
"""A process that fills as much memory as the outputs take."""

VARIANTS = 20
PIECE = 1 << 19


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are kept (default: a temporary folder)")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--in-memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary)
        models = write_models(options.folder or work, options.size, 4)
        size = (models["base"] / "model.safetensors").stat().st_size
        floor = FILLED_FLOOR if options.in_memory else WRITTEN_FLOOR
        for title, (method, grid) in GRIDS.items():
            one = {key: value[0] if isinstance(value, list) else value for key, value in grid.items()}
            commands = {"floor": [sys.executable, "-c", floor, work / "out", str(VARIANTS), str(size), str(PIECE)]}
            for name, parameters in (("one", one), ("all", grid)):
                recipe = {
                    "models": {key: str(folder) for key, folder in models.items()},
                    "base": "base",
                    "method": method,
                    "parameters": parameters,
                }
                file = work / f"{name}.yaml"
                file.write_text(yaml.safe_dump(recipe))
                written = [sys.executable, "-m", "langmerge.merging", file, work / "out", "--quiet"]
                commands[name] = [sys.executable, "-c", IN_MEMORY, file] if options.in_memory else written
            runs = {name: [] for name in commands}
            for _ in range(options.repeats):
                for name, command in commands.items():
                    runs[name].append(measure(command, {"OMP_NUM_THREADS": "1"}))
                    shutil.rmtree(work / "out", ignore_errors=options.in_memory)
            ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(runs["all"], runs["one"], strict=True))
            cpu, wall, memory = (
                {name: statistics.median(run[key] for run in found) for name, found in runs.items()}
                for key in ("cpu", "wall", "anonymous")
            )
            least = f"{'filling' if options.in_memory else 'writing and hashing'} {VARIANTS} models"
            print(
                f"{title}: cpu {cpu['all']:.1f} against {cpu['one']:.1f} s = {ratio:.1f} times, of which {least} "
                f"{cpu['floor']:.1f} s; wall {wall['all']:.1f} against {wall['one']:.1f} s, "
                f"peak anonymous memory {memory['all'] / 1e9:.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    main()
