"""``python -m langmerge.evaluation``: translate and score all directions with one model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from langmerge import models, provenance
from langmerge.evaluation.scoring import score_model, write
from langmerge.evaluation.test_sets import read_test_sets

DTYPES = ("float32", "bfloat16", "float16")


def main(arguments: list[str] | None = None) -> None:
    """Write ``scores.json``, ``predictions/`` and ``statistics/`` of ``inputs["model"]`` into ``--out``.

    The spec has ``directions``, ``pivot``, ``splits`` (name to limit or null), ``prompt``, ``decode``
    (``batch_size``, ``max_new_tokens``, optionally ``max_length_ratio``, ``cut``, ``dtype``), ``languages``
    and ``metrics``; the inputs ``model`` and ``pairs/<language>``.
    """
    parser = argparse.ArgumentParser(prog="python -m langmerge.evaluation", description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="what to evaluate, as JSON")
    parser.add_argument("--inputs", type=json.loads, required=True, help="input names to folders, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--code", default="", help="fingerprint of the stage's code")
    parser.add_argument("--environment", default="", help="versions of the libraries")
    args = parser.parse_args(arguments)
    inputs = {name: Path(folder) for name, folder in args.inputs.items()}
    if "model" not in inputs:
        raise provenance.InputError('--inputs: expected the folder of a "model"')
    dtype = args.spec["decode"].get("dtype", "float32")
    if dtype not in DTYPES:
        raise provenance.InputError(f"decode.dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    with provenance.result(args.out, args.spec, args.code, args.environment) as job:
        pairs = {
            name.removeprefix("pairs/"): job.read(name, folder)
            for name, folder in inputs.items()
            if name.startswith("pairs/")
        }
        # Before the slow imports, so that errors in the data show at once
        test_sets = read_test_sets(args.spec, pairs)
        folder = job.read("model", inputs["model"])
        provenance.verify(folder)

        import torch

        models.set_threads()
        device = models.device()
        model = models.load_model(folder, getattr(torch, dtype))
        torch.nn.Module.to(model, device)
        scored = score_model(model, models.load_tokenizer(folder), test_sets, args.spec)
        write(scored, job.folder)
        tokens = scored.prompt_tokens + scored.new_tokens
        sentences = sum(len(test.ids) for test in test_sets)
        # a third of a training step: the forward pass alone
        per_token = models.training_flops_per_token(model.config, round(tokens / sentences)) / 3
        job.cost.update(
            tokens=tokens,
            new_tokens=scored.new_tokens,
            flops=per_token * tokens,
            sentences=sentences,
            device=str(device),
        )


if __name__ == "__main__":
    provenance.run(main)
