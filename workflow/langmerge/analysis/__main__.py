"""``python -m langmerge.analysis``: compare the models of a direction group on the same sentences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from langmerge import models, provenance
from langmerge.analysis.sentences import read_sentences

ALIGNMENTS = ("read", "predict")


def main(arguments: list[str] | None = None) -> None:
    """Write ``cka.csv``, ``neurons.csv``, ``turnover.csv``, ``usage.csv``, ``summary.json`` and ``representations/``.

    The spec has ``models`` (labels), ``baseline``, ``directions``, ``pivot``, ``prompt``, ``split``, ``sentences``,
    ``align``, ``neurons``, ``top``, ``blocks``, ``permutations`` and ``seed``; the inputs ``models/<label>`` and
    ``pairs/<language>``.
    """
    parser = argparse.ArgumentParser(prog="python -m langmerge.analysis", description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="what to measure, as JSON")
    parser.add_argument("--inputs", type=json.loads, required=True, help="input names to folders, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--code", default="", help="fingerprint of the stage's code")
    parser.add_argument("--environment", default="", help="versions of the libraries")
    args = parser.parse_args(arguments)
    spec = args.spec
    inputs = {name: Path(folder) for name, folder in args.inputs.items()}
    missing = [label for label in spec["models"] if f"models/{label}" not in inputs]
    if missing:
        raise provenance.InputError(f'--inputs: no folder of the model {missing[0]!r}; expected "models/{missing[0]}"')
    if spec["baseline"] not in spec["models"]:
        raise provenance.InputError(f"baseline: {spec['baseline']!r} is not among the models {spec['models']}")
    if spec["align"] not in ALIGNMENTS:
        raise provenance.InputError(f"align: expected one of {', '.join(ALIGNMENTS)}, found {spec['align']!r}")
    with provenance.result(args.out, spec, args.code, args.environment) as job:
        pairs = {
            name.removeprefix("pairs/"): job.read(name, folder)
            for name, folder in inputs.items()
            if name.startswith("pairs/")
        }
        # Before the slow imports, so that errors in the data show at once
        sentences, shared = read_sentences(spec, pairs)
        folders = {}
        for label in spec["models"]:
            folders[label] = job.read(f"models/{label}", inputs[f"models/{label}"])
            provenance.verify(folders[label])

        models.set_threads()
        from langmerge.analysis.measure import measure

        job.cost.update(measure(spec, sentences, shared, folders, job.folder))


if __name__ == "__main__":
    provenance.run(main)
