"""mergekit's merge files: read and checked here, resolved into our recipes by `from_mergekit`.

Differences that are meant: unknown keys and parameters are errors (mergekit ignores them), arithmetic is in float32
whatever `dtype` says, every tensor of the models is written, and without `base_model` the first model gives the
configuration (mergekit: a random one). Where the last slice has more sources than the first, all of them enter the
final norm and the head (mergekit: only as many as the first slice has). Facts after mergekit 0.1.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.documents.job import DTYPES, Model, layer_range
from langmerge.merging.documents.mergekit_methods import MERGEKIT
from langmerge.merging.documents.settings import check
from langmerge.merging.documents.yaml_text import known_keys, suggest

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
