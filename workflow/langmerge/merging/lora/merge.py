"""Merging LoRA adapters of one base into one adapter, in memory or as a folder in peft's format."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from langmerge.catalogue.lora import check
from langmerge.merging.lora import combine, thin
from langmerge.merging.lora.adapter import CONFIG, PREFIX, WEIGHTS, Adapter, Module
from langmerge.merging.lora.thin import Product
from langmerge.merging.sinks import STATISTICS
from langmerge.merging.writer import atomic_folder, write_json
from langmerge.provenance import sha256_file


class MergedAdapter(NamedTuple):
    """A merged adapter: tensors by peft's names, adapter_config.json, statistics, and what it was made of.

    `manifest` holds method, complete parameters, the base's name, the element type and, for each adapter, the SHA-256
    of its files: equal manifests mean equal results.

    `statistics` has, in "total" and for each of "modules": delta_norms (adapter -> norm of s B A), cosines (rows in the
    order of "adapters", None with a zero change), merged_norm, energy_kept (share of the squared norm of the merged
    change that the truncation to factors kept) and distance_to_sum, ||merged - sum_i w_i delta_i|| over the norm of
    that sum (None if it is zero), with the weights normalised where the method does so; for linear with the convention
    peft this is the size of the cross terms. "modules" has the rank too. The norms are those after rounding to the
    element type.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    statistics: dict[str, Any]
    manifest: dict[str, Any]


def merge_adapters(
    method: str,
    adapters: Mapping[str, Path | Adapter],
    parameters: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    base: str | None = None,
) -> MergedAdapter:
    """Merge adapters by a method of `langmerge.catalogue.lora.LORA_METHODS` into an adapter of scaling 1.

    Args:
        method: its name there.
        adapters: name -> folder or opened adapter, in the order of the weights; names seed random masks.
        parameters: completed from the catalogue.
        dtype: element type of the factors.
        base: name of the base model for the configuration; needed where the adapters do not agree on one.

    Modules that only some adapters have are zero in the others. Only factors, and one merged matrix at a time where a
    method looks at entries, lie in memory.

    Raises ValueError for what the catalogue refuses, adapters of different bases or with shapes that do not fit, and
    adapters that hold more than LoRA factors; besides what opening an adapter raises.
    """
    if not adapters:
        raise ValueError("no adapters to merge")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype: {dtype} is not a floating point type")
    complete = check(method, parameters or {}, len(adapters))
    opened = [each.named(name) if isinstance(each, Adapter) else Adapter(name, each) for name, each in adapters.items()]
    modules = _union(opened)
    base = _base(opened) if base is None else base
    statistics = _Statistics(opened, _weights_of_sum(method, opened, complete))
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for module, (b, a), kept in _combined(method, opened, modules, complete):
        rounded = b.to(dtype).contiguous(), a.to(dtype).contiguous()
        if not all(torch.isfinite(factor).all() for factor in rounded):
            raise ValueError(f"{method}: module {module!r} does not fit into {dtype}; choose a wider dtype")
        ranks[module] = a.shape[0]
        key = f"{PREFIX}{module}."
        if modules[module].embedding:
            tensors |= {f"{key}lora_embedding_A": rounded[1], f"{key}lora_embedding_B": rounded[0]}
        else:
            tensors |= {f"{key}lora_A.weight": rounded[1], f"{key}lora_B.weight": rounded[0]}
        statistics.add(module, rounded, kept)
    manifest = {
        "method": method,
        "parameters": complete,
        "base_model": base,
        "dtype": str(dtype).removeprefix("torch."),
        "adapters": {
            adapter.name: {file: sha256_file(adapter.folder / file) for file in (CONFIG, WEIGHTS)} for adapter in opened
        },
    }
    for adapter in opened:
        adapter.close()
    return MergedAdapter(tensors, _config(opened, ranks, base), {**manifest, **statistics.result()}, manifest)


def write_adapter(merged: MergedAdapter, folder: Path) -> None:
    """Write a folder that peft loads, with merge_statistics.json; whole or, on an error, not at all.

    Raises FileExistsError if `folder` is not empty.
    """
    with atomic_folder(Path(folder)) as partial:
        save_file(merged.tensors, partial / WEIGHTS, metadata={"format": "pt"})
        write_json(partial / CONFIG, merged.config)
        write_json(partial / STATISTICS, merged.statistics)


def _combined(
    method: str, adapters: Sequence[Adapter], modules: Mapping[str, Module], parameters: Mapping[str, Any]
) -> Iterable[combine.Combined]:
    if method == "knots":
        return combine.knots(adapters, modules, parameters)
    if parameters.get("convention") == "peft" and method in _PEFT:
        return combine.on_factors(method, adapters, modules, parameters)
    if method in ("cat", "svd", "linear"):
        return combine.summed(adapters, modules, parameters)
    return combine.on_deltas(method, adapters, modules, parameters)


_PEFT = ("linear", "magnitude_prune", "ties", "dare_linear", "dare_ties")
"""Methods whose convention peft is that of the factors."""


def _weights_of_sum(method: str, adapters: Sequence[Adapter], parameters: Mapping[str, Any]) -> list[float]:
    weights = combine.weights_of(adapters, parameters)
    total = math.fsum(weights)
    return [w / total for w in weights] if parameters.get("normalize") and abs(total) >= 1e-8 else weights


def _union(adapters: Sequence[Adapter]) -> dict[str, Module]:
    """All adapted modules by name; ValueError for shapes that differ and for whatever is no LoRA factor."""
    modules: dict[str, tuple[str, Module]] = {}
    for adapter in adapters:
        extra = sorted(adapter.replaced) + [f"{m}.bias" for m, e in adapter.modules.items() if "bias" in e.tensors]
        if extra:
            raise ValueError(
                f"adapter {adapter.name!r}: holds {extra[0]!r} as well ({len(extra)} such tensor(s), modules_to_save "
                "or biases), which is no LoRA; merge into a full model instead (AdapterView)"
            )
        if adapter.fan_in_fan_out != adapters[0].fan_in_fan_out:
            raise ValueError(
                f"{CONFIG}: fan_in_fan_out is {adapters[0].fan_in_fan_out} in adapter {adapters[0].name!r} but "
                f"{adapter.fan_in_fan_out} in adapter {adapter.name!r}; expected adapters of one base"
            )
        for name, module in adapter.modules.items():
            first, known = modules.setdefault(name, (adapter.name, module))
            one = (known.embedding, known.outputs, known.inputs)
            two = (module.embedding, module.outputs, module.inputs)
            if one != two:
                raise ValueError(
                    f"module {name!r} is {_words(one)} in adapter {first!r} but {_words(two)} in adapter "
                    f"{adapter.name!r}; only adapters of one base can be merged"
                )
    return {name: modules[name][1] for name in sorted(modules)}


def _words(shape: tuple[bool, int, int]) -> str:
    embedding, outputs, inputs = shape
    return f"{'an embedding' if embedding else 'a linear layer'} of {inputs} inputs and {outputs} outputs"


def _base(adapters: Sequence[Adapter]) -> str | None:
    """The base that the adapters agree on; ValueError if they do not."""
    named: dict[str, str] = {}
    for adapter in adapters:
        if adapter.base_name:
            named.setdefault(adapter.base_name, adapter.name)
    if len(named) > 1:
        (one, first), (two, second) = list(named.items())[:2]
        raise ValueError(
            f"{CONFIG}: base_model_name_or_path is {one!r} in adapter {first!r} but {two!r} in adapter {second!r}; "
            "only adapters of one base can be merged. If these are copies of one model, give its name as base"
        )
    return next(iter(named), None)


def _config(adapters: Sequence[Adapter], ranks: Mapping[str, int], base: str | None) -> dict[str, Any]:
    """adapter_config.json: alpha equals the rank everywhere, so that every scaling is exactly 1."""
    (usual, _), *_ = Counter(ranks.values()).most_common(1)
    # peft takes the first key that ends a module's name: the longer, more specific name has to come first.
    others = {name: ranks[name] for name in sorted(ranks, key=len, reverse=True) if ranks[name] != usual}
    first = adapters[0].config
    revisions = {adapter.config.get("revision") for adapter in adapters}
    return {
        "peft_type": "LORA",
        "task_type": first.get("task_type"),
        "base_model_name_or_path": base,
        "revision": revisions.pop() if len(revisions) == 1 else None,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "fan_in_fan_out": adapters[0].fan_in_fan_out,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


class _Statistics:
    """Sums over modules of what `MergedAdapter` describes; each row: Gram matrix, merged, before, error, sum."""

    def __init__(self, adapters: Sequence[Adapter], weights: Sequence[float]) -> None:
        self._adapters = adapters
        self._weights = weights
        self._rows: dict[str, tuple[Tensor, Tensor]] = {}
        self._ranks: dict[str, int] = {}

    def add(self, module: str, merged: Product, kept: float) -> None:
        """Count a module: the merged (B, A) as rounded, and the share of energy that truncation kept."""
        found = [combine.delta(adapter, module) for adapter in self._adapters]
        present = [index for index, product in enumerate(found) if product is not None]
        products = [product for product in found if product is not None]
        square = torch.zeros(len(found), len(found), dtype=torch.float64)
        square[torch.tensor(present)[:, None], torch.tensor(present)] = thin.gram(products).cpu()
        whole = thin.total(products, [self._weights[index] for index in present])
        norm = thin.norm(merged)
        error = thin.norm(thin.total([merged, whole], [1.0, -1.0]))
        numbers = [norm**2, norm**2 / kept if kept else 0.0, error**2, thin.norm(whole) ** 2]
        self._rows[module] = square, torch.tensor(numbers, dtype=torch.float64)
        self._ranks[module] = merged[0].shape[1]

    def result(self) -> dict[str, Any]:
        """Plain data."""
        rows = list(self._rows.values())
        total = self._describe(
            torch.stack([row[0] for row in rows]).sum(0), torch.stack([row[1] for row in rows]).sum(0)
        )
        modules = {
            name: {"rank": self._ranks[name], **self._describe(*row)} for name, row in sorted(self._rows.items())
        }
        return {"total": total, "modules": modules}

    def _describe(self, square: Tensor, numbers: Tensor) -> dict[str, Any]:
        norms = square.diagonal().clamp(min=0).sqrt().tolist()
        merged, before, error, whole = numbers.tolist()
        cosines = [
            [float(value) / (a * b) if a and b else None for value, b in zip(row, norms, strict=True)]
            for row, a in zip(square, norms, strict=True)
        ]
        return {
            "delta_norms": {adapter.name: norm for adapter, norm in zip(self._adapters, norms, strict=True)},
            "cosines": cosines,
            "merged_norm": math.sqrt(merged),
            "energy_kept": merged / before if before else 1.0,
            "distance_to_sum": math.sqrt(error / whole) if whole else None,
        }
