"""What a merge file asks for, whichever format it came in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmerge.merging.documents.yaml_text import known_keys
from langmerge.merging.recipe import Recipe

DTYPES = ("float32", "bfloat16", "float16")
VOCABULARIES = ("error", "union", "body")


@dataclass(frozen=True)
class Model:
    """A model by its folder or Hub id, at a revision of the Hub, with a LoRA adapter if one is named."""

    path: str
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None

    def __str__(self) -> str:
        return _at(self.path, self.revision) + (f"+{_at(self.adapter, self.adapter_revision)}" if self.adapter else "")

    @classmethod
    def parse(cls, text: str) -> "Model":
        """A model from `path`, `path@revision` or `path+adapter`; ValueError for anything else."""
        parts = text.split("+")
        halves = [part.split("@") for part in parts]
        if len(parts) > 2 or any(len(half) > 2 or not half[0] for half in halves):
            raise ValueError(f"{text!r} is not a model; expected PATH, PATH@REVISION or PATH+ADAPTER")
        pairs = [(half[0], half[1] if len(half) == 2 else None) for half in halves]
        return cls(*pairs[0], *(pairs[1] if len(pairs) == 2 else (None, None)))


@dataclass(frozen=True)
class Run:
    """Layers start .. stop - 1 of the model named `model`."""

    model: str
    start: int
    stop: int


@dataclass(frozen=True)
class Stack:
    """A model made of runs of other models' layers; `reference` names the one that gives configuration and tokenizer.

    Embeddings come from the model of the first run, final norm and head from that of the last.
    """

    runs: tuple[Run, ...]
    reference: str | None = None


@dataclass(frozen=True)
class Job:
    """Models, what is merged of them in one pass, and what is written.

    `models` and `data` map names to places, `recipes` use these names, `outputs` names those recipes that are written.
    `dtype` is the element type of the outputs (None: the reference's), `vocabulary` what happens if vocabularies differ
    (one of VOCABULARIES; `pad_to_multiple_of` rounds the rows of a union up), `tokenizer` the model whose tokenizer the
    outputs get (None: the reference's), `chat_template` a template's text or "auto". `notes` say where the result
    differs from what the file's own tool would write. `folder` is what relative paths are relative to. `single` tells
    that the one output is written into the folder itself.
    """

    models: Mapping[str, Model | Stack]
    recipes: tuple[Recipe, ...]
    outputs: tuple[str, ...]
    data: Mapping[str, str] = field(default_factory=dict)
    dtype: str | None = None
    vocabulary: str = "error"
    pad_to_multiple_of: int = 1
    tokenizer: str | None = None
    chat_template: str | None = None
    notes: tuple[str, ...] = ()
    folder: Path = Path()
    single: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"dtype: {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.vocabulary not in VOCABULARIES:
            raise ValueError(f"vocabulary: {self.vocabulary!r} is not one of {', '.join(VOCABULARIES)}")
        padding = self.pad_to_multiple_of
        if type(padding) is not int or padding < 1 or (padding > 1 and self.vocabulary != "union"):
            raise ValueError(
                f"pad_to_multiple_of: {padding!r} goes with vocabulary: union; expected a whole number >= 1"
            )
        if self.tokenizer is not None and self.tokenizer not in self.models:
            raise ValueError(f"tokenizer: no model {self.tokenizer!r}; known: {', '.join(self.models)}")
        for name, model in self.models.items():
            for used in used_by(model):
                if not isinstance(self.models.get(used), Model):
                    raise ValueError(f"models.{name}: {used!r} is not a model with a path; define it under models")

    def recipe(self, name: str) -> Recipe:
        """The recipe of this name."""
        return next(recipe for recipe in self.recipes if recipe.name == name)


def used_by(model: Model | Stack) -> tuple[str, ...]:
    """Names of the models whose layers a stack takes."""
    if isinstance(model, Model):
        return ()
    names = [run.model for run in model.runs] + ([model.reference] if model.reference else [])
    return tuple(dict.fromkeys(names))


def model_from(where: str, data: Any) -> Model | Stack:
    """A model from plain data: text as for `Model.parse`, {path, revision}, {base, adapter} or {layers, reference}."""
    try:
        if isinstance(data, str):
            return Model.parse(data)
        keys = known_keys(where, data, ("path", "revision", "base", "adapter", "layers", "reference"))
        if set(keys) <= {"path", "revision"} and "path" in keys:
            return Model(str(keys["path"]), keys.get("revision"))
        if set(keys) == {"base", "adapter"}:
            base, adapter = Model.parse(str(keys["base"])), Model.parse(str(keys["adapter"]))
            return Model(base.path, base.revision, adapter.path, adapter.revision)
        if "layers" in keys and set(keys) <= {"layers", "reference"} and isinstance(keys["layers"], list):
            runs = tuple(_run(f"{where}.layers[{number}]", row) for number, row in enumerate(keys["layers"]))
            if runs:
                return Stack(runs, keys.get("reference"))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
    raise ValueError(
        f"{where}: {data!r} is not a model; expected a path or Hub id, {{path, revision}}, {{base, adapter}}, or "
        "{layers: [{model, range: [START, STOP]}, ...]}"
    )


def _run(where: str, data: Any) -> Run:
    keys = known_keys(where, data, ("model", "range"))
    start, stop = layer_range(f"{where}.range", keys.get("range"))
    if not isinstance(keys.get("model"), str):
        raise ValueError(f"{where}.model: expected the name of a model, found {keys.get('model')!r}")
    return Run(keys["model"], start, stop)


def layer_range(where: str, data: Any) -> tuple[int, int]:
    """(start, stop) of a list of two whole numbers, 0 <= start < stop."""
    whole = isinstance(data, list | tuple) and len(data) == 2 and all(type(item) is int for item in data)
    if not whole or not 0 <= data[0] < data[1]:
        raise ValueError(f"{where}: expected [START, STOP] with whole numbers 0 <= START < STOP, found {data!r}")
    return data[0], data[1]


def plain(model: Model | Stack) -> Any:
    """Plain data that `model_from` reads."""
    if isinstance(model, Stack):
        rows = [{"model": run.model, "range": [run.start, run.stop]} for run in model.runs]
        return {"layers": rows} | ({"reference": model.reference} if model.reference else {})
    if model.adapter:
        return {"base": _at(model.path, model.revision), "adapter": _at(model.adapter, model.adapter_revision)}
    if model.revision:
        return {"path": model.path, "revision": model.revision}
    return {"path": model.path} if set("+@") & set(model.path) else model.path


def _at(path: str, revision: str | None) -> str:
    return f"{path}@{revision}" if revision else path
