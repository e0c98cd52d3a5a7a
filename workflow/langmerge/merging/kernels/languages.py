"""Methods of this project, made for merging languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langmerge.merging.block import Block
from langmerge.merging.compatibility import token_tensors
from langmerge.merging.kernels.base import Context, Kernel, Make
from langmerge.merging.lazy import torch
from langmerge.merging.methods import averages, languages, layers
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source

if TYPE_CHECKING:
    from torch import Tensor

SIMILARITY = ("cka", "similarity")
"""Names under which similarities may be stored."""


def _layerwise(recipe: Recipe, context: Context) -> Kernel:
    """Layerwise agreement; tensors of all shapes alike, embeddings by the first and head by the last hidden state.

    The data of all models is one source: `cka` or `similarity`, (layers + 1, n, n), with the models' names in
    models.json (without it: in the recipe's order).
    """
    parameters = recipe.parameters
    keep = parameters["keep"]
    if keep is not None and keep not in recipe.models:
        raise ValueError(f"recipe {recipe.name!r}: layerwise.keep: {keep!r} is not among the models {recipe.models}")
    floor = recipe.base if keep is None else keep
    if floor is None:
        raise ValueError(f"recipe {recipe.name!r}: layerwise needs a base, or keep: one of the models")
    similarity = _similarity(recipe, context)
    states = 1 + layers.number_of_layers(context.names)
    if len(similarity) != states:
        raise ValueError(
            f"recipe {recipe.name!r}: similarities of {len(similarity)} hidden states, but these models have {states} "
            "(embeddings, then each layer); measure them of these models"
        )
    weights = averages.normalized(recipe.weights)
    shares = languages.trust(languages.agreements(similarity), parameters["threshold"], parameters["temperature"])
    factors = (shares * torch.tensor(weights, dtype=torch.float64)).tolist()

    def merge(block: Block) -> Tensor:
        is_embedding = layers.part_of(block.tensor) == "embeddings"
        state = languages.state_of(layers.layer_index(block.tensor), is_embedding, states)
        values = [block.value(model) for model in recipe.models]
        return languages.pulled_mean(values, factors[state], block.value(floor))

    return Kernel(merge, notes={"trust": shares.tolist(), "filled_up_by": floor})


def _similarity(recipe: Recipe, context: Context) -> Tensor:
    """The similarities (layers + 1, n, n) in the order of the recipe's models."""
    sources = {id(source): source for source in (context.data[model] for model in recipe.models)}
    if len(sources) > 1:
        names = sorted(source.name for source in sources.values())
        raise ValueError(f"recipe {recipe.name!r}: layerwise needs one measurement of all models together, got {names}")
    (source,) = sources.values()
    found = [name for name in SIMILARITY if name in source.tensors]
    if not found:
        raise ValueError(f"data {source.name!r}: no tensor {' or '.join(SIMILARITY)} in {source.folder}")
    similarity = source.whole(found[0])
    measured = (source.json("models.json") or {}).get("models") or list(recipe.models)
    if similarity.ndim != 3 or tuple(similarity.shape[1:]) != (len(measured),) * 2:
        raise ValueError(
            f"data {source.name!r}: {found[0]} has shape {list(similarity.shape)}; expected "
            f"[layers + 1, {len(measured)}, {len(measured)}] for the models {measured}"
        )
    if lacking := [model for model in recipe.models if model not in measured]:
        raise ValueError(f"data {source.name!r}: similarities of {measured}, none of {lacking}; measure these too")
    order = torch.tensor([measured.index(model) for model in recipe.models])
    return similarity[:, order][:, :, order]


def _embedding_rows(recipe: Recipe, context: Context) -> Kernel:
    """Embedding rows by use; of an output bias each entry is a row, all tensors without tokens get the plain mean."""
    base = recipe.base if recipe.parameters["unused"] == "base" else None
    if recipe.parameters["unused"] == "base" and base is None:
        raise ValueError(f"recipe {recipe.name!r}: embedding_rows.unused: base, but the recipe has no base")
    tokens = {name: context.tensors[name][0] for name in token_tensors(context.tensors)}
    if not tokens:
        raise ValueError(f"recipe {recipe.name!r}: embedding_rows has no embeddings to merge")
    rows = max(tokens.values())
    counts = torch.stack([_counts(context.data[model], rows) for model in recipe.models])
    weights, unused = languages.row_weights(counts, recipe.parameters["alpha"], recipe.parameters["relative"])
    weights = weights.to(torch.float32)

    def merge(block: Block) -> Tensor:
        values = [block.value(model) for model in recipe.models]
        if block.tensor not in tokens:
            return averages.linear(values, [1.0] * len(values))
        shape = block.matrix if len(block.shape) > 1 else (block.count, 1)
        first = block.row if len(block.shape) > 1 else block.start
        here = slice(first, first + shape[0])
        merged = languages.weighted_rows([value.view(shape) for value in values], weights[:, here].to(block.device))
        if base is not None:
            mask = unused[here].to(block.device).unsqueeze(1)
            merged = torch.where(mask, block.value(base).view(shape), merged)
        return merged.flatten()

    return Kernel(merge, notes={"unused_rows": int(unused.sum()), "tokens_counted": counts.sum(1).tolist()})


def _counts(source: Source, rows: int) -> Tensor:
    """`counts` of a measurement, float64 (rows,); padding rows of the embeddings have no counts."""
    shape = source.tensors["counts"].shape if "counts" in source.tensors else None
    if shape is None or len(shape) != 1 or shape[0] > rows:
        raise ValueError(
            f"data {source.name!r}: expected counts of at most {rows} tokens, the rows of the embeddings, found "
            f"{'no tensor counts' if shape is None else f'shape {list(shape)}'}; was another tokenizer used?"
        )
    counts = torch.zeros(rows, dtype=torch.float64)
    counts[: shape[0]] = source.whole("counts").to(torch.float64)
    return counts


def _language_routing(recipe: Recipe, context: Context) -> Kernel:
    """The body with the served specialist's last layers and, if asked for, all tensors that are in no layer."""
    body, *specialists = recipe.models
    serve, upper = recipe.parameters["serve"], recipe.parameters["upper"]
    if serve is None and len(specialists) > 1:
        raise ValueError(f"recipe {recipe.name!r}: language_routing.serve: name one of {specialists}")
    if serve is not None and serve not in specialists:
        raise ValueError(f"recipe {recipe.name!r}: language_routing.serve: {serve!r} is not one of {specialists}")
    specialist = serve or specialists[0]
    n_layers = layers.number_of_layers(context.names)
    upper = max(1, n_layers // 4) if upper is None else upper
    if upper > n_layers:
        raise ValueError(f"recipe {recipe.name!r}: language_routing.upper: {upper} of only {n_layers} layers")
    outside = recipe.parameters["embeddings"] == "specialist"

    def merge(block: Block) -> Tensor:
        index = layers.layer_index(block.tensor)
        routed = outside if index is None else index >= n_layers - upper
        return block.value(specialist if routed else body).clone()

    return Kernel(merge, notes={"served": specialist, "layers": list(range(n_layers - upper, n_layers))})


KERNELS: dict[str, Make] = {
    "layerwise": _layerwise,
    "embedding_rows": _embedding_rows,
    "language_routing": _language_routing,
}
