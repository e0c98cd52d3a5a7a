"""The merge methods for adapters: n adapters of one module, or of all modules, in; one product B A each out.

Three spaces: the deltas s B A themselves (then truncated back to factors), the factors A and B each for itself (peft),
and the parts S V_i^T of a common basis (KnOTS). Where entries are trimmed, dropped or elected, the merge engine does
it, on tensors whose blocks are computed on the fly.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from langmerge.catalogue import METHODS
from langmerge.merging.lora import thin
from langmerge.merging.lora.adapter import Adapter, Module
from langmerge.merging.lora.thin import Product
from langmerge.merging.lora.vectors import MERGED, ZERO, Values, merged_matrices
from langmerge.merging.methods.averages import normalized
from langmerge.merging.recipe import Recipe

Combined = tuple[str, Product, float]
"""(module, merged (B, A) with scaling 1, share of the squared norm that the truncation to factors kept)."""


def delta(adapter: Adapter, module: str) -> Product | None:
    """(s B, A) of a module as float64 factors of its change; None if the adapter leaves it as it is."""
    if module not in adapter.modules:
        return None
    a, b = adapter.factors(module)
    return b.to(torch.float64) * adapter.modules[module].scaling, a.to(torch.float64)


def weights_of(adapters: Sequence[Adapter], parameters: Mapping[str, Any]) -> list[float]:
    """The weights as given (default 1 each)."""
    given = parameters.get("weights")
    return [1.0] * len(adapters) if given is None else list(given)


def summed(
    adapters: Sequence[Adapter], modules: Mapping[str, Module], parameters: Mapping[str, Any]
) -> Iterator[Combined]:
    """cat, svd and linear: sum_i w_i delta_i, exactly or the nearest of the rank that `parameters` ask for.

    Exactly means the factors side by side, w_i s_i folded into A: B_i are passed on as they are. Adapters of the same
    module may differ in rank. Truncation goes through QR decompositions of the factors (see `thin.svd`).
    """
    weights = weights_of(adapters, parameters)
    if parameters["normalize"]:
        weights = normalized(weights)
    for module in modules:
        having = [
            (w * adapter.modules[module].scaling, *adapter.factors(module))
            for adapter, w in zip(adapters, weights, strict=True)
            if module in adapter.modules
        ]
        product = thin.total([(b, a) for _, a, b in having], [factor for factor, *_ in having])
        if "rank" not in parameters or (parameters["rank"] is None and parameters.get("convention") == "delta"):
            yield module, product, 1.0
            continue
        yield module, *thin.truncated(product, parameters["rank"] or largest_rank(adapters))


def on_deltas(
    method: str, adapters: Sequence[Adapter], modules: Mapping[str, Module], parameters: Mapping[str, Any]
) -> Iterator[Combined]:
    """Methods that look at entries of the deltas: merged by the engine, then the nearest product of the given rank.

    Tensors have the layout and names of the weights ((tokens, dimension) for embeddings, transposed with
    fan_in_fan_out), so that random masks are those of the engine on the full models. Counted in are the adapted
    modules only, of all adapters: the paper's trim over the whole model is over these.
    """
    names = {f"{module}.weight": module for module in modules}
    flipped = {module: bool(entry.flipped(None, adapters[0].fan_in_fan_out)) for module, entry in modules.items()}

    def values(adapter: Adapter) -> Values:
        def load(tensor: str) -> Product | None:
            product = delta(adapter, names[tensor])
            return (product[1].T, product[0].T) if product and flipped[names[tensor]] else product

        return load

    shapes = {}
    for tensor, module in names.items():
        straight = (modules[module].outputs, modules[module].inputs)
        shapes[tensor] = straight[::-1] if flipped[module] else straight
    recipe = recipe_of(method, [adapter.name for adapter in adapters], parameters)
    loaders = {adapter.name: values(adapter) for adapter in adapters}
    for tensor, matrix in merged_matrices(recipe, shapes, loaders):
        module = names[tensor]
        rank = parameters["rank"] or largest_rank(adapters)
        (left, right), kept = thin.truncated_matrix(matrix, rank)
        yield module, (right.T, left.T) if flipped[module] else (left, right), kept


def on_factors(
    method: str, adapters: Sequence[Adapter], modules: Mapping[str, Module], parameters: Mapping[str, Any]
) -> Iterator[Combined]:
    """peft's combination types without _svd: A and B merged each for itself.

    With q_i = w_i s_i, A = f(A_i; sign(q_i) sqrt|q_i|), B = f(B_i; sqrt|q_i|), f the method with these weights, so that
    for one adapter B A = q B_1 A_1. Adapters without a module are left out of it. Unlike in peft the scaling of the
    result is 1 also where the adapters are rank-stabilised.

    ValueError if ranks differ.
    """
    weights = weights_of(adapters, parameters)
    adds_up = method not in ("ties", "dare_ties")
    if adds_up and parameters["normalize"]:
        weights = normalized(weights)
    rules = {key: value for key, value in parameters.items() if not (adds_up and key == "normalize")}
    for module in modules:
        having = [(adapter, w) for adapter, w in zip(adapters, weights, strict=True) if module in adapter.modules]
        ranks = {adapter.name: adapter.modules[module].rank for adapter, _ in having}
        if len(set(ranks.values())) > 1:
            raise ValueError(
                f"{method}, convention peft: module {module!r} has ranks {ranks}; factors can only be merged one by "
                "one if they are equal. Use another convention, which merges the changes themselves"
            )
        factors = {adapter.name: adapter.factors(module) for adapter, _ in having}
        q = [w * adapter.modules[module].scaling for adapter, w in having]
        merged = []
        for index, factor in enumerate(("lora_A", "lora_B")):
            own = {
                **rules,
                "weights": [math.sqrt(abs(x)) * (-1.0 if x < 0 and index == 0 else 1.0) for x in q],
                "scale": rules.get("scale", 1.0) if index == 0 else 1.0,
            }
            tensor = f"{module}.{factor}.weight"
            loaders: dict[str, Values] = {
                name: lambda _, values=pair[index]: values  # type: ignore[misc]
                for name, pair in factors.items()
            }
            shape = next(iter(factors.values()))[index].shape
            recipe = recipe_of(method, list(factors), own)
            merged.append(next(iter(merged_matrices(recipe, {tensor: tuple(shape)}, loaders)))[1])
        yield module, (merged[1], merged[0]), 1.0


def knots(
    adapters: Sequence[Adapter], modules: Mapping[str, Module], parameters: Mapping[str, Any]
) -> Iterator[Combined]:
    """KnOTS (Stoica et al. 2024, arXiv 2410.19735): merge in the space that the deltas of a module share.

    With the SVD [delta_1 | ... | delta_n] = U S [V_1^T | ... | V_n^T], the parts S V_i^T = U^T delta_i (k, in) are
    merged as task vectors and multiplied by U, which gives an adapter of rank k <= sum of the ranks without further
    loss. U is that of a small core: with [s_1 B_1 | ... | s_n B_n] = Q [T_1 | ... | T_n] and A_i^T = Q_i R_i, the
    matrix is Q [T_1 R_1^T | ... | T_n R_n^T] times orthonormal rows. Singular values up to `tolerance` of the largest
    are dropped, and rows of parts as small are set to zero: rounding noise, which an election would count. Modules are
    taken in LoRA's own layout (out, in), embeddings as (dimension, tokens). Where singular values coincide, U and with
    it the parts are not unique.
    """
    bases = {module: _basis(adapters, module, parameters["tolerance"]) for module in modules}

    def values(index: int, adapter: Adapter) -> Values:
        def load(module: str) -> Product | None:
            coordinates = bases[module][1][index]
            return None if coordinates is None else (coordinates, adapter.factors(module)[0])

        return load

    shapes = {module: (bases[module][0].shape[1], entry.inputs) for module, entry in modules.items()}
    loaders = {adapter.name: values(index, adapter) for index, adapter in enumerate(adapters)}
    rules = {**parameters, "rescale": "expectation"} if parameters["merge"] == "dare_ties" else parameters
    recipe = recipe_of(parameters["merge"], list(loaders), rules)
    for module, matrix in merged_matrices(recipe, shapes, loaders):
        product = bases[module][0], matrix
        if parameters["rank"] is None:
            yield module, product, 1.0
        else:
            yield module, *thin.truncated(product, parameters["rank"])


def _basis(adapters: Sequence[Adapter], module: str, tolerance: float) -> tuple[Tensor, list[Tensor | None]]:
    """U (out, k), and for each adapter U^T s_i B_i (k, rank_i) or None if it leaves the module as it is."""
    products = [delta(adapter, module) for adapter in adapters]
    present = [product for product in products if product is not None]
    q, t = torch.linalg.qr(torch.cat([left for left, _ in present], 1))
    parts = t.split([left.shape[1] for left, _ in present], 1)
    cores = [part @ torch.linalg.qr(right.T)[1].T for part, (_, right) in zip(parts, present, strict=True)]
    u, s, _ = torch.linalg.svd(torch.cat(cores, 1), full_matrices=False)
    k = max(1, int((s > tolerance * s[0]).sum()))  # an adapter has at least rank 1
    u = u[:, :k]
    lengths = [torch.linalg.norm(u.T @ core, dim=1, keepdim=True) for core in cores]
    coordinates = iter((u.T @ part) * (length > tolerance * s[0]) for part, length in zip(parts, lengths, strict=True))
    return q @ u, [None if product is None else next(coordinates) for product in products]


def recipe_of(method: str, names: Sequence[str], parameters: Mapping[str, Any]) -> Recipe:
    """The engine's recipe, named MERGED, for a method on vectors counted from zero."""
    if method == "linear":
        method = "task_arithmetic"
    own = {key: value for key, value in parameters.items() if key in METHODS[method].parameters}
    if own.get("convention") == "peft_svd":
        own["convention"] = "peft"
    return Recipe(MERGED, method, tuple(names), ZERO, own)


def largest_rank(adapters: Sequence[Adapter]) -> int:
    """The largest rank that an adapter has in a module."""
    return max(module.rank for adapter in adapters for module in adapter.modules.values())
