"""The merges that are compared with mergekit: parameters in our words and in mergekit's."""

from dataclasses import dataclass, field
from typing import Any

ABC = ("a", "b", "c")
EQUAL, UNEQUAL, SIGNED = (1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (1.0, -0.4, 0.7)


@dataclass(frozen=True)
class Case:
    """One merge. `shared` and `by_model` are mergekit's parameters; `seed` is that of random masks.

    `dtype` is what mergekit computes in (None: the models' type), `stable` whether it keeps the order of entries of
    equal size, `units` the largest difference allowed, in float32 units of an entry's largest number.
    """

    name: str
    method: str
    ours: dict[str, Any]
    shared: dict[str, Any] = field(default_factory=dict)
    by_model: dict[str, tuple] = field(default_factory=dict)
    models: tuple[str, ...] = ABC
    base: str | None = "base"
    seed: int | None = None
    dtype: str | None = "float32"
    stable: bool = True
    units: float = 8.0

    def config(self, folders, out_dtype):
        """mergekit's configuration; arithmetic in float32."""
        models = [
            {"model": str(folders[model]), "parameters": {key: values[i] for key, values in self.by_model.items()}}
            for i, model in enumerate(self.models)
        ]
        base = {"base_model": str(folders[self.base])} if self.base else {}
        return {
            "merge_method": self.method,
            "models": models,
            **base,
            "parameters": self.shared,
            **({"dtype": self.dtype} if self.dtype else {}),
            "out_dtype": out_dtype,
        }


LINEAR = [
    Case(f"linear-{name}-{normalize}", "linear", {"weights": list(w), "normalize": normalize},
         {"normalize": normalize}, {"weight": w}, base=None)
    for name, w in (("equal", EQUAL), ("unequal", UNEQUAL), ("signed", SIGNED)) for normalize in (True, False)
]  # fmt: skip

SPHERICAL = [
    *(
        Case(f"slerp-{t}", "slerp", {"t": t, "convention": "mergekit"}, {"t": t}, models=("a", "b"), base="a")
        for t in (0.0, 0.2, 0.5, 1.0)
    ),
    *(
        Case(f"nuslerp-{base}-{flatten}-{row_wise}-{w[0]}", "nuslerp",
             {"weights": list(w), "flatten": flatten, "row_wise": row_wise, "convention": "mergekit"},
             {"nuslerp_flatten": flatten, "nuslerp_row_wise": row_wise}, {"weight": w}, ("a", "b"), base)
        for base in (None, "base") for flatten, row_wise in ((True, False), (False, False), (False, True))
        for w in ((1.0, 1.0), (0.2, 0.8), (-0.3, 1.0))
    ),
    *(
        Case(f"multislerp-{base}-{normalize}-{len(w)}-{w[0]}", "multislerp",
             {"weights": list(w), "normalize": normalize},
             {"normalize_weights": normalize}, {"weight": w}, ABC[:len(w)], base, units=16)
        for base in (None, "base") for normalize in (True, False) for w in (EQUAL, UNEQUAL, (0.8, 0.4))
    ),
    *(
        Case(f"karcher-{len(models)}-{steps}", "karcher", {"max_iter": steps}, {"max_iter": steps},
             models=models, base=None)
        for models in (("a", "b"), ABC, ("base", *ABC)) for steps in (1, 10)
    ),
]  # fmt: skip

STOCK = [
    Case(f"model_stock-{len(models)}-{rows}", "model_stock", {"filter_wise": rows, "convention": "mergekit"},
         {"filter_wise": rows}, models=models)
    for models in (("a", "b"), ABC) for rows in (False, True)
]  # fmt: skip

ARITHMETIC = [
    Case(f"task_arithmetic-{name}-{normalize}-{scale}", "task_arithmetic",
         {"weights": list(w), "normalize": normalize, "scale": scale},
         {"normalize": normalize, "lambda": scale}, {"weight": w})
    for name, w in (("equal", EQUAL), ("unequal", UNEQUAL), ("signed", SIGNED))
    for normalize, scale in ((False, 1.0), (True, 0.7))
]  # fmt: skip

TIES = [
    Case(f"ties-{name}-{density}-{normalize}", "ties",
         {"weights": list(w), "normalize": normalize, "scale": scale, "density": density, "convention": "mergekit"},
         {"normalize": normalize, "lambda": scale}, {"weight": w, "density": (density,) * 3})
    for name, w in (("equal", EQUAL), ("unequal", UNEQUAL), ("signed", SIGNED))
    for density, normalize, scale in ((0.2, True, 1.0), (0.001, True, 1.0), (0.53, False, 0.6), (1.0, True, 1.0))
]  # fmt: skip

TIES.append(
    Case("ties-by-model", "ties", {"densities": [0.2, 0.5, 1.0], "weights": list(EQUAL), "convention": "mergekit"},
         {}, {"weight": EQUAL, "density": (0.2, 0.5, 1.0)})
)  # fmt: skip

RESCALE = {True: "l1", False: "none"}


def sparse(method, density, rescale=True, weights=UNEQUAL, normalize=False, scale=1.0, seed=None, **more):
    """A method on task vectors made sparse; `more` are called alike by both."""
    settings = "-".join(f"{value}" for value in (density, rescale, weights[1], normalize, *more.values()))
    ours = {
        "weights": list(weights),
        "density": density,
        "rescale": RESCALE[rescale],
        "normalize": normalize,
        "scale": scale,
        "convention": "mergekit",
        **more,
    }
    shared = {"normalize": normalize, "rescale": rescale, "lambda": scale}
    by_model = {"weight": weights, "density": (density,) * 3, **{key: (value,) * 3 for key, value in more.items()}}
    # The sums of magnitudes that L1 rescaling divides are float32 in mergekit.
    return Case(f"{method}-{settings}", method, ours, shared, by_model, seed=seed, units=16)


SPARSE = [
    sparse("ties", 0.2, rescale=True, normalize=True),
    *(
        sparse("dare_linear", 0.5, rescale=rescale, weights=w, seed=0)
        for rescale in (True, False) for w in (EQUAL, SIGNED)
    ),
    sparse("dare_linear", 0.1, normalize=True, scale=0.6, seed=1),
    *(
        sparse("dare_ties", density, rescale=rescale, weights=w, seed=1)
        for density, rescale in ((0.5, True), (0.8, False)) for w in (UNEQUAL, SIGNED)
    ),
    sparse("dare_ties", 0.3, normalize=True, scale=0.7, seed=0),
    *(sparse("della_linear", 0.5, rescale=rescale, epsilon=0.15, seed=0) for rescale in (True, False)),
    sparse("della_linear", 0.3, weights=SIGNED, normalize=True, epsilon=0.25, seed=1),
    *(sparse("della", 0.5, normalize=True, weights=w, epsilon=0.15, seed=0) for w in (UNEQUAL, SIGNED)),
    sparse("della", 0.7, rescale=False, scale=0.5, epsilon=0.29, seed=1),
    *(
        sparse(method, density, rescale=rescale, gamma=gamma)
        for method in ("breadcrumbs", "breadcrumbs_ties")
        for density, gamma, rescale in ((0.9, 0.01, False), (0.1, 0.1, True), (0.995, 0.01, False))
    ),
    sparse("breadcrumbs_ties", 0.4, rescale=False, weights=SIGNED, normalize=True, scale=0.8, gamma=0.05),
]  # fmt: skip

CHOICES = [
    *(
        Case(f"sce-{topk}-{len(models)}", "sce", {"select_topk": topk, "convention": "mergekit"},
             {"select_topk": topk}, models=models)
        for topk in (0.1, 0.7, 1.0) for models in (("a", "b"), ABC)
    ),
    *(Case(f"ram-{e}", "ram", {"epsilon": e}, {"epsilon": e}) for e in (1e-5, 0.003)),
    *(
        Case(f"ramplus_tl-{e}-{r}", "ramplus_tl", {"epsilon": e, "r": r, "alpha": alpha},
             {"epsilon": e, "r": r, "alpha": alpha})
        for e, r, alpha in ((1e-5, 0.1, 0.2), (0.003, 0.3, 5.0))
    ),
    *(Case(f"nearswap-{t}", "nearswap", {"t": t}, {"t": t}, models=("a",)) for t in (1e-4, 0.003)),
    *(
        Case(f"passthrough-{scale}", "passthrough", {"scale": scale}, by_model={"scale": (scale,)}, models=("a",),
             base=None)
        for scale in (1.0, -0.3)
    ),
]  # fmt: skip

CASES = [*LINEAR, *SPHERICAL, *STOCK, *ARITHMETIC, *TIES, *SPARSE, *CHOICES]
