"""From a merge file to what the engine takes: recipes, sources, measured data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langmerge.merging.compatibility import vocabulary
from langmerge.merging.documents import mergekit, ours
from langmerge.merging.documents.from_mergekit import translate
from langmerge.merging.documents.job import Job
from langmerge.merging.documents.library import Library
from langmerge.merging.documents.yaml_text import load
from langmerge.merging.elements import ElementType, element_type
from langmerge.merging.engine import Merge
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source
from langmerge.merging.vocabulary import unify


@dataclass(frozen=True)
class Prepared:
    """A job with its models opened: what `write_models` and `Merge` take."""

    job: Job
    library: Library
    recipes: tuple[Recipe, ...]
    sources: Mapping[str, Source]
    data: Mapping[str, Path]
    notes: Mapping[str, Any]

    @property
    def dtype(self) -> ElementType | None:
        """Element type of the outputs; None: the reference's."""
        return element_type(self.job.dtype) if self.job.dtype else None

    def merge(self, **options: Any) -> Merge:
        """The pass, opened and checked."""
        return Merge(self.recipes, self.sources, data=self.data, outputs=self.job.outputs, dtype=self.dtype, **options)


def read_job(path: Path, name: str = "merged") -> tuple[Job, Library]:
    """The job of a file, ours or mergekit's (whose one recipe gets this name), and its models.

    ValueError names the key of the file, what was expected and how to mend it.
    """
    folder = path.parent
    data = load(path.read_text(encoding="utf-8"))
    if mergekit.is_mergekit(data):
        document = mergekit.read(data)
        library = Library(document.models, folder)
        job = translate(document, library.source, name, folder)
    else:
        job = ours.read(data, folder)
    return job, Library(job.models, folder)


def prepare(job: Job, library: Library) -> Prepared:
    """Open the models that the outputs need, and put them into one vocabulary if the job says so.

    ValueError for models that cannot be had or do not fit together, and for outputs whose names are no folder names.
    """
    for name in job.outputs:
        if Path(name).name != name or name.startswith("."):
            raise ValueError(f"merges.{name}: this name cannot be that of a folder; use letters, digits, - and _")
    names = dict.fromkeys(name for recipe in job.recipes for name in recipe.inputs if name in job.models)
    sources = {name: library.source(name) for name in names}
    recipes, notes = job.recipes, dict[str, Any]()
    reference = _reference(job)
    if job.tokenizer and job.vocabulary == "error":
        own, there = (library.source(name).json("tokenizer.json") for name in (job.tokenizer, reference))
        if own is None or (there is not None and vocabulary(own) != vocabulary(there)):
            raise ValueError(
                f"tokenizer: {job.tokenizer} has no tokenizer.json with the tokens of the merged models; name another "
                "model, or use vocabulary: union"
            )
    if job.vocabulary == "body" or (job.vocabulary == "union" and (job.pad_to_multiple_of > 1 or _differ(sources))):
        base = job.tokenizer or reference
        unified = unify(
            sources, base, "body" if job.vocabulary == "body" else "union", pad_to_multiple_of=job.pad_to_multiple_of
        )
        sources, notes = unified.sources, dict(unified.notes)
        recipes = tuple(replace(recipe, rules=(*unified.rules, *recipe.rules)) for recipe in recipes)
    measured = {name for recipe in recipes for name in recipe.measured}
    data = {name: _data(name, place, job.folder) for name, place in job.data.items() if name in measured}
    return Prepared(job, library, recipes, sources, data, notes)


def _reference(job: Job) -> str:
    """The model that gives the first output its configuration and tokenizer."""
    name, recipes = job.outputs[0], {recipe.name: recipe for recipe in job.recipes}
    while name in recipes:
        name = recipes[name].base or recipes[name].models[0]
    return name


def _differ(sources: Mapping[str, Source]) -> bool:
    """Whether the models' tokenizers know different tokens."""
    found = [source.json("tokenizer.json") for source in sources.values()]
    tables = [None if tokenizer is None else vocabulary(tokenizer) for tokenizer in found]
    return any(table != tables[0] for table in tables[1:])


def _data(name: str, place: str, folder: Path) -> Path:
    path = Path(place).expanduser()
    for candidate in [path] if path.is_absolute() else [folder / path, path]:
        if candidate.is_dir():
            return candidate.resolve()
    raise ValueError(f"data.{name}: no folder {place!r} in {folder} or {Path.cwd()}")
