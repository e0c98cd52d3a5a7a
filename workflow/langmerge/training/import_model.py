"""The `import` stage: an existing model, from the Hugging Face Hub or a local folder, as a model folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from langmerge import models
from langmerge.command import parse
from langmerge.provenance import InputError, Result, read_json, result, run
from langmerge.training.settings import Strict, check

# Weights that cannot run code, and text. Nothing else is fetched: no pickles, no Python files.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
# Folders of other formats that big repositories carry beside the weights.
IGNORED = ("original/*", "onnx/*", "openvino/*", "coreml/*", "runs/*", "*/*")


class ImportSettings(Strict):
    """An `import` recipe. ``dtype`` is kept as it is when null; ``revision`` is a commit, tag or branch of the Hub."""

    kind: str = "import"
    source: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def check_weights(folder: Path) -> dict[str, str]:
    """Read the headers of all weight files; names of the tensors and the file of each.

    Raises:
        InputError: a file is cut off or not safetensors, or the index names a tensor that its file lacks.
    """
    import safetensors

    found: dict[str, str] = {}
    for file in models.weight_files(folder):
        try:
            with safetensors.safe_open(file, framework="numpy") as tensors:
                found |= dict.fromkeys(tensors.keys(), file.name)
        except safetensors.SafetensorError as error:
            raise InputError(
                f"{file}: not a whole safetensors file ({error}); the download or copy was cut off, or it is a Git LFS "
                "pointer. Remove it and fetch it again"
            ) from None
    index = folder / models.WEIGHTS_INDEX
    if index.is_file():
        for name, file_name in read_json(index)["weight_map"].items():
            if found.get(name) != file_name:
                raise InputError(
                    f"{index}: places {name} in {file_name}, which lacks it; the shards are of different versions. "
                    "Fetch the whole model again"
                )
    if not found:
        raise InputError(f"{folder}: the weight files hold no tensor")
    return found


def _is_local(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or Path(source).is_dir()


def local_folder(source: str, revision: str | None) -> Path:
    """The model folder behind a local path: itself, or the snapshot that a folder of the Hub's cache points to.

    A cache folder (``models--org--name`` with ``refs``, ``snapshots``, ``blobs``) is resolved without a network.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; `source` must be a folder with {models.WEIGHTS}, or a Hub id like org/name"
        )
    if not (folder / "snapshots").is_dir():
        return folder
    name = revision or "main"
    reference = folder / "refs" / name
    commit = reference.read_text().strip() if reference.is_file() else name
    snapshot = folder / "snapshots" / commit
    if not snapshot.is_dir():
        held = sorted(path.name for path in (folder / "snapshots").iterdir())
        raise InputError(f"{folder}: revision {name!r} is not in this cache; it holds {held}")
    return snapshot


def fetch(source: str, revision: str | None) -> Path:
    """Download a model of the Hub (or find it in the cache) and return its snapshot folder; no pickles, no code."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(
            huggingface_hub.snapshot_download(
                source, revision=revision, allow_patterns=list(PATTERNS), ignore_patterns=list(IGNORED)
            )
        )
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"source: the Hub has no model {source!r}, or it is gated and HF_TOKEN gives no access, and there is no "
            f"such folder ({type(error).__name__})"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"revision: {source} has no revision {revision!r}") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk and the like
        raise InputError(
            f"source: {source} is not in the cache and the Hub cannot be reached ({type(error).__name__}); fetch it "
            f"once with a network (`hf download {source}`), or name a local folder"
        ) from None


def _link(source: Path, target: Path) -> None:
    """A hard link to the real file (weights are large and never written to), or a copy where links cannot be made."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _convert(folder: Path, target: Path, dtype: str) -> None:
    """Copy the weight files with their floating-point tensors in ``dtype``, one tensor file at a time."""
    import torch
    from safetensors.torch import load_file, save_file

    wanted = getattr(torch, dtype)
    for file in models.weight_files(folder):
        tensors = load_file(file)
        tensors |= {name: value.to(wanted) for name, value in tensors.items() if value.is_floating_point()}
        save_file(tensors, target / file.name, metadata={"format": "pt"})


def copy_model(source: Path, target: Path, dtype: str | None = None) -> None:
    """Put the model of folder ``source`` into ``target``: weights checked, then linked or converted; texts copied."""
    check_weights(source)
    if not (source / "config.json").is_file():
        raise InputError(f"{source / 'config.json'}: file not found; a model folder needs it beside its weights")
    config = read_json(source / "config.json")
    if "auto_map" in config:
        raise InputError(
            f"{source / 'config.json'}: asks for code of its own (auto_map), which is never run; use a model of a "
            "family that transformers knows"
        )
    if "quantization_config" in config:
        raise InputError(
            f"{source / 'config.json'}: quantized weights cannot be merged or trained; import the original model"
        )
    weights = {file.name for file in models.weight_files(source)}
    for file in sorted(source.iterdir()):
        if file.name in weights and dtype is None:
            _link(file, target / file.name)
        elif (
            file.name not in weights
            and file.is_file()
            and file.name not in ("manifest.json", "cost.json")
            and file.suffix != ".safetensors"
            and any(file.match(pattern) for pattern in PATTERNS)
        ):
            shutil.copyfile(file, target / file.name)
    if dtype is not None:
        _convert(source, target, dtype)
        config.pop("torch_dtype", None)
        (target / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=2, sort_keys=True) + "\n")


def build(spec: Any, job: Result) -> None:
    """Run the stage: fill ``job.folder``."""
    settings = check(ImportSettings, spec, "import")
    local = _is_local(settings.source)
    source = (local_folder if local else fetch)(settings.source, settings.revision)
    copy_model(source, job.folder, settings.dtype)
    if not local:
        job.cost["commit"] = source.name


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and import the model."""
    command = parse("langmerge.training.import_model", __doc__, arguments)
    with result(command.out, command.spec, command.code, command.environment) as job:
        build(command.spec, job)


if __name__ == "__main__":
    run(main)
