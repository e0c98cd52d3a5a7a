"""Peak memory of TIES over one huge tensor: a synthetic embedding of 256k x 4096 in bfloat16, a base and four models.

    python embedding.py [--folder FOLDER] [--rows 262144] [--columns 4096] [--convention paper]

Needs 5 x 2.1 GB for the inputs and 2.1 GB for the output.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from compare import measure

from langmerge.merging.elements import BFLOAT16
from langmerge.merging.writer import WeightsWriter

NAME = "model.embed_tokens.weight"


def write(folder, seed, rows, columns):
    """A model folder with just the embedding, written by rows; the same seed gives the same base part."""
    folder.mkdir(parents=True)
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    with WeightsWriter(folder, [(NAME, BFLOAT16, (rows, columns))]) as writer:
        for start in range(0, rows, 4096):
            count = min(4096, rows - start)
            values = torch.randn(count * columns, generator=base) * 0.02
            if seed:
                values += torch.randn(count * columns, generator=own) * 0.002
            writer.write(NAME, start * columns, values.to(torch.bfloat16))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": rows, "hidden_size": columns}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the checkpoints go (default: a temporary folder)")
    parser.add_argument("--rows", type=int, default=262144)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--convention", default="paper", choices=("paper", "mergekit", "peft"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary)
        names = ["base", "a", "b", "c", "d"]
        for seed, name in enumerate(names):
            write(work / name, seed, options.rows, options.columns)
        recipe = {
            "models": {name: str(work / name) for name in names},
            "base": "base",
            "method": "ties",
            "parameters": {"density": 0.2, "convention": options.convention},
        }
        (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        command = [sys.executable, "-m", "langmerge.merging", work / "recipe.yaml", work / "out", "--quiet"]
        run = measure(command, {"OMP_NUM_THREADS": "1"})
        size = options.rows * options.columns
        print(
            f"ties@{options.convention}, {options.rows} x {options.columns} ({size / 1e9:.2f} G), four models: "
            f"cpu {run['cpu']:.1f} s, wall {run['wall']:.1f} s, peak anonymous memory {run['anonymous'] / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
