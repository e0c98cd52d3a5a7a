"""Command line: `python -m langmerge.merging RECIPE.yaml OUT`, or `--spec JSON --out FOLDER` from the workflow."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from langmerge import provenance
from langmerge.command import parse
from langmerge.merging.engine import Merge
from langmerge.merging.recipe import Recipe
from langmerge.merging.sinks import write_into
from langmerge.merging.writer import SHARD_BYTES

KEYS = {"recipe", "with", "sources", "dtype", "block", "shard_bytes"}
OUTPUT_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare(spec: Mapping[str, Any]) -> Merge:
    """The merge that a specification describes, opened and checked.

    Keys: recipe (JSON of a `Recipe`), sources (name -> folder), and optionally with (list of further recipes
    that it uses), dtype (null, float32, bfloat16, float16), block (elements). ValueError for anything else.
    """
    unknown, missing = set(spec) - KEYS, {"recipe", "sources"} - set(spec)
    if unknown or missing:
        raise ValueError(f"spec: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}; known: {sorted(KEYS)}")
    dtype = spec.get("dtype")
    if dtype is not None and dtype not in OUTPUT_DTYPES:
        raise ValueError(f"spec.dtype: {dtype!r} is not one of null, {', '.join(OUTPUT_DTYPES)}")
    recipe = Recipe.from_json(spec["recipe"])
    return Merge(
        [recipe, *(Recipe.from_json(other) for other in spec.get("with") or ())],
        {name: Path(folder) for name, folder in spec["sources"].items()},
        outputs=[recipe.name],
        dtype=OUTPUT_DTYPES[dtype] if dtype else None,
        block=spec.get("block"),
    )


def write(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Merge as `spec` says into an existing, empty folder, with a progress bar; the statistics."""
    merge = prepare(spec)
    name = merge.outputs[0]
    with tqdm(total=merge.elements, unit="el", unit_scale=True, desc=name, mininterval=1.0) as bar:
        result = write_into(
            merge, {name: folder}, shard_bytes=spec.get("shard_bytes") or SHARD_BYTES, progress=bar.update
        )
    return result[name]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the merged model into ``--out``.

    The spec is that of :func:`prepare`; the inputs ``models/<name>`` add sources to it. Without ``--spec`` this is the
    command of `langmerge.merging.documents.tool`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not any(argument.split("=")[0] == "--spec" for argument in given):
        # By name only: the code of that tool does not decide what the workflow's merges are, so that it must not be
        # part of their fingerprint.
        importlib.import_module("langmerge.merging.documents.tool").main(given)
        return
    command = parse("langmerge.merging", __doc__, given)
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        sources = dict(command.spec.get("sources") or {})
        for name, folder in command.named("models").items():
            sources[name] = str(job.read(f"models/{name}", folder))
            provenance.verify(folder)
        try:
            write({**command.spec, "sources": sources}, job.folder)
        except ValueError as error:
            raise provenance.InputError(str(error)) from None


if __name__ == "__main__":
    provenance.run(main)
