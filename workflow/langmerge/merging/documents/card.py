"""The model card of a merge: what it was made of, how, what the numbers say, what it cost, how to make it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.documents.job import Job, Model, Stack, used_by
from langmerge.merging.documents.yaml_text import dump
from langmerge.merging.recipe import Recipe

_MANY = 12
"""Rules and tensors beyond this number are counted, not listed."""


@dataclass(frozen=True)
class Origin:
    """Where a model came from: its Hub id (None: a local folder), commit, and SHA-256 by weight file if known."""

    hub_id: str | None
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What is known of one output once it is written.

    `statistics` as in merge_statistics.json, `origins` by model name, `hashes` SHA-256 by output file, `versions` by
    library, `cost` in words by kind, `mergekit` None if mergekit_config.yml was written, else why it was not.
    """

    statistics: Mapping[str, Any]
    origins: Mapping[str, Origin]
    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    cost: Mapping[str, str]
    mergekit: str | None


def card(job: Job, output: str, made: Made) -> str:
    """README.md of one output in the Hub's format: YAML front matter, then Markdown."""
    recipe = job.recipe(output)
    parts = [
        f"---\n{dump(front_matter(job, recipe, made.origins))}---\n\n# {output}\n",
        _summary(job, recipe),
        _models(job, recipe, made),
        _parameters(recipe),
        _rules(recipe),
        _statistics(made.statistics),
        _again(made),
    ]
    if job.notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in job.notes))
    parts.append(_provenance(made))
    return "\n".join(part for part in parts if part)


def front_matter(job: Job, recipe: Recipe, origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Metadata that the Hub understands; models without a Hub id are left out of `base_model`."""
    ids = [origin.hub_id for name in _models_of(job, recipe) if (origin := origins.get(name)) and origin.hub_id]
    data: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "langmerge", recipe.method]}
    if ids:
        data |= {"base_model": list(dict.fromkeys(ids)), "base_model_relation": "merge"}
    return data


def _models_of(job: Job, recipe: Recipe) -> list[str]:
    """Names of all models with a place that a recipe rests on, through stacks and other recipes."""
    found: dict[str, None] = {}
    recipes = {other.name: other for other in job.recipes}
    todo = list(recipe.inputs)
    while todo:
        name = todo.pop(0)
        if name in recipes:
            todo += recipes[name].inputs
        elif isinstance(job.models[name], Stack):
            todo += used_by(job.models[name])
        else:
            found[name] = None
    return list(found)


def _summary(job: Job, recipe: Recipe) -> str:
    entry = METHODS[recipe.method]
    onto = f" onto {recipe.base}" if recipe.base and recipe.base not in recipe.models else ""
    text = f"A merge of {_listed(recipe.models)}{onto} in weight space by **{entry.title}** ({entry.paper}).\n\n"
    text += f"> {entry.description}\n"
    stacks = [(name, model) for name, model in job.models.items() if isinstance(model, Stack) and name in recipe.inputs]
    for name, stack in stacks:
        runs = ", ".join(f"{run.model} {run.start}-{run.stop - 1}" for run in stack.runs)
        text += f"\n{name} is made of layers of other models: {runs}.\n"
    if job.vocabulary == "union":
        text += "\nThe models have the union of their vocabularies; tokens that a model lacks have the base's row.\n"
    elif job.vocabulary == "body":
        text += "\nOnly the body was merged; embeddings, head and tokenizer are those of one model.\n"
    return text


def _models(job: Job, recipe: Recipe, made: Made) -> str:
    norms = made.statistics.get("total", {}).get("delta_norms", {})
    per_model = [key for key, value in METHODS[recipe.method].parameters.items() if value.per_model]
    given = [key for key in per_model if recipe.parameters.get(key) is not None]
    rows = []
    listed = dict.fromkeys([*([recipe.base] if recipe.base else []), *recipe.models, *_models_of(job, recipe)])
    for name in listed:
        role = "base" if name == recipe.base else "merged" if name in recipe.models else "part"
        values = [
            _number(recipe.parameters[key][recipe.models.index(name)]) if name in recipe.models else "" for key in given
        ]
        norm = _number(norms[name]) if name in norms else ""
        rows.append([name, role, _place(job, name, made.origins), *values, norm])
    return "## Models\n\n" + _table(["model", "role", "from", *given, "norm of the task vector"], rows)


def _place(job: Job, name: str, origins: Mapping[str, Origin]) -> str:
    model = job.models.get(name)
    if model is None:
        return "another merge of this file"
    if isinstance(model, Stack):
        return "layers of other models"
    origin = origins.get(name) or Origin(None)
    place = f"[{origin.hub_id}](https://huggingface.co/{origin.hub_id})" if origin.hub_id else "local folder"
    commit = f" at {origin.commit[:12]}" if origin.commit else ""
    return place + commit + (" with a LoRA adapter" if isinstance(model, Model) and model.adapter else "")


def _parameters(recipe: Recipe) -> str:
    known = METHODS[recipe.method].parameters
    shown = {key: value for key, value in recipe.parameters.items() if value is not None and not known[key].per_model}
    if not shown:
        return ""
    rows = [[key, _number(value), known[key].description] for key, value in shown.items()]
    return "## Parameters\n\n" + _table(["parameter", "value", "meaning"], rows)


def _rules(recipe: Recipe) -> str:
    if not recipe.rules:
        return ""
    rows = []
    for number, rule in enumerate(recipe.rules[:_MANY]):
        where = [f"layers {_ranges(rule.layers)}"] if rule.layers is not None else []
        where += [f"part {rule.part}"] if rule.part else []
        where += [f"`{rule.tensors}`"] if rule.tensors else []
        what = [recipe.under(number).method] if rule.method else []
        what += [f"models {_listed(rule.models)}"] if rule.models else []
        what += [f"{key} = {_number(value)}" for key, value in rule.parameters.items()]
        rows.append([", ".join(where), "; ".join(what)])
    more = f"\n... and {len(recipe.rules) - _MANY} more in recipe.yaml.\n" if len(recipe.rules) > _MANY else ""
    text = "## Different for some tensors\n\nOf several rules the first that fits holds.\n\n"
    return text + _table(["where", "what"], rows) + more


def _statistics(statistics: Mapping[str, Any]) -> str:
    total = statistics.get("total")
    if not total:
        return ""
    rows = [
        ["norm of merged - reference", _number(total["change_norm"])],
        ["lost by rounding to the output type (share of the change)", _number(total["rounding_loss"])],
        ["changed entries that rounding set back", _number(total["vanished"])],
        ["tensors in which no change survived", str(len(total["unchanged_tensors"]))],
    ]
    if "sign_conflict_rate" in total:
        rows.append(["entries on whose sign the models disagree", _number(total["sign_conflict_rate"])])
    text = f"## Statistics\n\nThe reference is {statistics['reference']}; all of it is in merge_statistics.json.\n\n"
    text += _table(["quantity", "value"], rows)
    models = statistics.get("models") or []
    if 1 < len(models) <= _MANY:
        cells = [
            [name, *("-" if value is None else f"{value:.3f}" for value in row)]
            for name, row in zip(models, total["cosines"], strict=True)
        ]
        text += "\nCosines of the task vectors:\n\n" + _table(["", *models], cells)
    return text


def _again(made: Made) -> str:
    text = "## Making it again\n\n```\npython -m langmerge.merging recipe.yaml OUT\n```\n\n"
    if made.mergekit is None:
        return text + "mergekit_config.yml says the same in mergekit's format.\n"
    return text + f"There is no mergekit_config.yml, since mergekit cannot express this recipe: {made.mergekit}.\n"


def _provenance(made: Made) -> str:
    rows = [[name, value] for name, value in {**made.versions, **made.cost}.items()]
    text = "## Provenance\n\n" + _table(["", ""], rows)
    hashes = [
        [f"{name}/{file}", digest] for name, origin in made.origins.items() for file, digest in origin.hashes.items()
    ]
    hashes += [[f"{file} (this model)", digest] for file, digest in made.hashes.items()]
    return text + ("\n" + _table(["file", "SHA-256"], hashes) if hashes else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, *rows)]
    lines = [cells[0], ["---"] * len(head), *cells[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(_number(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _ranges(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as 0-2, 5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
