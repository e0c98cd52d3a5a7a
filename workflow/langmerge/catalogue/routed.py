"""One shared body with a small residue for each language."""

from langmerge.catalogue.choices import tall_mask
from langmerge.catalogue.parameters import Method, Parameter, convention

_SERVED = {
    "serve": Parameter("string", "The model, by its name, whose mask and scale are used."),
    "part": Parameter(
        "string",
        "model: the merged model for `serve`. vector, mask: what `langmerge.merging.routing` packs.",
        "model",
        choices=("model", "vector", "mask"),
    ),
}

METHODS = (
    Method(
        "emr",
        "EMR-Merging",
        {
            **_SERVED,
            "convention": convention(
                "paper: a zero sum elects nothing, rescalers are ratios of sums over the model. released: it "
                "elects -, rescalers are ratios of the tensors' means added up.",
                "paper",
                "released",
            ),
        },
        "arXiv 2405.17461",
        needs_base=True,
        description="One elected vector for all models; a mask of agreeing signs and a scale for each.",
    ),
    Method(
        "tall_mask",
        "TALL mask",
        {
            **_SERVED,
            **tall_mask(),
        },
        "arXiv 2405.07813",
        needs_base=True,
        description="One multi-task vector for all models; a mask of the entries that a model uses for each.",
    ),
)
