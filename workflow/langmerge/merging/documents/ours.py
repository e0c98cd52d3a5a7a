"""Our merge files.

    models: {base: org/base, de: ./de, fr: {base: org/base, adapter: ./fr-lora}}
    base: base
    method: ties
    parameters: {density: [0.2, 0.5], weights: {de: 0.6, fr: 0.4}}
    rules: [{part: embeddings, method: linear}]
    dtype: bfloat16

`merges: {name: {method, models, base, parameters, rules, data}}` in the place of method, parameters and rules makes
several outputs in one pass; they may use one another by name, and `outputs` may name those that are written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.documents.grids import combinations
from langmerge.merging.documents.job import Job, Model, Stack, model_from, plain, used_by
from langmerge.merging.documents.yaml_text import known_keys, suggest
from langmerge.merging.recipe import Recipe, Rule, in_order

SHARED = ("models", "base", "data", "dtype", "vocabulary", "pad_to_multiple_of", "tokenizer", "chat_template")
SINGLE = ("name", "method", "parameters", "rules")
SEVERAL = ("merges", "outputs")
USUAL = {"dtype": None, "vocabulary": "error", "pad_to_multiple_of": 1, "tokenizer": None, "chat_template": None}
MERGE = ("models", "base", "method", "parameters", "rules", "data")


def read(data: Any, folder: Path = Path()) -> Job:
    """The job of a file's plain data; ValueError names the key, what was expected and how to mend it."""
    keys = known_keys("the recipe", data, (*SHARED, *SINGLE, *SEVERAL))
    models = _models(keys.get("models"))
    components = {used for model in models.values() for used in used_by(model)}
    base, measured = keys.get("base"), _texts("data", keys.get("data"))
    if "merges" in keys:
        if twice := [key for key in SINGLE if key in keys]:
            raise ValueError(f"{twice[0]}: stands beside merges; give each of the merges its own")
        merges = known_keys("merges", keys["merges"], keys["merges"] if isinstance(keys["merges"], Mapping) else ())
    else:
        if "outputs" in keys:
            raise ValueError("outputs: only means something together with merges")
        merges = {str(keys.get("name", "merged")): {key: keys[key] for key in SINGLE[1:] if key in keys}}
    given = [name for name in models if name not in components]
    recipes: list[Recipe] = []
    written: dict[str, list[str]] = {}
    for name, merge in merges.items():
        made = _recipes(str(name), merge, given, base, measured)
        recipes += made
        written[str(name)] = [recipe.name for recipe in made]
    in_order(recipes, models)
    wanted = keys.get("outputs")
    if wanted is not None and (not isinstance(wanted, list) or not wanted or not set(wanted) <= set(written)):
        raise ValueError(f"outputs: expected a list of names of merges ({', '.join(written)}), found {wanted!r}")
    outputs = tuple(name for merge in (wanted or written) for name in written[merge])
    return Job(
        models=models,
        recipes=tuple(recipes),
        outputs=outputs,
        data=measured,
        dtype=keys.get("dtype"),
        vocabulary=keys.get("vocabulary", "error"),
        pad_to_multiple_of=keys.get("pad_to_multiple_of", 1),
        tokenizer=keys.get("tokenizer"),
        chat_template=keys.get("chat_template"),
        folder=folder,
        single="merges" not in keys and len(outputs) == 1,
    )


def write(job: Job, output: str) -> dict[str, Any]:
    """Plain data of a file that makes `output` alone: what `read` turns into the same recipes."""
    needed = _needed(job, output)
    recipes = [recipe for recipe in job.recipes if recipe.name in needed]
    names = {name for recipe in recipes for name in recipe.inputs if name in job.models}
    names |= {job.tokenizer} if job.tokenizer else set()
    names |= {used for name in names for used in used_by(job.models[name])}
    models = {name: model for name, model in job.models.items() if name in names}
    data: dict[str, Any] = {"models": {name: plain(model) for name, model in models.items()}}
    measured = {name for recipe in recipes for name in recipe.measured}
    if measured:
        data["data"] = {name: place for name, place in job.data.items() if name in measured}
    for key, usual in USUAL.items():
        if getattr(job, key) != usual:
            data[key] = getattr(job, key)
    components = {used for model in models.values() for used in used_by(model)}
    only = recipes[0]
    others = tuple(name for name in models if name not in components and name != only.base)
    if len(recipes) == 1 and only.models == others and set(only.measured) <= set(only.models):
        base = {"base": only.base} if only.base else {}
        return {"name": only.name, **data, **base, **_merge(only)}
    return data | {
        "merges": {each.name: _merge(each, everything=True) for each in recipes},
        "outputs": [output],
    }


def _merge(recipe: Recipe, everything: bool = False) -> dict[str, Any]:
    described = recipe.to_json()
    keys = ("method", "models", "base", "parameters", "data", "rules") if everything else SINGLE[1:]
    return {key: _lists(described[key]) for key in keys if described.get(key) not in (None, {}, [])}


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items() if item is not None}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _needed(job: Job, output: str) -> set[str]:
    """The output and the recipes that it rests on."""
    recipes = {recipe.name: recipe for recipe in job.recipes}
    found, todo = {output}, [output]
    while todo:
        inner = [name for name in recipes[todo.pop()].inputs if name in recipes and name not in found]
        found.update(inner)
        todo += inner
    return found


def _models(data: Any) -> dict[str, Model | Stack]:
    if not isinstance(data, Mapping) or not data:
        raise ValueError("models: expected a mapping of names to paths or Hub ids, e.g. models: {de: org/model-de}")
    return {str(name): model_from(f"models.{name}", place) for name, place in data.items()}


def _texts(where: str, data: Any) -> dict[str, str]:
    if data is None:
        return {}
    if not isinstance(data, Mapping) or not all(isinstance(value, str) for value in data.values()):
        raise ValueError(f"{where}: expected a mapping of names to folders, found {data!r}")
    return {str(name): place for name, place in data.items()}


def _recipes(name: str, data: Any, given: Sequence[str], base: str | None, measured: Mapping[str, str]) -> list[Recipe]:
    """One recipe, or those of a grid."""
    where = f"merges.{name}"
    keys = known_keys(where, data, MERGE)
    method = keys.get("method")
    if method not in METHODS:
        found = "no method" if method is None else f"unknown merge method {method!r}"
        raise ValueError(f"{where}.method: {found}{suggest(str(method), METHODS)}")
    base = keys.get("base", base)
    models = keys.get("models", [model for model in given if model != base])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ValueError(f"{where}.models: expected a list of names, found {models!r}")
    rules = keys.get("rules") or []
    if not isinstance(rules, list):
        raise ValueError(f"{where}.rules: expected a list of rules, found {rules!r}")
    uses = _texts(f"{where}.data", keys.get("data")) or {model: model for model in models if model in measured}
    if unknown := [source for source in uses.values() if source not in measured]:
        raise ValueError(f"{where}.data: {unknown[0]!r} is not under data{suggest(unknown[0], measured)}")
    parameters = keys.get("parameters") or {}
    known_keys(f"{where}.parameters", parameters, METHODS[method].parameters)
    made = []
    for label, chosen in combinations(method, parameters):
        full = f"{name}-{label}" if label else name
        described = {
            "name": full,
            "method": method,
            "models": models,
            "base": base,
            "parameters": _by_model(where, method, chosen, models),
            "data": uses if METHODS[method].data else {},
            "rules": [_rule(where, number, rule, method, models, uses) for number, rule in enumerate(rules, 1)],
        }
        made.append(Recipe.from_json(described))
    return made


def _rule(
    where: str, number: int, data: Any, method: str, models: Sequence[str], uses: Mapping[str, str]
) -> dict[str, Any]:
    keys = dict(known_keys(f"{where}.rules[{number}]", data, Rule.__dataclass_fields__))
    method, models = keys.get("method", method), keys.get("models", models)
    if "parameters" in keys:
        keys["parameters"] = _by_model(f"{where}.rules[{number}]", method, keys["parameters"], models)
    if method in METHODS and METHODS[method].data and "data" not in keys:
        keys["data"] = dict(uses)
    return keys


def _by_model(where: str, method: str, parameters: Any, models: Sequence[str]) -> dict[str, Any]:
    """Parameters in which mappings of models to values have become lists in the order of the models."""
    if not isinstance(parameters, Mapping):
        raise ValueError(f"{where}.parameters: expected a mapping, found {parameters!r}")
    result = dict(parameters)
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            if set(value) != set(models):
                raise ValueError(
                    f"{where}.parameters.{key}: values for {sorted(map(str, value))}, but the models are "
                    f"{sorted(models)}; give one for each"
                )
            result[key] = [value[model] for model in models]
    return result


def with_seed(job: Job, seed: int) -> Job:
    """The job with this seed in all recipes and rules whose method has one."""

    def changed(recipe: Recipe) -> Recipe:
        rules = []
        for number, rule in enumerate(recipe.rules):
            has = "seed" in METHODS[recipe.under(number).method].parameters
            rules.append(replace(rule, parameters={**rule.parameters, "seed": seed}) if has else rule)
        parameters = {**recipe.parameters, "seed": seed} if "seed" in recipe.parameters else recipe.parameters
        return replace(recipe, parameters=parameters, rules=tuple(rules))

    return replace(job, recipes=tuple(changed(recipe) for recipe in job.recipes))
