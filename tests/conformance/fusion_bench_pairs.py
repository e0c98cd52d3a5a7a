"""The merges that are compared with FusionBench: our method with parameters, its function with options."""

from dataclasses import dataclass, field, replace
from typing import Any

from cases import ABC, EQUAL, UNEQUAL

UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
VALUES = "model.layers.1.self_attn.v_proj.weight"
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
ALL = {"embeddings": "spectral"}
RELEASED = {"convention": "released"}
FUSION_BENCH = {"convention": "fusion_bench"}


@dataclass(frozen=True)
class Pair:
    """One merge: our method with parameters, FusionBench's function with options.

    `units` says by type of FusionBench's arithmetic how far the results may be apart, in float32 units of an
    entry's largest number (its own value in the models or the merge).
    """

    method: str
    ours: dict[str, Any]
    function: str
    theirs: dict[str, Any]
    units: dict[str, float] = field(default_factory=lambda: {"float32": 2.0})
    models: tuple[str, ...] = ABC
    base: str | None = "base"
    measured: str | None = None
    family: str = "usual"


WIDE = {"float64": 4.0}
BOTH = {"float32": 8.0, "float64": 8.0}

SINGULAR = {
    "tsv_m": Pair("tsv_m", ALL, "tsv_m", {}, WIDE),
    "tsv_m, two": Pair("tsv_m", {**ALL, "scale": 0.6}, "tsv_m", {"scale": 0.6}, WIDE, ("a", "b")),
    "tsv_m, weighted": Pair("tsv_m", {**ALL, "weights": list(UNEQUAL)}, "tsv_m", {"weights": UNEQUAL}, WIDE),
    "tsv_m, embeddings averaged": Pair("tsv_m", {}, "tsv_m", {"exclude": EMBEDDINGS}, WIDE),
    # The sum of task vectors that we decompose is float32; its smallest singular values have lost digits.
    "iso_c": Pair("iso_c", {**ALL, "scale": 0.7}, "iso_c", {"scale": 0.7}, {"float64": 16.0}),
    "iso_c, embeddings averaged": Pair("iso_c", {}, "iso_c", {"exclude": EMBEDDINGS}, {"float64": 16.0}),
    **{
        f"iso_cts, {share}": Pair(
            "iso_cts", {**ALL, "common_space_fraction": share}, "iso_cts", {"fraction": share}, {"float64": 128.0}
        )
        for share in (0.0, 0.5, 0.8, 1.0)
    },
    # A gradient near zero, divided by its own size, is the rounding of it.
    **{
        f"wudi, {steps}": Pair(
            "wudi", {**ALL, "steps": steps}, "wudi", {"steps": steps}, {"float32": 32.0, "float64": 32.0}
        )
        for steps in (0, 1, 5, 30)
    },
    **{
        f"knots, {share}": Pair(
            "knots", {**ALL, "density": share}, "knots", {"density": share}, {"float32": 32.0, "float64": 8.0}
        )
        for share in (0.3, 0.999)
    },
}

CHOICES = {
    "tall_mask, of states": Pair(
        "tall_mask",
        {**RELEASED, "serve": "c"},
        "tall_mask_of_states",
        {"serve": "c", "mask_scale": 0.6, "from_zero": True},
    ),
    "magmax": Pair("magmax", {"scale": 0.5}, "magmax", {"scale": 0.5}),
    **{
        f"emr, {model}": Pair("emr", {**RELEASED, "serve": model}, "emr", {"serve": model}, {"float32": 4.0})
        for model in ABC
    },
    **{
        f"tall_mask, {share}, {density}": Pair(
            "tall_mask",
            {
                **RELEASED,
                "serve": "b",
                "mask_scale": share,
                **({"vector": "ties", "density": density} if density else {}),
            },
            "tall_mask",
            {"serve": "b", "mask_scale": share, "density": density},
        )
        for share, density in ((0.2, None), (0.6, None), (0.4, 0.2))
    },
    **{
        f"consensus, {k}, {density}": Pair(
            "consensus",
            {**RELEASED, "k": k, "mask_scale": 0.4, "scale": 0.8}
            | ({"vector": "ties", "density": density} if density else {}),
            "consensus",
            {"k": k, "mask_scale": 0.4, "scale": 0.8, "density": density},
        )
        for k, density in ((0, None), (1, None), (2, None), (3, None), (2, 0.2))
    },
}

SPARSE = {
    **{
        f"ties, {merge}, {density}": Pair(
            "ties",
            {"density": density, "normalize": merge == "mean", "scale": 0.3},
            "ties",
            {"density": density, "merge_func": merge, "scale": 0.3},
        )
        for merge in ("sum", "mean") for density in (0.2, 0.53)
    },
    **{
        f"dare, {density}, {rescale}": Pair(
            "dare_linear",
            {"density": density, "scale": 0.4, "seed": 1, "rescale": "expectation" if rescale else "none"},
            "dare",
            {"density": density, "scale": 0.4, "rescale": rescale, "masks": "masks1"},
            {"float32": 4.0},
        )
        for density, rescale in ((0.5, True), (0.1, True), (0.7, False))
    },
    **{
        f"dare_ties, {merge}": Pair(
            "dare_ties",
            {"density": 0.6, "trim": 0.2, "normalize": merge == "mean", "seed": 0},
            "dare_ties",
            {"density": 0.6, "trim": 0.2, "merge_func": merge, "masks": "masks0"},
            {"float32": 4.0},
        )
        for merge in ("sum", "mean")
    },
}  # fmt: skip

AVERAGES = {
    **{
        f"model_stock, {''.join(models)}": Pair("model_stock", FUSION_BENCH, "model_stock", {}, BOTH, models)
        for models in (("a", "b"), ABC)
    },
    **{
        f"slerp, {t}": Pair("slerp", {"t": t, "convention": "mergekit"}, "slerp", {"t": t}, BOTH, ("a", "b"), None)
        for t in (0.0, 0.3, 1.0)
    },
    "slerp, wide angle": Pair("slerp", {"t": 0.3}, "slerp", {"t": 0.3}, BOTH, ("a", "b"), None, family="wide"),
    **{
        f"fisher, {convention}": Pair(
            "fisher",
            {"weights": list(UNEQUAL), "floor": 1e-20, "convention": convention},
            "fisher",
            {"weights": UNEQUAL, "normalize": convention == "model", "floor": 0.0},
            BOTH,
            base=None,
            measured="fisher",
        )
        for convention in ("model", "none")
    },
    **{
        f"regmean, {share}": Pair(
            "regmean",
            {"off_diagonal": share, "ridge": 1e-13},
            "regmean",
            {"off_diagonal": share},
            WIDE,
            base=None,
            measured="gram",
        )
        for share in (0.9, 0.5)
    },
}

SAME = SINGULAR | CHOICES | SPARSE | AVERAGES

IN_FLOAT32 = {
    name: replace(SAME[name], units={"float32": 0.0}) for name in ("tsv_m", "iso_c", "iso_cts, 0.8", "regmean, 0.9")
}

TWO = ("a", "b")
DIFFERENT = {
    **{f"{name}, float32": pair for name, pair in IN_FLOAT32.items()},
    "low rank": Pair("tsv_m", ALL, "tsv_m", {}, WIDE, TWO, family="planted"),
    "isotropic": Pair("iso_c", ALL, "iso_c", {}, WIDE, TWO, family="planted"),
    "few directions": Pair("tsv_m", ALL, "tsv_m", {}, WIDE, family="planted"),
    "small fraction": Pair(
        "iso_cts", {**ALL, "common_space_fraction": 0.1}, "iso_cts", {"fraction": 0.1}, WIDE, family="planted"
    ),
    "unchanged": Pair("wudi", {**ALL, "steps": 3}, "wudi", {"steps": 3}, family="planted"),
    "untrimmed": Pair("ties", {"density": 1.0}, "ties", {"density": 1.0, "merge_func": "mean"}),
    "algorithm": Pair(
        "tall_mask", {**RELEASED, "serve": "a"}, "tall_mask_algorithm", {"serve": "a", "mask_scale": 0.6}
    ),
    "origin": Pair(
        "tall_mask",
        {**RELEASED, "serve": "a"},
        "tall_mask_of_states",
        {"serve": "a", "mask_scale": 0.6, "from_zero": False},
    ),
    "rescaler": Pair("emr", {"serve": "a"}, "emr", {"serve": "a"}),
    "angles": Pair("model_stock", {}, "model_stock", {}),
    "line": Pair("slerp", {"t": 0.3}, "slerp", {"t": 0.3}, WIDE, TWO, None, family="near"),
    "floor": Pair(
        "fisher", {}, "fisher", {"weights": EQUAL, "normalize": True, "floor": 1e-6}, base=None, measured="small_fisher"
    ),
}
