"""From the names in a merge file to sources: local folders, the Hub's cache, LoRA adapters, stacks of layers."""

import re
from collections.abc import Mapping
from pathlib import Path

from langmerge.merging.documents.job import Model, Stack
from langmerge.merging.documents.yaml_text import suggest
from langmerge.merging.reader import ModelFolder
from langmerge.merging.sources import Source
from langmerge.merging.views import Layer, LayerView

FETCHED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What is fetched of a model on the Hub: weights that cannot run code, and text."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find(place: str, revision: str | None = None, folder: Path = Path()) -> Path:
    """The folder of a model: beside the merge file (`folder`) or in the current folder, else from the Hub.

    A folder of the Hub's cache (models--ORG--NAME) stands for its snapshot. Raises ValueError for what is neither a
    folder nor a Hub id, and for a Hub id that is not in the cache and cannot be fetched.
    """
    path = Path(place).expanduser()
    for candidate in [path] if path.is_absolute() else [folder / path, path]:
        if candidate.is_dir():
            return _snapshot(candidate, revision) if (candidate / "snapshots").is_dir() else candidate.resolve()
    if place.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(place):
        where = f"{folder} or {Path.cwd()}" if not path.is_absolute() else path.parent
        raise ValueError(f"no folder {place!r} in {where}; expected a model folder or a Hub id like org/name")
    return _fetch(place, revision)


def _snapshot(cache: Path, revision: str | None) -> Path:
    """The snapshot of a revision in one model's folder of the Hub's cache."""
    name = revision or "main"
    reference = cache / "refs" / name
    found = cache / "snapshots" / (reference.read_text(encoding="utf-8").strip() if reference.is_file() else name)
    if not found.is_dir():
        held = sorted(path.name for path in (cache / "snapshots").iterdir())
        raise ValueError(f"{cache}: revision {name!r} is not in this cache; it holds {held}")
    return found.resolve()


def _fetch(hub_id: str, revision: str | None) -> Path:
    """The snapshot of a model of the Hub, from the cache or fetched into it."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found = huggingface_hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=list(FETCHED), ignore_patterns=["*/*"]
        )
    except (errors.RepositoryNotFoundError, errors.HFValidationError, errors.RevisionNotFoundError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(
            f"the Hub has no model {hub_id!r}{at}, or it is gated and HF_TOKEN gives no access, and there is no such "
            f"folder ({type(error).__name__})"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError) as error:
        raise ValueError(
            f"{hub_id} is not in the cache and the Hub cannot be reached ({type(error).__name__}); fetch it once with "
            f"a network (`hf download {hub_id}`), or name a local folder"
        ) from None
    return Path(found)


class Library:
    """The models of a merge file, each opened when first asked for; ValueError names the model that cannot be had.

    `folders` and `adapters` tell where those that were opened are.
    """

    def __init__(self, models: Mapping[str, Model | Stack], folder: Path = Path()) -> None:
        self._models = models
        self._folder = folder
        self._sources: dict[str, Source] = {}
        self._bases: list[Source] = []
        self.folders: dict[str, Path] = {}
        self.adapters: dict[str, Path] = {}

    def source(self, name: str) -> Source:
        """The source of a model by its name."""
        if name not in self._models:
            raise ValueError(f"no model {name!r}{suggest(name, self._models)}")
        if name not in self._sources:
            try:
                self._sources[name] = self._open(name, self._models[name])
            except (ValueError, FileNotFoundError) as error:
                raise ValueError(f"models.{name}: {error}") from None
        return self._sources[name]

    def _open(self, name: str, model: Model | Stack) -> Source:
        if isinstance(model, Stack):
            layers = [
                Layer(self.source(run.model), index) for run in model.runs for index in range(run.start, run.stop)
            ]
            return LayerView(name, layers, reference=self.source(model.reference) if model.reference else None)
        self.folders[name] = find(model.path, model.revision, self._folder)
        source: Source = ModelFolder(name, self.folders[name])
        if model.adapter:
            self.adapters[name] = find(model.adapter, model.adapter_revision, self._folder)
            self._bases.append(source)
            from langmerge.merging.adapters import AdapterView  # needs torch

            source = AdapterView(source, self.adapters[name], name)
        return source

    def close(self) -> None:
        """Close all sources; they open again when read."""
        for source in [*self._sources.values(), *self._bases]:
            source.close()
