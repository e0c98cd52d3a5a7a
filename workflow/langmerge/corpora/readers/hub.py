"""Datasets on the Hugging Face Hub, through its own library; a dataset's code is never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from langmerge.config import HubDataset
from langmerge.corpora.readers.columns import Raw, Wanted, pairs
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from datasets import Dataset


def name(dataset: HubDataset) -> str:
    """The dataset as messages name it."""
    parts = {"config": dataset.config, "folder": dataset.folder, "split": dataset.split}
    return ", ".join([f"Hub dataset {dataset.id}", *(f"{key} {value}" for key, value in parts.items() if value)])


def rows(dataset: HubDataset, wanted: Wanted) -> Iterator[Raw]:
    """The dataset's sentence pairs; :class:`InputError` if it cannot be had, with what to do offline."""
    table = _load(dataset)
    present = table.column_names
    found = [wanted.find_id(present), *wanted.sides(present)]
    kept = table.select_columns(sorted({name if name in present else name.partition(".")[0] for name in found if name}))
    yield from pairs(_numbered(kept), wanted)


def records(dataset: HubDataset) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The dataset's rows with their numbers from 1; :class:`InputError` as in :func:`rows`."""
    yield from _numbered(_load(dataset))


def _load(dataset: HubDataset) -> Dataset:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            dataset.id, dataset.config, data_dir=dataset.folder, split=dataset.split, revision=dataset.revision
        )
    except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
        raise InputError(
            f"{name(dataset)}: cannot be had ({_first_line(error)}); check `id` and the network. Without one: load it "
            "once where there is a network, copy that machine's HF_HOME here and set HF_HUB_OFFLINE=1, or give its "
            "files as `path` instead of `hub`"
        ) from None
    except (ValueError, RuntimeError) as error:  # unknown configuration or split; a dataset that is a script
        raise InputError(
            f"{name(dataset)}: {_first_line(error)}; check `config`, `folder`, `split` and `revision`"
        ) from None


def _numbered(table: Dataset) -> Iterator[tuple[int, Mapping[str, Any]]]:
    start = 1
    for batch in table.with_format("arrow").iter(batch_size=4096):
        yield from enumerate(batch.to_pylist(), start)
        start += batch.num_rows


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
