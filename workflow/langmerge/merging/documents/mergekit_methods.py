"""mergekit's methods: their parameters, and what these are called in our catalogue. Facts after mergekit 0.1.5."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langmerge.catalogue import METHODS
from langmerge.merging.documents.settings import Kind

Scope = Literal["shared", "input", "non_base"]
"""One value for the merge, one for each model, or one for each model but the base."""

BasePolicy = Literal["required", "optional", "ignored"]
"""Whether `base_model` must be among the inputs, plays a role if given, or is an input like any other."""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""Default of parameters that must be given."""


@dataclass(frozen=True)
class Setting:
    """A parameter: `ours` is its name in our catalogue, None if it changes nothing in mergekit."""

    kind: Kind
    scope: Scope
    default: Any
    ours: str | None


@dataclass(frozen=True)
class MergekitMethod:
    """A method: `inputs` is (fewest, most), the base counted if it is among them."""

    settings: Mapping[str, Setting]
    base: BasePolicy
    inputs: tuple[int, int | None] = (1, None)


_WEIGHT = Setting("number", "non_base", REQUIRED, "weights")


def _task_vectors(normalize: bool, rescale: bool | None, sparse: bool = True, **more: Setting) -> MergekitMethod:
    """Methods on task vectors; `rescale` None: it changes nothing."""
    return MergekitMethod(
        {
            "weight": _WEIGHT,
            "density": Setting("number", "non_base", 1.0, "density" if sparse else None),
            **more,
            "normalize": Setting("boolean", "shared", normalize, "normalize"),
            "rescale": Setting("boolean", "shared", bool(rescale), None if rescale is None else "rescale"),
            "lambda": Setting("number", "shared", 1.0, "scale"),
            "int8_mask": Setting("boolean", "shared", False, None),
        },
        "required",
    )


_GAMMA = Setting("number", "non_base", 0.01, "gamma")
_EPSILON = Setting("number", "non_base", 0.15, "epsilon")
_T = Setting("number", "shared", REQUIRED, "t")

MERGEKIT: dict[str, MergekitMethod] = {
    "linear": MergekitMethod(
        {
            "weight": Setting("number", "input", REQUIRED, "weights"),
            "normalize": Setting("boolean", "shared", True, "normalize"),
        },
        "ignored",
    ),
    "slerp": MergekitMethod({"t": _T}, "required", (2, 2)),
    "nuslerp": MergekitMethod(
        {
            "weight": _WEIGHT,
            "nuslerp_flatten": Setting("boolean", "shared", True, "flatten"),
            "nuslerp_row_wise": Setting("boolean", "shared", False, "row_wise"),
        },
        "optional",
        (2, 3),
    ),
    "multislerp": MergekitMethod(
        {
            "weight": _WEIGHT,
            "normalize_weights": Setting("boolean", "shared", True, "normalize"),
            "eps": Setting("number", "shared", 1e-8, "eps"),
        },
        "optional",
    ),
    "karcher": MergekitMethod(
        {
            "max_iter": Setting("integer", "shared", 10, "max_iter"),
            "tol": Setting("number", "shared", 1e-5, "tol"),
        },
        "ignored",
    ),
    "passthrough": MergekitMethod({"scale": Setting("number", "input", 1.0, "scale")}, "ignored", (1, 1)),
    "model_stock": MergekitMethod(
        {"filter_wise": Setting("boolean", "shared", False, "filter_wise")}, "required", (3, None)
    ),
    "arcee_fusion": MergekitMethod({}, "required", (2, 2)),
    "nearswap": MergekitMethod({"t": _T}, "required", (2, 2)),
    "ram": MergekitMethod({"epsilon": Setting("number", "shared", 1e-5, "epsilon")}, "required"),
    "ramplus_tl": MergekitMethod(
        {
            "epsilon": Setting("number", "shared", 1e-5, "epsilon"),
            "r": Setting("number", "shared", 0.1, "r"),
            "alpha": Setting("number", "shared", 0.2, "alpha"),
        },
        "required",
    ),
    "sce": MergekitMethod(
        {
            "select_topk": Setting("number", "shared", 1.0, "select_topk"),
            "int8_mask": Setting("boolean", "shared", False, None),
        },
        "required",
    ),
    "task_arithmetic": _task_vectors(False, None, sparse=False),
    "ties": _task_vectors(True, False),
    "dare_ties": _task_vectors(False, True),
    "dare_linear": _task_vectors(False, True),
    "breadcrumbs": _task_vectors(False, False, gamma=_GAMMA),
    "breadcrumbs_ties": _task_vectors(False, False, gamma=_GAMMA),
    "della": _task_vectors(True, True, epsilon=_EPSILON),
    "della_linear": _task_vectors(False, True, epsilon=_EPSILON),
}
"""mergekit's methods by name, which are also our names."""

PLURAL = {"density": "densities", "gamma": "gammas", "epsilon": "epsilons"}
"""Our parameters for values that differ between the models."""


RESCALE = {True: "l1", False: "none"}
"""What mergekit's `rescale` means, in our words."""


def ours(method: str, shared: Mapping[str, Any], by_model: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Parameters of our catalogue from resolved settings of mergekit; lists are in the order of our models.

    ValueError names a setting that our method cannot honour.
    """
    known = METHODS[method].parameters
    result: dict[str, Any] = {}
    if "convention" in known and "mergekit" in known["convention"].choices:
        result["convention"] = "mergekit"
    for key, setting in MERGEKIT[method].settings.items():
        values = by_model[key] if key in by_model else [shared[key]]
        if setting.ours is None:
            continue
        if setting.ours == "rescale" and setting.ours in known:
            values = [RESCALE[value] for value in values]
        if setting.ours in known and known[setting.ours].per_model:
            result[setting.ours] = values
        elif setting.ours in known and len(set(values)) == 1:
            result[setting.ours] = values[0]
        elif PLURAL.get(setting.ours) in known:
            result[PLURAL[setting.ours]] = values
        elif len(set(values)) > 1:
            raise ValueError(f"parameters.{key}: {values} differ between the models; {method} takes one value for all")
        elif values[0] != setting.default:
            raise ValueError(f"parameters.{key}: {values[0]!r} cannot be honoured; {method} has no such setting here")
    if result.get("flatten"):
        result["row_wise"] = False  # mergekit does not look at it then
    return result


def theirs(method: str, parameters: Mapping[str, Any], n_models: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(shared, by model) settings of mergekit from complete parameters of our catalogue: the inverse of `ours`.

    ValueError names a parameter that mergekit's method does not have.
    """
    known, target = METHODS[method].parameters, MERGEKIT[method].settings
    left = {key: value for key, value in parameters.items() if value is not None}
    convention = left.pop("convention", None)
    if convention not in (None, "mergekit"):
        raise ValueError(f"convention: mergekit knows only its own, not {convention!r}")
    left.pop("seed", None)
    shared: dict[str, Any] = {}
    by_model: dict[str, list[Any]] = {}
    for key, setting in target.items():
        if setting.ours is None:
            continue
        if setting.scope == "shared":
            shared[key] = left.pop(setting.ours, setting.default)
            if setting.ours == "rescale" and isinstance(shared[key], str):
                if shared[key] not in RESCALE.values():
                    raise ValueError(f"rescale: mergekit knows l1 and none only, not {shared[key]}")
                shared[key] = shared[key] == RESCALE[True]
            continue
        plural = left.pop(PLURAL.get(setting.ours, ""), None)
        value = left.pop(setting.ours, 1.0 if setting.default is REQUIRED else setting.default)
        by_model[key] = list(plural or value) if plural or isinstance(value, list | tuple) else [value] * n_models
    for key, value in left.items():
        usual = known[key].default_by_convention.get(convention or "", known[key].default)
        if value != usual:
            raise ValueError(f"parameters.{key}: mergekit's {method} has no such setting")
    return shared, by_model
