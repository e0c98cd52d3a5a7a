"""``python -m langmerge.sweeping``: tune and score merges; see :mod:`langmerge.sweeping.sweep`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from langmerge import models, provenance
from langmerge.evaluation.scoring import write


def main(arguments: list[str] | None = None) -> None:
    """Write ``selection.json``, ``systems/<merge>/`` (scores, predictions) and, where kept, ``merged/<merge>/``."""
    parser = argparse.ArgumentParser(prog="python -m langmerge.sweeping", description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="merges, directions and decoding, as JSON")
    parser.add_argument("--inputs", type=json.loads, required=True, help="input names to folders, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--code", default="", help="fingerprint of the stage's code")
    parser.add_argument("--environment", default="", help="versions of the libraries")
    args = parser.parse_args(arguments)
    with provenance.result(args.out, args.spec, args.code, args.environment) as job:
        folders = {name: job.read(name, Path(folder)) for name, folder in args.inputs.items()}
        sources = {
            name.removeprefix("models/"): folder for name, folder in folders.items() if name.startswith("models/")
        }
        pairs = {name.removeprefix("pairs/"): folder for name, folder in folders.items() if name.startswith("pairs/")}
        for folder in sources.values():
            provenance.verify(folder)

        from tqdm import tqdm

        from langmerge.sweeping.sweep import Sweep

        models.set_threads()
        first = next(iter(sources.values()))
        model, tokenizer = models.load_model(first), models.load_tokenizer(first)
        model.to(models.device())  # type: ignore[arg-type]
        sweep = Sweep(args.spec, sources, pairs, model, tokenizer)
        selection, tokens = {}, 0
        for tuned in tqdm(sweep, total=len(args.spec["merges"]), desc=args.out.name, mininterval=5):
            write(tuned.scored, job.folder / "systems" / tuned.name)
            selection[tuned.name] = {
                "recipe": tuned.recipe.to_json(),
                "trials": tuned.trials,
                "statistics": tuned.statistics,
            }
            tokens += tuned.scored.prompt_tokens + tuned.scored.new_tokens
            if tuned.keep:
                sweep.write(tuned, job.folder / "merged" / tuned.name)
        provenance.write_json(job.folder / "selection.json", selection)
        job.cost.update(tokens=tokens, device=str(models.device()))
    (args.out / "merged").mkdir(exist_ok=True)  # declared to Snakemake even where nothing is kept


if __name__ == "__main__":
    provenance.run(main)
