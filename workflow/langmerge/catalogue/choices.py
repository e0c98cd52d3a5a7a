"""Methods that choose, entry by entry, whose change counts."""

from langmerge.catalogue.parameters import Method, Parameter, convention, density, scale


def tall_mask() -> dict[str, Parameter]:
    """Of TALL masks: lambda, which multi-task vector they cut out of, how TIES trims for it, and the convention."""
    return {
        "mask_scale": Parameter(
            "number",
            "The paper's lambda_t: a model uses an entry if |d_t| >= lambda_t |d - d_t|; higher means fewer entries.",
            0.6,
            0.0,
        ),
        "vector": Parameter(
            "string",
            "Multi-task vector: the sum of the task vectors, or the sum of the entries that TIES elects.",
            "sum",
            choices=("sum", "ties"),
        ),
        "density": density(0.2, "Share of each task vector that TIES keeps; means nothing with vector: sum."),
        "convention": convention(
            "paper: an entry is used if |d_t| >= mask_scale |d - d_t|. released: if it is greater.",
            "paper",
            "released",
        ),
    }


_EPSILON = Parameter("number", "Changes of at most this magnitude count as none (absolute).", 1e-5, 0.0)
_PLUS = {
    "epsilon": _EPSILON,
    "r": Parameter("number", "Strength of the rescaling of unique changes.", 0.1, 0.0),
    "alpha": Parameter("number", "Largest ratio of shared to unique entries that counts.", 0.2, 0.0),
}

METHODS = (
    Method(
        "sce",
        "SCE",
        {
            "select_topk": Parameter(
                "number",
                "Share of the entries with unequal changes that is kept: those of largest variance, per tensor.",
                1.0,
                0.0,
                1.0,
                exclusive_minimum=True,
            ),
            "convention": convention(
                "paper: weights in proportion to the mean squares, however small. mergekit: equal weights where "
                "the mean squares sum to less than 1e-6, divisors of at least 1e-6.",
                "paper",
                "mergekit",
            ),
        },
        "arXiv 2408.07990 (FuseChat)",
        needs_base=True,
        description="Select entries of high variance, calculate weights per tensor, erase minority signs.",
    ),
    Method(
        "ram",
        "RAM",
        {"epsilon": _EPSILON},
        "arXiv 2601.13572",
        needs_base=True,
        description="Entries changed by one model take its change, those changed by several the mean.",
    ),
    Method(
        "ramplus",
        "RAM+",
        _PLUS,
        "arXiv 2601.13572",
        needs_base=True,
        description="RAM with each model's unique changes scaled by 1 + r min(shared / unique, alpha), counted "
        "over the model.",
    ),
    Method(
        "ramplus_tl",
        "RAM+, tensor-local",
        _PLUS,
        "arXiv 2601.13572, as in mergekit",
        needs_base=True,
        description="RAM+ with shared and unique entries counted per tensor.",
    ),
    Method(
        "magmax",
        "MagMax",
        {"scale": scale(0.5)},
        "arXiv 2407.06322",
        needs_base=True,
        description="base + scale (for each entry the change of largest magnitude)",
    ),
    Method(
        "consensus",
        "Consensus merging",
        {
            "scale": scale(),
            "k": Parameter("integer", "Fewest models that must use an entry for it to stay.", 2, 0),
            **tall_mask(),
        },
        "arXiv 2405.07813",
        needs_base=True,
        description="The multi-task vector without the entries that fewer than k TALL masks hold.",
        models=(2, None),
    ),
    Method(
        "pcb",
        "PCB-Merging",
        {
            "density": Parameter(
                "number",
                "Share of each model's entries that keeps a coefficient. Default: 0.1, but 0.05 for vision and es.",
                0.1,
                0.0,
                1.0,
                exclusive_minimum=True,
                default_by_convention={"released_vision": 0.05, "released_es": 0.05},
            ),
            "scale": Parameter(
                "number",
                "The papers' lambda: factor of the merged task vector. Default: 1, but 1.2 as released.",
                1.0,
                default_by_convention={"released": 1.2, "released_vision": 1.2, "released_es": 1.2},
            ),
            "convention": convention(
                "paper: softmax over the model of squares and of products. The authors' code clamps magnitudes at "
                "quantiles, takes tanh instead of the softmax and the distance to the threshold as coefficient; "
                "its three scripts differ in what is competed with: released (the sum of the changes), "
                "released_vision (the sum of the normalised changes), released_es (each normalised change).",
                "paper",
                "released",
                "released_vision",
                "released_es",
            ),
        },
        "arXiv 2410.02396",
        needs_base=True,
        description="Mean of the task vectors weighted entry by entry by competition within and between models.",
    ),
    Method(
        "arcee_fusion",
        "Arcee Fusion",
        {},
        "mergekit (no paper)",
        needs_base=True,
        description="The base with the model's changes of outlying importance: magnitude times KL divergence of rows.",
        models=(1, 1),
    ),
    Method(
        "nearswap",
        "NearSwap",
        {"t": Parameter("number", "How far an entry may move.", 1e-4, 0.0, exclusive_minimum=True)},
        "alchemonaut/QuartetAnemoi-70B-t0.0001 (model card)",
        needs_base=True,
        description="The base moved towards the model, each entry by at most t.",
        models=(1, 1),
    ),
)
