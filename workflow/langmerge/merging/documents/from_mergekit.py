"""mergekit's merge files, resolved tensor by tensor into recipes with rules. Facts after mergekit 0.1.5."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.compatibility import OUTPUT_EMBEDDINGS
from langmerge.merging.documents.job import Job, Model, Run, Stack
from langmerge.merging.documents.mergekit import Document, Input, Settings, Slice
from langmerge.merging.documents.mergekit_methods import MERGEKIT, REQUIRED, Setting, ours
from langmerge.merging.documents.rules import Choice, recipe_of
from langmerge.merging.documents.settings import evaluate, filters
from langmerge.merging.sources import Source
from langmerge.merging.views import before_the_layers, by_index, number_of_layers, renumbered


def translate(document: Document, source: Callable[[str], Source], name: str, folder: Path = Path()) -> Job:
    """The job of a document; `source` opens a model by its name.

    ValueError for layers that do not exist, slices of unequal length, a parameter that has no value for some tensor,
    and settings that our method cannot honour.
    """
    slices = [_complete(each, document, source) for each in document.slices]
    for each in slices:
        _check_inputs(each, document)
    outputs = list(_tensors(slices, source))
    direct = all(
        each.start == offset and number_of_layers(source(each.model)) == _length(slices)
        for offset, piece in _offsets(slices)
        for each in piece.inputs
    )
    models: dict[str, Model | Stack] = dict(document.models)
    places = [[each.model for each in piece.inputs] for piece in slices]
    if not direct:
        stacks = _stacks(slices, document)
        models |= stacks
        names = list(stacks)
        places = [names[: len(piece.inputs)] for piece in slices]
    choices = {}
    for output in outputs:
        choices[output.name] = _choice(output, slices[output.slice], places[output.slice], document)
    base = document.base if direct else None
    recipe = recipe_of(name, document.method, choices, base)
    used = set(recipe.inputs) | {document.tokenizer}
    used |= {run.model for each in models.values() if isinstance(each, Stack) for run in each.runs}
    used |= {each.reference for each in models.values() if isinstance(each, Stack)}
    return Job(
        models={key: model for key, model in models.items() if key in used},
        recipes=(recipe,),
        outputs=(name,),
        dtype=document.dtype,
        vocabulary=document.vocabulary,
        pad_to_multiple_of=document.pad_to_multiple_of,
        tokenizer=document.tokenizer,
        chat_template=document.chat_template,
        notes=(*document.notes, *_unused_filters(document, slices, outputs)),
        folder=folder,
        single=True,
    )


@dataclass(frozen=True)
class _Output:
    """An output tensor: its name, the slice it is of, its name in each input, its relative depth."""

    name: str
    slice: int
    inputs: tuple[str, ...]
    depth: float


def _complete(piece: Slice, document: Document, source: Callable[[str], Source]) -> Slice:
    """A slice with the number of layers filled in where a model is used whole; all inputs must be equally long."""
    inputs = []
    for each in piece.inputs:
        layers = number_of_layers(source(each.model))
        stop = layers if each.stop is None else each.stop
        if stop > layers:
            raise ValueError(f"{each.where}.layer_range: layer {stop - 1} of {each.model}, which has only {layers}")
        inputs.append(Input(each.where, each.model, each.settings, each.start, stop))
    lengths = {each.model: (each.stop or 0) - each.start for each in inputs}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{piece.where}: the sources have different numbers of layers: {lengths}")
    policy, base = MERGEKIT[document.method].base, piece.base or document.base
    if policy == "required":
        inputs.sort(key=lambda each: each.model != base)  # the base first, the others in their order
    return Slice(piece.where, tuple(inputs), piece.settings, base)


def _check_inputs(piece: Slice, document: Document) -> None:
    names = [each.model for each in piece.inputs]
    if doubles := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{piece.where}: {doubles[0]} is named twice; use weights instead")
    entry = MERGEKIT[document.method]
    if entry.base == "required" and piece.base not in names:
        missing = "base_model is missing" if piece.base is None else f"the base_model {piece.base} is not a source"
        raise ValueError(f"{piece.where}: {document.method} needs a base; {missing}")
    if entry.base == "optional" and piece.base is not None and piece.base not in names:
        raise ValueError(f"{piece.where}: the base_model {piece.base} is not among the sources, which it must be")
    fewest, most = entry.inputs
    if len(names) < fewest or (most is not None and len(names) > most):
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}" if most else f"at least {fewest}"
        raise ValueError(f"{piece.where}: {document.method} takes {wanted} model(s), found {len(names)}: {names}")


def _length(slices: Sequence[Slice]) -> int:
    return sum((piece.inputs[0].stop or 0) - piece.inputs[0].start for piece in slices)


def _offsets(slices: Sequence[Slice]) -> Iterator[tuple[int, Slice]]:
    """Each slice with the number of its first output layer."""
    offset = 0
    for piece in slices:
        yield offset, piece
        offset += (piece.inputs[0].stop or 0) - piece.inputs[0].start


def _merged(source: Source) -> dict[int | None, list[str]]:
    """Tensors that are merged, by layer: floating, not empty, and no output embedding that is tied."""
    tied = (source.json("config.json") or {}).get("tie_word_embeddings")
    return {
        index: [
            name
            for name in names
            if source.tensors[name].dtype.is_floating_point
            and source.tensors[name].numel
            and not (tied and name in OUTPUT_EMBEDDINGS)
        ]
        for index, names in by_index(source).items()
    }


def _tensors(slices: Sequence[Slice], source: Callable[[str], Source]) -> Iterator[_Output]:
    """All output tensors: what stands before the layers, slice by slice the layers, what stands after them."""
    first, last = (_merged(source(piece.inputs[0].model)) for piece in (slices[0], slices[-1]))
    for name in first.get(None, ()):
        if before_the_layers(name):
            yield _Output(name, 0, (name,) * len(slices[0].inputs), 0.0)
    for number, (offset, piece) in enumerate(_offsets(slices)):
        layers = _merged(source(piece.inputs[0].model))
        length = (piece.inputs[0].stop or 0) - piece.inputs[0].start
        for index in range(length):
            depth = index / (length - 1) if length > 1 else 1.0
            for name in layers.get(piece.inputs[0].start + index, ()):
                inputs = tuple(renumbered(name, each.start + index) for each in piece.inputs)
                yield _Output(renumbered(name, offset + index), number, inputs, depth)
    for name in last.get(None, ()):
        if not before_the_layers(name):
            yield _Output(name, len(slices) - 1, (name,) * len(slices[-1].inputs), 0.0)


def _resolve(where: str, key: str, setting: Setting, scopes: Sequence[Settings], tensor: str, depth: float) -> Any:
    """The value of a parameter for a tensor: of the first scope that has one."""
    for scope in scopes:
        if key in scope:
            value = evaluate(f"parameters.{key}", scope[key], setting.kind, tensor, depth)
            if value is not None:
                return value
    if setting.default is REQUIRED:
        raise ValueError(
            f"{where}: no {key} for tensor {tensor!r}; give it there, or in the file's parameters for all models"
        )
    return setting.default


def _choice(output: _Output, piece: Slice, places: Sequence[str], document: Document) -> Choice:
    """What an output tensor is made of; `places` are our names of the slice's inputs."""
    entry = MERGEKIT[document.method]
    outer = (piece.settings, document.module, document.settings)
    shared = {
        key: _resolve(piece.where, key, setting, outer, output.name, output.depth)
        for key, setting in entry.settings.items()
        if setting.scope == "shared"
    }
    base: str | None = None
    members = list(range(len(places)))
    if entry.base != "ignored":
        base = next((places[i] for i in members if piece.inputs[i].model == piece.base), None)
        if METHODS[document.method].needs_base or entry.base == "optional":
            members = [i for i in members if places[i] != base]
    by_model = {
        key: [
            _resolve(
                piece.inputs[i].where,
                key,
                setting,
                (piece.inputs[i].settings, *outer),
                output.inputs[i],
                output.depth,
            )
            for i in members
        ]
        for key, setting in entry.settings.items()
        if setting.scope != "shared"
    }
    parameters = ours(document.method, shared, by_model)
    return Choice.of([places[i] for i in members], base, parameters)


def _stacks(slices: Sequence[Slice], document: Document) -> dict[str, Stack]:
    """One stack of layers for each place in the slices; a slice with fewer inputs repeats its first one there."""
    stacks = {}
    for place in range(max(len(piece.inputs) for piece in slices)):
        runs: list[Run] = []
        for piece in slices:
            each = piece.inputs[place if place < len(piece.inputs) else 0]
            runs.append(Run(each.model, each.start, each.stop or 0))
        name = "+".join(dict.fromkeys(run.model for run in runs))
        while name in document.models or name in stacks:
            name += "'"
        reference = document.base if document.base not in (None, runs[0].model) else None
        stacks[name] = Stack(tuple(runs), reference)
    return stacks


def _unused_filters(document: Document, slices: Sequence[Slice], outputs: Sequence[_Output]) -> list[str]:
    """Filters that fit no tensor: mergekit says nothing of them, and they are often misspelt."""
    names = [name for output in outputs for name in (output.name, *output.inputs)]
    scopes = [document.settings, document.module]
    scopes += [piece.settings for piece in slices] + [each.settings for piece in slices for each in piece.inputs]
    unused = {word for scope in scopes for setting in scope.values() for word in filters(setting)}
    return [f"The filter {word!r} fits no tensor." for word in sorted(unused) if not any(word in n for n in names)]
