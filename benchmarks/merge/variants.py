"""Twenty variants of a merge in one pass, against one variant: CPU and wall seconds of the whole process.

    python variants.py [--size small] [--folder FOLDER] [--repeats 1] [--in-memory]

Every variant is written as a model of its own, with its statistics and hashes; or, in memory, given as tensors with its
statistics, as the workflow's sweeps take them (all twenty at once, which takes as many models' memory).
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
        for title, (method, grid) in GRIDS.items():
            one = {key: value[0] if isinstance(value, list) else value for key, value in grid.items()}
            runs = {}
            for name, parameters in (("one", one), ("all", grid)):
                recipe = {
                    "models": {key: str(folder) for key, folder in models.items()},
                    "base": "base",
                    "method": method,
                    "parameters": parameters,
                }
                (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
                command = [sys.executable, "-m", "langmerge.merging", work / "recipe.yaml", work / "out", "--quiet"]
                if options.in_memory:
                    command = [sys.executable, "-c", IN_MEMORY, work / "recipe.yaml"]
                runs[name] = []
                for _ in range(options.repeats):
                    runs[name].append(measure(command, {"OMP_NUM_THREADS": "1"}))
                    shutil.rmtree(work / "out", ignore_errors=options.in_memory)
            cpu, wall, memory = (
                {name: statistics.median(run[key] for run in found) for name, found in runs.items()}
                for key in ("cpu", "wall", "anonymous")
            )
            print(
                f"{title}: cpu {cpu['all']:.1f} against {cpu['one']:.1f} s = {cpu['all'] / cpu['one']:.1f} times, wall "
                f"{wall['all']:.1f} against {wall['one']:.1f} s, peak anonymous memory {memory['all'] / 1e9:.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    main()
