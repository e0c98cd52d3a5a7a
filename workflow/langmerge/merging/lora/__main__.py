"""Merge LoRA adapters of one base into one adapter: `python -m langmerge.merging.lora RECIPE.yaml OUT`.

    adapters: {de: ./lora-de, tr: ./lora-tr}     # folders in peft's format, relative to this file
    method: ties                                  # one of langmerge.catalogue.lora
    parameters: {density: 0.5, weights: {de: 0.6, tr: 0.4}}
    dtype: bfloat16                               # default: float32
    base: org/base                                # needed only where the adapters do not agree on one

To merge adapters into a full model, name them as models of `python -m langmerge.merging`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from langmerge import provenance
from langmerge.merging.documents.yaml_text import known_keys, load
from langmerge.merging.lora.merge import merge_adapters, write_adapter

KEYS = ("adapters", "method", "parameters", "dtype", "base")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read(data: Any, folder: Path) -> dict[str, Any]:
    """Arguments of `merge_adapters` from a file's plain data; ValueError names the key and what was expected."""
    keys = known_keys("the recipe", data, KEYS)
    for key, kind in (("adapters", Mapping), ("method", str)):
        if not isinstance(keys.get(key), kind):
            raise ValueError(f"{key}: expected {'names with folders' if kind is Mapping else 'a text'}")
    dtype = keys.get("dtype") or "float32"
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    adapters = {str(name): folder / str(place) for name, place in keys["adapters"].items()}
    parameters = dict(keys.get("parameters") or {})
    weights = parameters.get("weights")
    if isinstance(weights, Mapping):
        if set(weights) != set(adapters):
            raise ValueError(f"parameters.weights: {sorted(weights)} are not the names of adapters, {sorted(adapters)}")
        parameters["weights"] = [weights[name] for name in adapters]
    return {
        "method": keys["method"],
        "adapters": adapters,
        "parameters": parameters,
        "dtype": DTYPES[dtype],
        "base": keys.get("base"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, merge, write; :class:`provenance.InputError` for whatever is wrong with the input."""
    parser = argparse.ArgumentParser(
        prog="python -m langmerge.merging.lora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the adapter; must not exist")
    options = parser.parse_args(arguments)
    if not options.recipe.is_file():
        raise provenance.InputError(f"{options.recipe}: file not found; expected a YAML file that says what to merge")
    try:
        given = read(load(options.recipe.read_text(encoding="utf-8")), options.recipe.parent)
        write_adapter(merge_adapters(given.pop("method"), given.pop("adapters"), **given), options.out)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise provenance.InputError(f"{options.recipe}: {error}") from None


if __name__ == "__main__":
    provenance.run(main)
