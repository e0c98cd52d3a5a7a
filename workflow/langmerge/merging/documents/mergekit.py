"""mergekit's merge files, translated so that our engine computes what mergekit's file means.

Differences that are meant: unknown keys and parameters are errors (mergekit ignores them), arithmetic is in float32
whatever `dtype` says, every tensor of the models is written, and without `base_model` the first model gives the
configuration (mergekit: a random one). Where the last slice has more sources than the first, all of them enter the
final norm and the head (mergekit: only as many as the first slice has). Facts after mergekit 0.1.5.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.compatibility import OUTPUT_EMBEDDINGS
from langmerge.merging.documents.job import DTYPES, Job, Model, Run, Stack, layer_range
from langmerge.merging.documents.mergekit_methods import MERGEKIT, REQUIRED, Setting, ours
from langmerge.merging.documents.rules import Choice, recipe_of
from langmerge.merging.documents.settings import check, evaluate, filters
from langmerge.merging.documents.yaml_text import known_keys, suggest
from langmerge.merging.sources import Source
from langmerge.merging.views import before_the_layers, by_index, number_of_layers, renumbered

KEYS = (
    "merge_method",
    "models",
    "slices",
    "modules",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)

Settings = Mapping[str, Any]

_NONE: Settings = {}


@dataclass(frozen=True)
class Input:
    """One source of a slice: layers start .. stop - 1 of a model (all of them where stop is None)."""

    where: str
    model: str
    settings: Settings
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Slice:
    """Output layers made from the layers of several sources, one by one."""

    where: str
    inputs: tuple[Input, ...]
    settings: Settings = field(default_factory=dict)
    base: str | None = None


@dataclass(frozen=True)
class Document:
    """A file as it stands, checked but not resolved; models by the names that our recipe gives them."""

    method: str
    models: Mapping[str, Model]
    slices: tuple[Slice, ...]
    base: str | None
    module: Settings
    settings: Settings
    dtype: str | None
    tokenizer: str | None
    vocabulary: str
    pad_to_multiple_of: int
    chat_template: str | None
    notes: tuple[str, ...]


def is_mergekit(data: Any) -> bool:
    """Whether plain data is a file of mergekit."""
    return isinstance(data, Mapping) and "merge_method" in data


class _Models:
    """Names for models as they are met: the last part of the path, made unique."""

    def __init__(self) -> None:
        self.by_name: dict[str, Model] = {}

    def name(self, where: str, data: Any) -> str:
        model = _model(where, data)
        for name, known in self.by_name.items():
            if known == model:
                return name
        short = Path(model.path).name + (f"+{Path(model.adapter).name}" if model.adapter else "")
        name, number = short, 2
        while name in self.by_name:
            name, number = f"{short}-{number}", number + 1
        self.by_name[name] = model
        return name


def read(data: Mapping[str, Any]) -> Document:
    """The document of a file's plain data; ValueError names the key, what was expected and how to mend it."""
    keys = known_keys("the mergekit file", data, KEYS)
    method = keys["merge_method"]
    if method not in MERGEKIT:
        raise ValueError(f"merge_method: unknown method {method!r}{suggest(str(method), MERGEKIT)}")
    if method not in METHODS:
        raise ValueError(f"merge_method: {method} cannot be computed here")
    given = [key for key in ("models", "slices", "modules") if keys.get(key)]
    if len(given) != 1:
        raise ValueError(f"expected exactly one of models, slices, modules, found {' and '.join(given) or 'none'}")
    models = _Models()
    base = models.name("base_model", keys["base_model"]) if keys.get("base_model") is not None else None
    where, part, module = "", keys, _NONE
    if given == ["modules"]:
        where, part, module = _module(keys["modules"], method)
    slices = _slices(where, part, models, method, base)
    dtype, notes = _dtype(keys)
    tokenizer, vocabulary, padding, more = _tokenizer(keys, models, base)
    template = keys.get("chat_template")
    if template is not None and template != "auto" and (len(str(template)) < 20 or "{" not in str(template)):
        raise ValueError(
            f"chat_template: {template!r} is neither auto nor a template; give the text of the template itself"
        )
    return Document(
        method=method,
        models=models.by_name,
        slices=slices,
        base=base,
        module=module,
        settings=_settings("parameters", keys.get("parameters"), method, everywhere=True),
        dtype=dtype,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        pad_to_multiple_of=padding,
        chat_template=template,
        notes=(*notes, *more),
    )


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


# ---- reading ---------------------------------------------------------------------------------------------------------


def _model(where: str, data: Any) -> Model:
    """A model reference: text, or a mapping of model and lora, each text or {path, revision}."""
    try:
        if isinstance(data, str):
            return Model.parse(data)
        keys = known_keys(where, data, ("model", "lora", "path", "revision", "override_architecture"))
        if keys.get("override_architecture") is not None:
            raise ValueError("override_architecture is not known here; the architecture is read from the tensors")
        rows: list[Mapping[str, Any]] = [
            {"path": part} if isinstance(part, str) else known_keys(where, part or {}, ("path", "revision"))
            for part in (keys.get("model", data), keys.get("lora"))
        ]
        path = rows[0].get("path")
        if isinstance(path, str):
            return Model(path, rows[0].get("revision"), rows[1].get("path"), rows[1].get("revision"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    raise ValueError(f"{where}: {data!r} is not a model; expected a path or Hub id")


def _module(data: Any, method: str) -> tuple[str, Mapping[str, Any], Settings]:
    if not isinstance(data, Mapping) or len(data) != 1:
        raise ValueError("modules: models of several modules (towers) cannot be merged here; expected a single one")
    name, part = next(iter(data.items()))
    where = f"modules.{name}."
    known_keys(where[:-1], part, ("models", "slices", "parameters"))
    if bool(part.get("models")) == bool(part.get("slices")):
        raise ValueError(f"{where[:-1]}: expected exactly one of models, slices")
    return where, part, _settings(f"{where}parameters", part.get("parameters"), method, everywhere=True)


def _slices(where: str, data: Mapping[str, Any], models: _Models, method: str, base: str | None) -> tuple[Slice, ...]:
    if data.get("models"):
        inputs = []
        for number, row in enumerate(_rows(f"{where}models", data["models"])):
            place = f"{where}models[{number}]"
            keys = known_keys(place, row, ("model", "parameters"))
            settings = _settings(f"{place}.parameters", keys.get("parameters"), method)
            inputs.append(Input(place, models.name(f"{place}.model", keys.get("model")), settings))
        if base is not None and base not in [each.model for each in inputs]:
            inputs.append(Input("base_model", base, {}))
        return (Slice(f"{where}models", tuple(inputs)),)
    slices = []
    for number, row in enumerate(_rows(f"{where}slices", data["slices"])):
        place = f"{where}slices[{number}]"
        keys = known_keys(place, row, ("sources", "base_model", "residual_weight", "parameters"))
        if keys.get("residual_weight") is not None:
            raise ValueError(f"{place}.residual_weight: mergekit itself does not use it; remove it")
        inputs = []
        for index, source in enumerate(_rows(f"{place}.sources", keys.get("sources"))):
            at = f"{place}.sources[{index}]"
            own = known_keys(at, source, ("model", "layer_range", "parameters"))
            start, stop = layer_range(f"{at}.layer_range", own.get("layer_range"))
            settings = _settings(f"{at}.parameters", own.get("parameters"), method)
            inputs.append(Input(at, models.name(f"{at}.model", own.get("model")), settings, start, stop))
        own_base = keys.get("base_model")
        slices.append(
            Slice(
                place,
                tuple(inputs),
                _settings(f"{place}.parameters", keys.get("parameters"), method, everywhere=True),
                models.name(f"{place}.base_model", own_base) if own_base is not None else None,
            )
        )
    return tuple(slices)


def _rows(where: str, data: Any) -> list[Any]:
    if not isinstance(data, list) or not data:
        raise ValueError(f"{where}: expected a list, found {data!r}")
    return data


def _settings(where: str, data: Any, method: str, everywhere: bool = False) -> Settings:
    """Checked parameters; those for the whole merge are refused beside a single model."""
    known = MERGEKIT[method].settings
    for key, setting in known_keys(where, data or {}, known).items():
        check(f"{where}.{key}", setting, known[key].kind)
        if not everywhere and known[key].scope == "shared":
            raise ValueError(
                f"{where}.{key}: belongs to the whole merge, mergekit would ignore it here; move it to the parameters "
                "of the slice or of the file"
            )
    return data or {}


def _dtype(keys: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    for key in ("dtype", "out_dtype"):
        value = keys.get(key)
        if value is not None and str(value).removeprefix("torch.") not in DTYPES:
            raise ValueError(f"{key}: {value!r} cannot be honoured; arithmetic is in float32, outputs are {DTYPES}")
    dtype, out = (str(keys[key]).removeprefix("torch.") if keys.get(key) else None for key in ("dtype", "out_dtype"))
    notes = []
    if dtype != "float32":
        computed = f"rounds inputs and every step to {dtype}" if dtype else "computes in the inputs' own types"
        notes.append(f"Arithmetic is in float32 and rounded once; mergekit {computed}.")
    return out or dtype, notes


def _tokenizer(keys: Mapping[str, Any], models: _Models, base: str | None) -> tuple[str | None, str, int, list[str]]:
    """(model that gives the tokenizer, what to do about vocabularies, multiple of rows, notes)."""
    where, source = "tokenizer_source", keys.get("tokenizer_source")
    padding = 1
    if keys.get("tokenizer") is not None:
        if source is not None:
            raise ValueError("tokenizer_source: stands beside tokenizer; give one of the two")
        own = known_keys("tokenizer", keys["tokenizer"], ("source", "tokens", "pad_to_multiple_of"))
        if own.get("tokens"):
            raise ValueError("tokenizer.tokens: cannot be honoured; remove it")
        where, source, padding = "tokenizer.source", own.get("source", "union"), own.get("pad_to_multiple_of") or 1
        if padding != 1 and source != "union":
            raise ValueError("tokenizer.pad_to_multiple_of: can be honoured with source: union only; remove it")
    if source is None:
        return None, "error", 1, []
    if source == "union":
        return base, "union", padding, []
    if source == "base" and base is None:
        raise ValueError(f"{where}: base asks for a base_model, and there is none")
    name = base if source == "base" else models.name(where, source)
    return name, "error", 1, ["Rows of the embeddings beyond the tokenizer's tokens are kept; mergekit cuts them off."]


# ---- resolving -------------------------------------------------------------------------------------------------------


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
