"""Our recipes as mergekit's YAML, where it can say what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.documents.job import Job, Model, Stack
from langmerge.merging.documents.mergekit_methods import MERGEKIT, theirs
from langmerge.merging.documents.settings import describe
from langmerge.merging.methods.layers import layer_index
from langmerge.merging.recipe import Recipe
from langmerge.merging.views import before_the_layers, renumbered


@dataclass(frozen=True)
class _Tensor:
    """An output tensor: the models that it is made of, and what mergekit is to be told of it."""

    name: str
    models: tuple[str, ...]
    shared: Mapping[str, Any]
    by_model: Mapping[str, Mapping[str, Any]]


def to_mergekit(job: Job, output: str, tensors: Sequence[str], places: Mapping[str, str], out_dtype: str | None) -> Any:
    """Plain data of a mergekit file that makes `output` of a job.

    `tensors` are the names of those that are merged, `places` tells where each `Model` is, `out_dtype` is the element
    type of the output. ValueError says why mergekit's YAML cannot express the recipe.
    """
    recipe = job.recipe(output)
    if inner := [name for name in recipe.inputs if name not in job.models]:
        raise ValueError(f"it merges another merge ({inner[0]})")
    if job.vocabulary == "body":
        raise ValueError("vocabulary: body has no counterpart")
    method = recipe.method
    if method not in MERGEKIT:
        raise ValueError(f"mergekit has no method {method}")
    base = recipe.base
    resolved = [_resolved(method, region, names) for region, names in recipe.regions(tensors)]
    by_name = {tensor.name: tensor for group in resolved for tensor in group}
    ordered = [by_name[name] for name in tensors]
    result: dict[str, Any] = {"merge_method": method}
    stacked = any(isinstance(job.models[name], Stack) for name in recipe.inputs)
    if stacked or len({tensor.models for tensor in ordered}) > 1:
        runs = _runs(job, ordered)
        result["slices"] = [_slice(job, run, places) for run in runs]
        base = _common_base(job, recipe)
    else:
        result["models"] = _rows(ordered, places)
    if base is not None:
        if MERGEKIT[method].base == "ignored" and "models" in result and base not in ordered[0].models:
            # mergekit takes the base among the models: with weight 0 it changes nothing.
            if method != "linear":
                raise ValueError(f"mergekit's {method} would take the base into the average")
            result["models"].append({"model": places[base], "parameters": {"weight": 0.0}})
        result["base_model"] = places[base]
    if "models" in result and (shared := _shared(ordered)):
        result["parameters"] = shared
    result |= {"dtype": "float32"} | ({"out_dtype": out_dtype} if out_dtype else {})
    if job.vocabulary == "union" and job.pad_to_multiple_of > 1:
        result["tokenizer"] = {"source": "union", "pad_to_multiple_of": job.pad_to_multiple_of}
    elif job.vocabulary == "union":
        result["tokenizer_source"] = "union"
    elif job.tokenizer:
        result["tokenizer_source"] = "base" if job.tokenizer == base else places[job.tokenizer]
    return result | ({"chat_template": job.chat_template} if job.chat_template else {})


def _resolved(method: str, region: Recipe, names: Sequence[str]) -> list[_Tensor]:
    if region.method != method:
        raise ValueError(f"it uses several methods ({method}, {region.method})")
    entry = MERGEKIT[method]
    shared, by_model = theirs(method, region.parameters, len(region.models))
    own = {model: {key: values[i] for key, values in by_model.items()} for i, model in enumerate(region.models)}
    models = region.models
    if entry.base != "ignored" and region.base is not None and region.base not in models:
        models = (region.base, *models)
    if entry.base == "required" and models[0] != region.base:
        raise ValueError(f"mergekit's {method} needs the first model to be the base")
    return [_Tensor(name, models, shared, own) for name in names]


def _shared(tensors: Sequence[_Tensor]) -> dict[str, Any]:
    """Parameters for the whole merge (or slice), defaults left out."""
    keys = tensors[0].shared
    return {key: describe({tensor.name: tensor.shared[key] for tensor in tensors}) for key in keys}


def _rows(
    tensors: Sequence[_Tensor], places: Mapping[str, str], ranges: Mapping[str, tuple[str, int, int]] | None = None
) -> list[dict[str, Any]]:
    """Entries of `models` or `sources`; `ranges` gives model, first and last layer of each of our models."""
    rows = []
    for name in tensors[0].models:
        row: dict[str, Any] = {"model": places[ranges[name][0] if ranges else name]}
        if ranges:
            row["layer_range"] = list(ranges[name][1:])
        settings = {}
        for key in tensors[0].by_model.get(name, ()):
            values = {tensor.name: tensor.by_model[name][key] for tensor in tensors}
            if ranges:  # filters for a model look at the tensor's name in that model
                values = _as_in_the_model(values, ranges[name])
            settings[key] = describe(values)
        rows.append(row | ({"parameters": settings} if settings else {}))
    return rows


def _as_in_the_model(values: Mapping[str, Any], where: tuple[str, int, int]) -> dict[str, Any]:
    indices = [index for name in values if (index := layer_index(name)) is not None]
    shift = where[1] - min(indices, default=0)
    moved = {}
    for name, value in values.items():
        index = layer_index(name)
        moved[name if index is None else renumbered(name, index + shift)] = value
    return moved


@dataclass(frozen=True)
class _Piece:
    """Output layers start .. stop - 1, of the same models throughout, with what stands before or after them."""

    start: int
    stop: int
    tensors: list[_Tensor]
    ranges: dict[str, tuple[str, int, int]]


def _runs(job: Job, tensors: Sequence[_Tensor]) -> list[_Piece]:
    """The slices: cut wherever the models, or the runs of a stack, change."""
    layers: dict[int, list[_Tensor]] = {}
    first, last = [], []
    for tensor in tensors:
        index = layer_index(tensor.name)
        if index is not None:
            layers.setdefault(index, []).append(tensor)
        elif before_the_layers(tensor.name):
            first.append(tensor)
        else:
            last.append(tensor)
    groups: list[tuple[list[int], list[_Tensor], dict[str, tuple[str, int, int]]]] = []
    for index in range(len(layers)):
        models = {tensor.models for tensor in layers[index]}
        if len(models) > 1:
            raise ValueError(f"tensors of layer {index} are made of different models")
        where = {name: _place(job, name, index) for name in next(iter(models))}
        if groups and _continues(groups[-1][2], where):
            groups[-1][0].append(index)
            groups[-1][1].extend(layers[index])
            groups[-1][2].update({name: (*groups[-1][2][name][:2], where[name][2]) for name in where})
        else:
            groups.append(([index], list(layers[index]), where))
    groups[0][1][:0] = first
    groups[-1][1].extend(last)
    for _, found, where in (groups[0], groups[-1]):
        if any(set(tensor.models) != set(where) for tensor in found):
            raise ValueError("embeddings, final norm or head are made of other models than the layers beside them")
    return [_Piece(indices[0], indices[-1] + 1, found, where) for indices, found, where in groups]


def _continues(before: Mapping[str, tuple[str, int, int]], where: Mapping[str, tuple[str, int, int]]) -> bool:
    return list(before) == list(where) and all(
        before[name][0] == where[name][0] and before[name][2] == where[name][1] for name in where
    )


def _place(job: Job, name: str, index: int) -> tuple[str, int, int]:
    """(model, first, last layer) of one output layer in one of our models."""
    model = job.models[name]
    if isinstance(model, Model):
        return name, index, index + 1
    for run in model.runs:
        if index < run.stop - run.start:
            return run.model, run.start + index, run.start + index + 1
        index -= run.stop - run.start
    raise AssertionError(f"{name} has no layer {index}")


def _slice(job: Job, piece: _Piece, places: Mapping[str, str]) -> dict[str, Any]:
    shared = _shared(piece.tensors)
    sources = _rows(piece.tensors, places, piece.ranges)
    return {"sources": sources} | ({"parameters": shared} if shared else {})


def _common_base(job: Job, recipe: Recipe) -> str | None:
    """The model that is base_model of all slices; it gives the configuration too."""
    name = recipe.base or recipe.models[0]
    model = job.models[name]
    if isinstance(model, Model):
        return recipe.base
    models = {run.model for run in model.runs}
    if METHODS[recipe.method].needs_base or MERGEKIT[recipe.method].base == "required":
        if len(models) > 1:
            raise ValueError("its slices have different bases")
        return models.pop()
    return model.reference
