"""Where merged models go: into folders, or into memory for evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from langmerge.merging.engine import BLOCK, Merge
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source
from langmerge.merging.writer import SHARD_BYTES, WeightsWriter, atomic_folder, copy_model_files, write_json

STATISTICS = "merge_statistics.json"

Progress = Callable[[int], Any]
"""Called with the number of elements just finished."""


class Merged(NamedTuple):
    """A merged model in memory. Tied output embeddings are not in `state_dict`: load it with strict=False."""

    recipe: Recipe
    state_dict: dict[str, Tensor]
    statistics: dict[str, Any]


def state_dicts(
    recipes: Sequence[Recipe],
    sources: Mapping[str, Path | Source],
    *,
    data: Mapping[str, Path | Source] | None = None,
    together: int = 4,
    outputs: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    block: int = BLOCK,
    statistics: bool = True,
    progress: Progress | None = None,
) -> Iterator[Merged]:
    """The merged models one after another, without touching the disk.

    `together` of them are computed in one pass over the sources and lie in memory at a time. Other arguments
    and errors: see `langmerge.merging.engine.Merge`.
    """
    wanted = [recipe.name for recipe in recipes if outputs is None or recipe.name in outputs]
    by_name = {recipe.name: recipe for recipe in recipes}
    for start in range(0, len(wanted), together):
        names = wanted[start : start + together]
        merge = Merge(recipes, sources, data=data, outputs=names, dtype=dtype, block=block, statistics=statistics)
        flat = {
            name: {key: torch.empty(_numel(shape), dtype=kind) for key, kind, shape in merge.layout(name)}
            for name in names
        }
        for piece in merge:
            flat[piece.recipe][piece.tensor][piece.start : piece.start + len(piece.values)] = piece.values
            if progress:
                progress(len(piece.values))
        for name in names:
            tensors = flat.pop(name)
            state = {key: tensors[key].view(shape) for key, _, shape in merge.layout(name)}
            yield Merged(by_name[name], state, merge.statistics(name))


def write_into(
    merge: Merge,
    folders: Mapping[str, Path],
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Run `merge` and fill one existing, empty folder for each of its outputs; the statistics by recipe.

    Each gets the weights, configuration and tokenizer files of its reference, and merge_statistics.json.
    Nothing is removed on an error: `write_models` adds that.
    """
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(WeightsWriter(Path(folders[name]), merge.layout(name), shard_bytes))
            for name in merge.outputs
        }
        for piece in merge:
            writers[piece.recipe].write(piece.tensor, piece.start, piece.values)
            if progress:
                progress(len(piece.values))
    result = {}
    for name in merge.outputs:
        copy_model_files(merge.reference(name), Path(folders[name]), merge.dtype)
        result[name] = merge.statistics(name)
        write_json(Path(folders[name]) / STATISTICS, result[name])
    return result


def write_models(
    recipes: Sequence[Recipe],
    sources: Mapping[str, Path | Source],
    folders: Mapping[str, Path],
    *,
    data: Mapping[str, Path | Source] | None = None,
    dtype: torch.dtype | None = None,
    block: int = BLOCK,
    shard_bytes: int = SHARD_BYTES,
    statistics: bool = True,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Write the recipes named in `folders` as model folders in one pass: all or, on an error, none.

    Returns the statistics by recipe. Raises FileExistsError if a folder is not empty, else what `Merge`
    raises.
    """
    merge = Merge(recipes, sources, data=data, outputs=list(folders), dtype=dtype, block=block, statistics=statistics)
    with ExitStack() as stack:
        partial = {name: stack.enter_context(atomic_folder(Path(folder))) for name, folder in folders.items()}
        return write_into(merge, partial, shard_bytes=shard_bytes, progress=progress)


def _numel(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())
