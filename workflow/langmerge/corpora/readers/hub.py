"""Datasets on the Hugging Face Hub, through its own library; a dataset's code is never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langmerge.config import HubDataset
from langmerge.corpora.readers.columns import Raw, Wanted, pairs
from langmerge.provenance import InputError


def name(dataset: HubDataset) -> str:
    """The dataset as messages name it."""
    config = f", config {dataset.config}" if dataset.config else ""
    return f"Hub dataset {dataset.id}{config}, split {dataset.split}"


def rows(dataset: HubDataset, wanted: Wanted) -> Iterator[Raw]:
    """The dataset's rows; :class:`InputError` if it cannot be had, with what to do offline."""
    import datasets

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(dataset.id, dataset.config, split=dataset.split, revision=dataset.revision)
    except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
        raise InputError(
            f"{wanted.place}: cannot be had ({_first_line(error)}); check `id` and the network. Without one: load it "
            "once where there is a network, copy that machine's HF_HOME here and set HF_HUB_OFFLINE=1, or give its "
            "parquet files as `path` instead of `hub`"
        ) from None
    except (ValueError, RuntimeError) as error:  # unknown configuration or split; a dataset that is a script
        raise InputError(f"{wanted.place}: {_first_line(error)}; check `config`, `split` and `revision`") from None
    present = table.column_names
    found = [wanted.find_id(present), *wanted.sides(present)]
    kept = table.select_columns(sorted({name if name in present else name.partition(".")[0] for name in found if name}))

    def numbered() -> Iterator[tuple[int, Mapping[str, Any]]]:
        start = 1
        for batch in kept.with_format("arrow").iter(batch_size=4096):
            yield from enumerate(batch.to_pylist(), start)
            start += batch.num_rows

    yield from pairs(numbered(), wanted)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
