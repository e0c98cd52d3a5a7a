"""Methods of this project, made for merging languages.

Each says what it assumes of the models; `langmerge.merging.methods.languages` has the formulas.
"""

from langmerge.catalogue.parameters import Method, Parameter, weights

METHODS = (
    Method(
        "layerwise",
        "Layerwise agreement",
        {
            "weights": weights("Weight of each model where all agree, divided by their sum."),
            "threshold": Parameter(
                "number",
                "Mean similarity to the others from which on a model counts in full.",
                1.0,
                0.0,
                1.0,
                exclusive_minimum=True,
            ),
            "temperature": Parameter(
                "number",
                "A lower similarity is raised to 1 / temperature: high values tend to the mean, low ones to the base.",
                1.0,
                0.0,
                exclusive_minimum=True,
            ),
            "keep": Parameter("string", "Model that fills up where the models disagree; default: the base."),
        },
        "ours",
        needs_base=False,
        description="In each layer f + sum_i w_i g_i (m_i - f), f the base or the kept model: g_i falls with the "
        "similarity of model i's hidden states to the others'. Assumes that layers of similar hidden states can be "
        "averaged.",
        data="similarity",
    ),
    Method(
        "embedding_rows",
        "Embedding rows by use",
        {
            "alpha": Parameter("number", "Added to every count.", 1.0, 0.0),
            "relative": Parameter(
                "boolean", "Scale each model's counts to the same total first: frequencies, not corpus sizes.", False
            ),
            "unused": Parameter("string", "What rows become that no language uses.", "mean", choices=("mean", "base")),
        },
        "ours",
        needs_base=False,
        description="Rows of embeddings and head averaged by how often each language uses the token; the body is the "
        "plain mean (rules give it another method). Assumes that a row is trained where its token occurs.",
        models=(2, None),
        data="token_counts",
    ),
    Method(
        "language_routing",
        "Language routing",
        {
            "serve": Parameter("string", "The specialist to serve; default: the second model if there are two."),
            "upper": Parameter(
                "integer", "So many last layers are the specialist's; default: a quarter, at least 1.", minimum=0
            ),
            "embeddings": Parameter(
                "string",
                "Where embeddings, final norm and head come from.",
                "specialist",
                choices=("specialist", "body"),
            ),
        },
        "ours",
        needs_base=False,
        description="The first model (the body, as a rule another merge) with embeddings, head and last layers of one "
        "language's specialist. Assumes that what is particular to a language lies at the ends of the network.",
        models=(2, None),
    ),
)
