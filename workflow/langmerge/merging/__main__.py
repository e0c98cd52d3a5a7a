"""Command line: `python -m langmerge.merging RECIPE.yaml OUT`, or `--spec JSON --out FOLDER` from the workflow."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langmerge import provenance
from langmerge.command import parse
from langmerge.merging.elements import element_type
from langmerge.merging.engine import Merge
from langmerge.merging.memory import keep_freed_memory
from langmerge.merging.recipe import Recipe
from langmerge.merging.sinks import write_models
from langmerge.merging.writer import SHARD_BYTES

KEYS = {"recipe", "with", "sources", "data", "dtype", "block", "shard_bytes"}
OUTPUT_DTYPES = ("float32", "bfloat16", "float16")


def write(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Merge as `spec` says into a new folder, with a progress bar; the statistics.

    Keys: recipe (JSON of a `Recipe`), sources (name -> folder), and optionally with (list of further recipes
    that it uses), data (name -> folder of measured data), dtype (null, float32, bfloat16, float16), block
    (elements), shard_bytes. ValueError for anything else. After a kill it goes on where it stood.
    """
    unknown, missing = set(spec) - KEYS, {"recipe", "sources"} - set(spec)
    if unknown or missing:
        raise ValueError(f"spec: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}; known: {sorted(KEYS)}")
    dtype = spec.get("dtype")
    if dtype is not None and dtype not in OUTPUT_DTYPES:
        raise ValueError(f"spec.dtype: {dtype!r} is not one of null, {', '.join(OUTPUT_DTYPES)}")
    recipe = Recipe.from_json(spec["recipe"])
    recipes = [recipe, *(Recipe.from_json(other) for other in spec.get("with") or ())]
    sources = {name: Path(place) for name, place in spec["sources"].items()}
    data = {name: Path(place) for name, place in (spec.get("data") or {}).items()}
    from tqdm import tqdm

    elements = Merge(recipes, sources, data=data, outputs=[recipe.name]).elements
    with tqdm(total=elements, unit="el", unit_scale=True, desc=recipe.name, mininterval=1.0) as bar:
        result = write_models(
            recipes,
            sources,
            {recipe.name: folder},
            data=data,
            dtype=element_type(dtype) if dtype else None,
            block=spec.get("block"),
            shard_bytes=spec.get("shard_bytes") or SHARD_BYTES,
            progress=bar.update,
        )
    return result[recipe.name]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the merged model into ``--out``.

    The spec is that of :func:`write`; the inputs ``models/<name>`` add sources to it. What a killed run has done lies
    in ``--work`` (default: hidden, beside ``--out``) and is not done again. Without ``--spec`` this is the
    command of `langmerge.merging.documents.tool`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not any(argument.split("=")[0] == "--spec" for argument in given):
        # By name only: the code of that tool does not decide what the workflow's merges are, so that it must not be
        # part of their fingerprint.
        importlib.import_module("langmerge.merging.documents.tool").main(given)
        return
    command = parse("langmerge.merging", __doc__, given, work=True)
    work = command.work or command.out.with_name(f".{command.out.name}.work")
    keep_freed_memory()
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        sources = dict(command.spec.get("sources") or {})
        for name, folder in command.named("models").items():
            sources[name] = str(job.read(f"models/{name}", folder))
            provenance.verify(folder)
        try:
            write({**command.spec, "sources": sources}, work / "model")
        except ValueError as error:
            raise provenance.InputError(str(error)) from None
        for path in sorted((work / "model").iterdir()):
            path.rename(job.folder / path.name)
    shutil.rmtree(work)


if __name__ == "__main__":
    provenance.run(main)
