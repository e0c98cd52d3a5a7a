"""Where merged models go: into folders, or into memory for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from langmerge.merging.elements import Elements, ElementType
from langmerge.merging.engine import Merge, Piece
from langmerge.merging.journal import Journal, common, entry_of, resumable_folders
from langmerge.merging.lazy import torch
from langmerge.merging.pipeline import WriteBehind
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source
from langmerge.merging.writer import SHARD_BYTES, WeightsWriter, copy_model_files, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS = "merge_statistics.json"

Progress = Callable[[int], Any]
"""Called with the number of elements just finished."""


Finish = Callable[[str, Path, dict[str, Any], dict[str, str]], Any]
"""Called with a recipe's name, the folder under construction, its statistics and the SHA-256 of the files of weights,
as far as they are known, to add files to the folder."""


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
    dtype: ElementType | torch.dtype | None = None,
    block: int | None = None,
    statistics: bool = True,
    device: torch.device | str = "cpu",
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
        options: dict[str, Any] = {"dtype": dtype, "block": block, "statistics": statistics, "device": device}
        merge = Merge(recipes, sources, data=data, outputs=names, **options)
        flat = {
            name: {
                key: Elements.of(torch.empty(math.prod(shape), dtype=kind.of_torch, device=device))
                for key, kind, shape in merge.layout(name)
            }
            for name in names
        }
        for piece in merge.pieces(flat):
            if progress:
                progress(len(piece.elements))
        merge.identity()  # raises if a source was changed meanwhile
        for name in names:
            tensors = flat.pop(name)
            state = {key: tensors[key].tensor.view(shape) for key, _, shape in merge.layout(name)}
            yield Merged(by_name[name], state, merge.statistics(name))


def write_into(
    merge: Merge,
    folders: Mapping[str, Path],
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
    journals: Mapping[str, Journal] | None = None,
    finish: Finish | None = None,
) -> dict[str, dict[str, Any]]:
    """Run `merge` and fill one existing folder for each of its outputs; the statistics by recipe.

    Each gets the weights, configuration and tokenizer files of its reference, and merge_statistics.json.
    With `journals` the tensors that they name are left out and finished ones noted. Nothing is removed on an
    error: `write_models` adds that. Raises ValueError if a file of a source is changed meanwhile.
    """
    journals = journals or {}
    done = common(journals) if journals else {}
    merge.leave_out(done)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                WeightsWriter(Path(folders[name]), merge.layout(name), shard_bytes, done, hashed=finish is not None)
            )
            for name in merge.outputs
        }
        for journal in journals.values():
            journal.start(done)
        every = stack.enter_context(closing(merge.pieces()))
        behind = WriteBehind()
        # It ends before the files are closed, however the block ends.
        try:
            tensor = None
            for (name, _), of_block in groupby(every, attrgetter("tensor", "start")):
                pieces = list(of_block)
                if journals and tensor not in (None, name):
                    _note(tensor, merge, writers, journals, behind)
                tensor = name
                # All outputs of a block at once: each action costs a switch of threads.
                behind.put(partial(_write, pieces, writers))
                if progress:
                    for piece in pieces:
                        progress(len(piece.elements))
            behind.finish()
        except BaseException:
            behind.abandon()
            raise
    merge.identity()  # raises if a source was changed meanwhile
    result = {}
    for name in merge.outputs:
        copy_model_files(merge.reference(name), Path(folders[name]), merge.dtype)
        result[name] = merge.statistics(name)
        write_json(Path(folders[name]) / STATISTICS, result[name])
        if finish:
            finish(name, Path(folders[name]), result[name], writers[name].hashes)
    return result


def _write(pieces: Sequence[Piece], writers: Mapping[str, WeightsWriter]) -> None:
    for piece in pieces:
        writers[piece.recipe].write(piece.tensor, piece.start, piece.elements)


def _note(
    tensor: str | None,
    merge: Merge,
    writers: Mapping[str, WeightsWriter],
    journals: Mapping[str, Journal],
    behind: WriteBehind,
) -> None:
    """Note a finished tensor; from time to time have it written down, after the weights are on disk."""
    assert tensor is not None
    entry = entry_of(tensor, merge.state(tensor))
    for name, journal in journals.items():
        journal.note(entry)
        if journal.due:
            behind.put(writers[name].sync)
            behind.put(partial(journal.write, journal.take()))


def write_models(
    recipes: Sequence[Recipe],
    sources: Mapping[str, Path | Source],
    folders: Mapping[str, Path],
    *,
    data: Mapping[str, Path | Source] | None = None,
    dtype: ElementType | torch.dtype | None = None,
    block: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    statistics: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    finish: Finish | None = None,
) -> dict[str, dict[str, Any]]:
    """Write the recipes named in `folders` as model folders in one pass: all or, on an error, none.

    After a kill the next call with the same arguments goes on where it stood and gives the same bytes; if the kill
    came while the folders took their names, it names the others. `finish` completes each folder before it takes
    its name. Returns the statistics by recipe. Raises
    FileExistsError if a folder is not empty, BlockingIOError if another process writes it, ValueError if two
    folders are one or a source is changed meanwhile, else what `Merge` raises.
    """
    options: dict[str, Any] = {"dtype": dtype, "block": block, "statistics": statistics, "device": device}
    merge = Merge(recipes, sources, data=data, outputs=list(folders), **options)
    identity = merge.identity()
    if identity is not None:
        identity = [identity, shard_bytes, sorted(folders)]
    with resumable_folders(folders, identity) as (parts, journals):
        if all(journal.complete for journal in journals.values()):
            return {name: read_json(part / STATISTICS) for name, part in parts.items()}
        known = journals if identity else None
        return write_into(merge, parts, shard_bytes=shard_bytes, progress=progress, journals=known, finish=finish)
