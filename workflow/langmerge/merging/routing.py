"""A compact artefact for many languages: one shared task vector, and for each language one bit per entry.

    python -m langmerge.merging.routing pack --method emr --base BASE --model es=FOLDER --model de=FOLDER --out FOLDER
    python -m langmerge.merging.routing unpack --artefact FOLDER --base BASE --language es --out FOLDER

The folder holds `routing.json` (method, languages, their scales, SHA-256 of each of the base's tensors, sizes), the
shared vector in `vector/` and a mask for each language in `masks/<language>/`, all safetensors. Masks are uint8, eight
entries a byte, entry 8 j + k in bit k of byte j; the last byte of a tensor is filled up with zeros. A language's model
is base + scale mask vector: with a float32 vector exactly what the methods `emr` and `tall_mask` give.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langmerge import provenance
from langmerge.merging.elements import ElementType, element_type
from langmerge.merging.engine import Merge
from langmerge.merging.methods.routed import served
from langmerge.merging.reader import ModelFolder
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source, TensorEntry
from langmerge.merging.writer import SHARD_BYTES, WeightsWriter, atomic_folder, copy_model_files, write_json

FILE, VECTOR, MASKS = "routing.json", "vector", "masks"
FORMAT = 1
METHODS = ("emr", "tall_mask")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Element types of the shared vector: exact, and half the size."""

STEP = 1 << 20
"""Entries read at a time; a multiple of 8."""

KEYS = {"format", "method", "parameters", "languages", "scales", "dtype", "tensors", "base_sha256", "bytes"}


def pack_bits(mask: Tensor) -> Tensor:
    """uint8 (n / 8,) from float32 zeros and ones (n,), n a multiple of 8; entry 8 j + k is bit k of byte j."""
    weights = torch.tensor([float(1 << bit) for bit in range(8)], device=mask.device)
    return (mask.view(-1, 8) @ weights).to(torch.uint8)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first `count` entries of a packed mask, float32 zeros and ones."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed[:, None] >> bits).bitwise_and_(1).flatten()[:count].to(torch.float32)


class _MaskWriter:
    """Packs the pieces of a mask, which may end inside a byte, and writes whole bytes."""

    def __init__(self, writer: WeightsWriter) -> None:
        self._writer = writer
        self._rest = torch.empty(0)

    def write(self, tensor: str, start: int, values: Tensor, numel: int) -> None:
        """Add entries from `start` on; pieces of a tensor come in order."""
        start, values = start - len(self._rest), torch.cat([self._rest.to(values.device), values])
        if start + len(values) == numel:
            values = torch.cat([values, values.new_zeros(-len(values) % 8)])
        whole = len(values) // 8 * 8
        self._writer.write(tensor, start // 8, pack_bits(values[:whole]))
        self._rest = values[whole:]


def pack(
    recipe: Recipe,
    sources: Mapping[str, Path | Source],
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    block: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    """Write the artefact of a recipe (`emr` or `tall_mask`; whom it serves does not matter); its routing.json.

    `dtype` is that of the shared vector, float32 or bfloat16. One streamed pass over the models and one over the
    base's bytes; the folder appears whole or not at all. Raises ValueError for other recipes and model names that
    cannot name a folder, FileExistsError if the folder is not empty, and what `Merge` raises.
    """
    if recipe.method not in METHODS or recipe.rules:
        raise ValueError(f"recipe {recipe.name!r}: only {' and '.join(METHODS)} without rules can be packed")
    if dtype not in DTYPES.values():
        raise ValueError(f"dtype: {dtype} is not one of {', '.join(DTYPES)}")
    for language in recipe.models:
        if language in ("", ".", "..") or Path(language).name != language:
            raise ValueError(f"recipe {recipe.name!r}: the model name {language!r} cannot name a folder")
    names = {f"{recipe.name}/mask/{language}": language for language in recipe.models}
    shared = f"{recipe.name}/vector"
    parts = [_part(recipe, shared, "vector", None)]
    parts += [_part(recipe, name, "mask", language) for name, language in names.items()]
    merge = Merge(parts, sources, dtype=torch.float32, block=block, statistics=False)
    layout = merge.layout(shared)
    entries = {name: torch.Size(shape).numel() for name, kind, shape in layout if kind.is_floating_point}
    sizes = {name: numel for name, numel in entries.items() if numel}
    vector_layout = [(name, element_type(dtype), shape) for name, _, shape in layout if name in sizes]
    mask_layout = [(name, element_type("uint8"), (-(-size // 8),)) for name, size in sizes.items()]
    base = merge.reference(shared)
    with atomic_folder(folder) as partial:
        with ExitStack() as stack:
            vector = stack.enter_context(WeightsWriter(_made(partial / VECTOR), vector_layout, shard_bytes))
            masks = {
                name: _MaskWriter(
                    stack.enter_context(WeightsWriter(_made(partial / MASKS / language), mask_layout, shard_bytes))
                )
                for name, language in names.items()
            }
            for piece in merge:
                if piece.recipe == shared and piece.tensor in sizes:
                    vector.write(piece.tensor, piece.start, piece.values.to(dtype))
                elif piece.tensor in sizes:
                    masks[piece.recipe].write(piece.tensor, piece.start, piece.values, sizes[piece.tensor])
                if progress:
                    progress(len(piece.values))
        tensors = [name for name, *_ in layout]
        notes = {language: merge.statistics(name) for name, language in names.items()}
        kept = {key: value for key, value in recipe.parameters.items() if key not in ("serve", "part")}
        description = {
            "format": FORMAT,
            "method": recipe.method,
            "parameters": kept,
            "languages": list(recipe.models),
            "scales": {language: notes[language].get("rescaler", 1.0) for language in recipe.models},
            "dtype": str(dtype).removeprefix("torch."),
            "tensors": tensors,
            "base_sha256": _hashes(base, tensors),
            "bytes": {
                "vector": _bytes(partial / VECTOR),
                "masks": {language: _bytes(partial / MASKS / language) for language in recipe.models},
                "model": sum(base.tensors[name].numel * base.tensors[name].dtype.itemsize for name in tensors),
            },
        }
        write_json(partial / FILE, description)
    return description


def read(artefact: Path) -> dict[str, Any]:
    """The routing.json of an artefact; FileNotFoundError or ValueError if it is none."""
    path = Path(artefact) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; expected a folder that `pack` of langmerge.merging.routing wrote")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(data) != KEYS:
        raise ValueError(f"{path}: not of format {FORMAT}; pack the models again")
    return data


def state_dict(
    artefact: Path, base: Path | Source, language: str, *, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The model of one language in memory, in the base's element types or all floating tensors in `dtype`.

    Tied output embeddings are left out, as in a merged model: load it with strict=False. Raises what `unpack` does.
    """
    description = _for(artefact, language)
    with ExitStack() as stack:
        source = _opened(base, stack)
        _check_base(description, source)
        state = {
            name: torch.empty(entry.shape, dtype=kind.of_torch)
            for name, kind, entry in _layout(description, source, dtype)
        }
        for name, start, values in _restored(Path(artefact), description, source, language, dtype):
            state[name].view(-1)[start : start + len(values)] = values
    return state


def unpack(
    artefact: Path,
    base: Path | Source,
    language: str,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model of one language as an ordinary model folder, with the base's configuration and tokenizer.

    Streamed; the folder appears whole or not at all. Raises ValueError for a language that is not in the artefact, a
    base that is not the one it was packed with (by SHA-256 of each tensor), values that do not fit into `dtype`;
    FileNotFoundError for missing files; FileExistsError if the folder is not empty.
    """
    description = _for(artefact, language)
    with ExitStack() as stack:
        source = _opened(base, stack)
        _check_base(description, source)
        layout = [(name, kind, entry.shape) for name, kind, entry in _layout(description, source, dtype)]
        with atomic_folder(folder) as partial:
            with WeightsWriter(partial, layout, shard_bytes) as writer:
                for name, start, values in _restored(Path(artefact), description, source, language, dtype):
                    writer.write(name, start, values)
            copy_model_files(source, partial, element_type(dtype) if dtype else None)


def _restored(
    artefact: Path, description: Mapping[str, Any], base: Source, language: str, dtype: torch.dtype | None
) -> Iterator[tuple[str, int, Tensor]]:
    """(tensor, start, values) of a language's model; each tensor of the base is checked as it was read."""
    scale = description["scales"][language]
    with ExitStack() as stack:
        vector = _opened(artefact / VECTOR, stack, "the shared vector")
        mask = _opened(artefact / MASKS / language, stack, f"the mask of {language}")
        for name, kind, entry in _layout(description, base, dtype):
            digest = _start_hash(entry)
            for start in range(0, entry.numel, STEP):
                count = min(STEP, entry.numel - start)
                stored = base.read(name, start, count)
                digest.update(_raw(stored))
                if name in vector.tensors:
                    bits = unpack_bits(mask.read(name, start // 8, -(-count // 8)), count)
                    shared = vector.read(name, start, count).to(torch.float32)
                    stored = served(stored.to(torch.float32), shared, bits, scale).to(kind.of_torch)
                    if not torch.isfinite(stored).all():
                        raise ValueError(f"tensor {name!r} does not fit into {kind}; choose a wider dtype")
                yield name, start, stored
            if digest.hexdigest() != description["base_sha256"][name]:
                raise ValueError(
                    f"{base.folder}: tensor {name!r} differs from the base that {artefact / FILE} was packed with; "
                    "give that base"
                )


def _layout(
    description: Mapping[str, Any], base: Source, dtype: torch.dtype | None
) -> list[tuple[str, ElementType, TensorEntry]]:
    """(name, element type, the base's entry) of each tensor of a restored model."""
    entries = [(name, base.tensors[name]) for name in description["tensors"]]
    wanted = dtype and element_type(dtype)
    return [
        (name, wanted if wanted and entry.dtype.is_floating_point else entry.dtype, entry) for name, entry in entries
    ]


def _check_base(description: Mapping[str, Any], base: Source) -> None:
    lacking = [name for name in description["tensors"] if name not in base.tensors]
    if lacking:
        raise ValueError(f"{base.folder}: no tensor {lacking[0]!r}; give the base that the models were packed with")


def _for(artefact: Path, language: str) -> dict[str, Any]:
    description = read(artefact)
    if language not in description["languages"]:
        known = ", ".join(description["languages"])
        raise ValueError(f"{Path(artefact) / FILE}: no language {language!r}; expected one of {known}")
    return description


def _part(recipe: Recipe, name: str, part: str, serve: str | None) -> Recipe:
    return replace(recipe, name=name, parameters={**recipe.parameters, "part": part, "serve": serve})


def _opened(folder: Path | Source, stack: ExitStack, name: str = "base") -> Source:
    if isinstance(folder, Source):
        return folder
    source = ModelFolder(name, Path(folder))
    stack.callback(source.close)
    return source


def _hashes(source: Source, tensors: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each tensor's element type, shape and bytes."""
    result = {}
    with ExitStack() as stack:
        stack.callback(source.close)
        for name in tensors:
            digest = _start_hash(source.tensors[name])
            for start in range(0, source.tensors[name].numel, STEP):
                digest.update(_raw(source.read(name, start, min(STEP, source.tensors[name].numel - start))))
            result[name] = digest.hexdigest()
    return result


def _start_hash(entry: TensorEntry) -> Any:
    return hashlib.sha256(f"torch.{entry.dtype} {list(entry.shape)}\n".encode())


def _raw(values: Tensor) -> memoryview:
    return values.contiguous().view(torch.uint8).cpu().numpy().data


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack or unpack; :class:`provenance.InputError` for whatever is wrong with the input."""
    parser = argparse.ArgumentParser(
        prog="python -m langmerge.merging.routing", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="models of several languages into one artefact")
    packing.add_argument("--method", choices=METHODS, required=True)
    packing.add_argument("--model", action="append", required=True, help="LANGUAGE=FOLDER; once for each language")
    packing.add_argument("--parameters", default="{}", help="of the method, as a JSON object")
    packing.add_argument("--dtype", choices=DTYPES, default="float32", help="of the shared vector")
    unpacking = commands.add_parser("unpack", help="the model of one language out of an artefact")
    unpacking.add_argument("--artefact", type=Path, required=True)
    unpacking.add_argument("--language", required=True)
    unpacking.add_argument("--dtype", choices=DTYPES, help="of the model; default: as in the base")
    for command in (packing, unpacking):
        command.add_argument("--base", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        if options.command == "unpack":
            dtype = DTYPES[options.dtype] if options.dtype else None
            unpack(options.artefact, options.base, options.language, options.out, dtype=dtype)
            return
        pairs = [model.partition("=") for model in options.model]
        if wrong := [language for language, equals, folder in pairs if not (language and equals and folder)]:
            raise ValueError(f"--model: expected LANGUAGE=FOLDER, found {wrong[0]!r}")
        folders = {language: Path(folder) for language, _, folder in pairs}
        base = next(name for name in ("base", "the base") if name not in folders)
        parameters = json.loads(options.parameters)
        if not isinstance(parameters, dict):
            raise ValueError(f"--parameters: expected a JSON object, found {options.parameters}")
        recipe = Recipe("routing", options.method, tuple(language for language, *_ in pairs), base, parameters)
        sizes = pack(recipe, {**folders, base: options.base}, options.out, dtype=DTYPES[options.dtype])["bytes"]
        print(json.dumps(sizes, indent=2))
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise provenance.InputError(str(error)) from None


if __name__ == "__main__":
    provenance.run(main)
