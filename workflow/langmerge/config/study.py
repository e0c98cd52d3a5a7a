"""A study: base model, specialists, merges, evaluation, analysis; and the workflow that names studies."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from langmerge import catalogue
from langmerge.config.base import Count, DirectionGroup, Language, Name, Portion, Positive, Section, Share
from langmerge.config.corpus import Corpus, EmbeddedCorpus


class PromptConfig(Section):
    """How a translation is asked for."""

    template: str = Field(
        "Translate the following {source_name} sentence to {target_name}\n{source}",
        description="Fields: `{source}`, `{source_code}`, `{target_code}`, `{source_name}`, `{target_name}`.",
    )
    format: Literal["plain", "chat"] = Field("chat", description="`chat` uses the tokenizer's own chat template.")

    @field_validator("template")
    @classmethod
    def _fields(cls, template: str) -> str:
        found = re.findall(r"\{([^{}]*)\}", template)
        known = ("source", "source_code", "target_code", "source_name", "target_name")
        for field in found:
            if field not in known:
                raise ValueError(f"unknown field {{{field}}}; expected only {', '.join('{' + f + '}' for f in known)}")
        if found.count("source") != 1:
            raise ValueError("expected the field {source} exactly once")
        return template


class Training(Section):
    """One training run. Steps are optimizer steps; the loss is a mean over all label tokens of a step."""

    steps: Count = Field(description="Optimizer steps.")
    learning_rate: Positive = Field(description="Peak learning rate.")
    batch_tokens: Count = Field(2048, description="Real tokens per optimizer step, over all micro-batches and GPUs.")
    context_length: Count = Field(128, description="Longest sequence in tokens; longer ones are dropped and counted.")
    accumulation: Count = Field(1, description="Micro-batches per optimizer step.")
    packing: bool = Field(False, description="Pack several sentences into one row; no sentence sees another.")
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt", "wsd"] = Field(
        "cosine", description="After warm-up."
    )
    warmup: Share = Field(0.1, description="Share of the steps in which the learning rate rises.")
    final_learning_rate: Share = Field(0.05, description="Share of the peak at the last step (cosine, linear, wsd).")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="AdamW's, on matrices only.")
    betas: tuple[Share, Share] = Field((0.9, 0.98), description="AdamW's.")
    clip: Positive = Field(1.0, description="Largest gradient norm.")
    precision: Literal["fp32", "bf16"] = Field("bf16", description="Of the arithmetic; master weights are always fp32.")
    compile: bool = Field(False, description="torch.compile: pays on GPUs, not for tiny models.")
    gradient_checkpointing: bool = Field(False, description="Less memory for more time.")
    threads: Count = Field(1, description="CPU threads of the job.")
    gpus: Count = Field(1, description="GPUs of the job, where there are any (more than one: torchrun).")
    portion: Portion = (0.0, 1.0)
    monolingual: Share = Field(0.0, description="Share of plain sentences (language modelling) among translations.")
    loss: Literal["target", "all"] = Field("target", description="Tokens that the loss counts.")

    @field_validator("portion")
    @classmethod
    def _ordered(cls, portion: tuple[float, float]) -> tuple[float, float]:
        if portion[0] >= portion[1]:
            raise ValueError(f"the portion must start before it ends, found {list(portion)}")
        return portion


class Initialisation(Section):
    """A model with random weights and a byte-level BPE tokenizer trained on the corpus."""

    vocabulary_size: Annotated[int, Field(ge=300)] = Field(
        description="Byte-level BPE entries, language tags included."
    )
    architecture: dict[str, Any] = Field(description="Fields of the architecture's configuration (Llama by default).")


class Import(Section):
    """A model from the Hub or a local folder."""

    source: str = Field(min_length=1, description="Hub id or folder; `{data_root}` is filled in.")
    revision: str | None = Field(None, description="Commit, tag or branch on the Hub.")
    parameters: Positive | None = Field(
        None, description="Number of parameters, for predictions before it is downloaded."
    )


class Base(Section):
    """The common ancestor of all specialists."""

    languages: list[Language] = Field(
        default_factory=list,
        description="Languages that the base is trained on (with the pivot). Independent of the study's "
        "`languages`, so that adding one of those retrains no other specialist.",
    )
    init: Initialisation | None = Field(None, description="Start from random weights.")
    import_: Import | None = Field(None, alias="import", description="Start from an existing model.")
    train: Training | None = Field(None, description="Train it before the specialists branch off.")

    @model_validator(mode="after")
    def _one_origin(self) -> Base:
        if (self.init is None) == (self.import_ is None):
            raise ValueError("give either `init` or `import`")
        if (self.init or self.train) and not self.languages:
            raise ValueError("`languages` is needed to train a tokenizer or a base model")
        return self


class MergeSpec(Section):
    """A merge with fixed parameters, as a model of its own."""

    method: str = Field(description="Name in the catalogue of merge methods.")
    models: list[str] = Field(min_length=1, description="Names of the models that are merged.")
    base: str | None = Field(None, description="Name of the common ancestor, for methods on task vectors.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The method's parameters.")


class TrainSpec(Section):
    """A further training of any model of the study."""

    parent: str = Field(description="Name of the model that is trained on.")
    directions: list[tuple[Language, Language]] = Field(min_length=1, description="Pairs such as `[en, es]`.")
    train: Training = Field(description="The run.")


class ExtraModel(Section):
    """One more model: exactly one of the three recipes."""

    import_: Import | None = Field(None, alias="import", description="From the Hub or a folder.")
    merge: MergeSpec | None = Field(None, description="From other models of the study.")
    train: TrainSpec | None = Field(None, description="From another model of the study.")

    @model_validator(mode="after")
    def _one_recipe(self) -> ExtraModel:
        if sum(recipe is not None for recipe in (self.import_, self.merge, self.train)) != 1:
            raise ValueError("give exactly one of `import`, `merge`, `train`")
        return self


# ---- merges --------------------------------------------------------------------------------------------------------

Grid = dict[str, Any]


LayerSet = Annotated[
    str,
    Field(
        pattern=r"^(((attention|mlp|norms)\.)?(single|prefix|suffix|window|random)"
        r"|attention|mlp|norms|embeddings|head|outside)$"
    ),
]


class LayerPatch(Section):
    """Put layers of the target's specialist back into a merge: the last against random lower ones, and whole sweeps."""

    onto: list[str] = Field(min_length=1, description="Merge methods whose tuned merge is patched.")
    layers: Count = Field(description="How many last layers.")
    controls: Annotated[int, Field(ge=0)] = Field(3, description="How many random draws of lower layers.")
    seed: int = Field(42, description="Seed of the draws.")
    sets: list[LayerSet] = Field(
        default_factory=list,
        description="Sweep over every layer set of these kinds: `single`, `prefix` (first k), `suffix` (last k), "
        "`window`, `random` (the control); `attention`, `mlp`, `norms` of all layers or, as `mlp.single`, of those; "
        "`embeddings`, `head`, `outside` (all that is in no layer). No sweep when empty.",
    )
    window: Count = Field(2, description="Layers of a window.")
    draws: Count = Field(3, description="Random sets of each number of layers.")
    sentences: Count | None = Field(
        None, description="Test sentences of the sweep per direction; as `evaluation.test` when empty."
    )
    languages: list[Language] = Field(
        default_factory=list, description="Languages whose specialists the sweep puts back; all when empty."
    )


class Drift(Section):
    """Fine-tuning strength against retention: merges of the specialists' snapshots at several steps."""

    steps: list[Count] = Field(min_length=1, description="Steps of the specialists at which a snapshot is merged.")
    method: str = Field("linear", description="Merge method, without tuning.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The method's parameters.")


class Calibration(Section):
    """What is measured of each specialist, on pairs of its own direction, for methods that weigh models by data."""

    sentences: Count = Field(128, description="Sentence pairs.")
    split: Literal["train", "dev"] = Field("train", description="Where they come from; never a test set.")
    labels: Literal["target", "model"] = Field(
        "target",
        description="Tokens whose Fisher information is measured: the references' or ones that the model draws.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Seed of the sample of sentences and of drawn tokens.")


class Merging(Section):
    """Which merges are made of the specialists of each direction group. A list of values is a grid, tuned on dev."""

    all: dict[str, Grid] = Field(
        default_factory=dict, description="Method to parameters, over all specialists of a group."
    )
    pairs: dict[str, Grid] = Field(default_factory=dict, description="Method to parameters, over every pair.")
    layer_patch: LayerPatch | None = Field(None, description="The layer patch.")
    drift: Drift | None = Field(None, description="The drift curve.")
    select_by: Literal["bleu", "chrf"] = Field("bleu", description="Metric whose mean over directions selects on dev.")
    calibration: Calibration = Field(
        default_factory=lambda: Calibration.model_validate({}), description="The data of methods that need some."
    )

    @model_validator(mode="after")
    def _methods(self) -> Merging:
        _check_grids("pairs", self.pairs, 2)
        return self


def candidates(method: str, grid: Grid) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's lists: the values in the order written, whatever the order of the keys.

    A parameter that is itself a list (`weights`) makes a grid only as a list of lists.
    """

    def choices(name: str, value: Any) -> list[Any]:
        parameters = catalogue.METHODS[method].parameters if method in catalogue.METHODS else {}
        is_list = name in parameters and parameters[name].type in ("numbers", "integers")
        if is_list and isinstance(value, list) and not any(isinstance(inner, list) for inner in value):
            return [value]
        return value if isinstance(value, list) else [value]

    for combination in itertools.product(*(choices(name, value) for name, value in sorted(grid.items()))):
        yield dict(zip(sorted(grid), combination, strict=True))


def _check_grids(place: str, grids: dict[str, Grid], n_models: int) -> None:
    """ValueError naming method and parameter if a grid asks for what the catalogue does not have."""
    for method, grid in grids.items():
        for candidate in candidates(method, grid):
            try:
                catalogue.check(method, candidate, n_models)
            except ValueError as error:
                raise ValueError(f"{place}.{method}: {error}") from None


# ---- evaluation and analysis ---------------------------------------------------------------------------------------


class Evaluation(Section):
    """How models are scored."""

    dev: Count | None = Field(None, description="Sentences per direction for tuning; all when empty.")
    test: Count | None = Field(None, description="Sentences per direction for reporting; all when empty.")
    splits: list[Name] = Field(["test"], description="Test sets that are scored; the first is the main one.")
    batch_size: Count = Field(64, description="Sentences decoded at once.")
    max_new_tokens: Count = Field(64, description="Longest translation in tokens.")
    cut: Literal["newline"] | None = Field(None, description="`newline`: keep the first line of the output only.")
    bootstrap_samples: Count = Field(1000, description="Paired bootstrap resamples.")
    randomization_trials: Count = Field(10000, description="Approximate randomization trials.")
    seed: int = Field(12345, description="Seed of the significance tests.")


class Landscape(Section):
    """The loss between and around base and specialists, in bits per byte of the target."""

    sentences: Annotated[int, Field(ge=8)] = Field(32, description="Sentence pairs per language, for losses.")
    pairs: Literal["all", "none"] = Field(
        "all", description="Lines between base and specialists, and between every two specialists; or none."
    )
    points: Annotated[int, Field(ge=3)] = Field(11, description="Points of a line, both ends included.")
    languages: Literal["own", "all"] = Field(
        "own", description="Losses on lines and plane: of the languages of the specialists there, or of all."
    )
    plane: list[Name] = Field(
        default_factory=list,
        description="Three of `base` and the languages, whose models the plane goes through; when empty the base and "
        "the two specialists that are farthest apart.",
    )
    grid: Annotated[int, Field(ge=0)] = Field(7, description="Points of a side of the plane's grid; 0: no plane.")
    gradients: Annotated[int, Field(ge=0)] = Field(
        128, description="Sentence pairs per language, for gradients at the base; 0: none."
    )
    blocks: Annotated[int, Field(ge=4)] = Field(16, description="Blocks of the gradients' jackknife.")
    fisher: Annotated[int, Field(ge=0)] = Field(
        32, description="Sentence pairs per language, for Fisher information; 0: none."
    )

    @model_validator(mode="after")
    def _enough(self) -> Landscape:
        if self.plane and len(set(self.plane)) != 3:
            raise ValueError(f"plane: expected three different names, or none, found {self.plane}")
        for key, least in (("grid", 2), ("gradients", 4), ("fisher", 2)):
            if 0 < getattr(self, key) < least:
                raise ValueError(f"{key}: expected 0 (none) or {least} and more, found {getattr(self, key)}")
        return self


class Ablation(Section):
    """What the language units of a model do, found by switching them off; in bits per byte of the target."""

    models: list[Name] = Field(
        ["base"],
        min_length=1,
        description="Models whose units are switched off: `base`, languages (their specialists), `joint`, or some of "
        "`analysis.merges`.",
    )
    sentences: Annotated[int, Field(ge=8)] = Field(32, description="Sentence pairs per language, for losses.")
    draws: Annotated[int, Field(ge=2)] = Field(8, description="Sets of random units for each language.")


RankingName = Literal[
    "mutual_information", "selectivity_index", "exclusivity", "average_precision", "lape", "mount_doom"
]


class Damage(Section):
    """Which measures of two languages foretell what is left after merging their specialists, as in `merging.pairs`."""

    outcome: Literal["retention", "worst_retention", "ratio", "loss"] = Field(
        "retention",
        description="What is foretold: the mean or the worst retention of both, merge / specialist, points.",
    )
    permutations: Annotated[int, Field(ge=24)] = Field(
        10000, description="Permutations at most; all of them where there are no more."
    )
    samples: Count = Field(1000, description="Bootstrap samples.")


class Analysis(Section):
    """Which models are measured, and how."""

    sentences: Annotated[int, Field(ge=8)] = Field(256, description="Parallel sentences per language.")
    split: Name = Field("dev", description="Split that is measured.")
    merges: list[str] = Field(
        default_factory=list, description="Tuned merges that are measured beside base and specialists."
    )
    neurons: RankingName = Field(
        "mutual_information",
        description="Headline ranking of units; `lape` and `mount_doom` are the settings of those papers.",
    )
    rankings: list[RankingName] = Field(
        ["mutual_information", "selectivity_index", "exclusivity", "lape", "mount_doom"],
        description="Rankings of units at every site. `average_precision` keeps histograms of sentences besides.",
    )
    top: Share = Field(0.01, description="Share of units called selective (the presets bring their own).")
    align: Literal["read", "predict"] = Field(
        "read", description="Positions that hold the span's tokens, or that predict them."
    )
    sites: list[Literal["mlp_gate", "mlp_product", "attention", "residual", "embedding"]] = Field(
        ["mlp_gate", "mlp_product", "attention", "residual", "embedding"],
        description="Where units are watched; `mlp_gate` always.",
    )
    pools: list[Literal["mean", "last"]] = Field(
        ["mean", "last"], description="States that are kept of a span: their `mean` (always) and the `last` token's."
    )
    blocks: Annotated[int, Field(ge=2)] = Field(20, description="Blocks of the jackknife.")
    permutations: Annotated[int, Field(ge=0)] = Field(20, description="Shuffles of CKA's null.")
    seed: int = Field(1, description="Seed of the shuffles.")
    landscape: Landscape | None = Field(
        default_factory=lambda: Landscape.model_validate({}), description="The loss landscape; none when empty."
    )
    ablation: Ablation | None = Field(
        default_factory=lambda: Ablation.model_validate({}), description="Units switched off; none when empty."
    )
    damage: Damage | None = Field(
        default_factory=lambda: Damage.model_validate({}),
        description="What foretells merge damage, where pairs are merged; none when empty.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Analysis:
        needed: list[tuple[str, Sequence[str], str]] = [
            ("sites", self.sites, "mlp_gate"),
            ("pools", self.pools, "mean"),
        ]
        for key, values, one in needed:
            if one not in values or len(set(values)) != len(values):
                raise ValueError(f"{key}: expected {one} and perhaps others, each once; found {list(values)}")
        return self


class Hardware(Section):
    """What the plan assumes when it predicts time; it decides nothing else."""

    flops_per_second: Positive = Field(1e11, description="Useful model FLOPs per second of one training job.")
    startup_seconds: Positive = Field(6.0, description="Imports and start of one job.")
    workers: Count = Field(2, description="Jobs at once.")


class Study(Section):
    """A study: languages, one base, a specialist for each language and direction, and what is made of them."""

    title: str = Field(min_length=1, description="Heading of the report.")
    pivot: Language = Field("en", description="The language that all pairs share.")
    languages: list[Language] = Field(min_length=1, description="Languages that get specialists.")
    directions: list[DirectionGroup] = Field(
        ["from_pivot", "to_pivot"], min_length=1, description="Translate from the pivot, to it, or both."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [1], min_length=1, description="One replicate of all models per seed."
    )
    corpus: Corpus = Field(description="The sentence pairs.")
    prompt: PromptConfig = Field(
        default_factory=lambda: PromptConfig.model_validate({}), description="How a translation is asked for."
    )
    base: Base = Field(description="The common ancestor.")
    specialist: Training = Field(description="Training of each specialist.")
    joint: Training | None = Field(
        None, description="Training of the joint model of a direction group; none when empty."
    )
    models: dict[Name, ExtraModel] = Field(default_factory=dict, description="Further models by name.")
    merging: Merging = Field(default_factory=lambda: Merging.model_validate({}), description="The merges.")
    evaluation: Evaluation = Field(default_factory=lambda: Evaluation.model_validate({}), description="The scoring.")
    analysis: Analysis | None = Field(None, description="The measurements; none when empty.")
    hardware: Hardware = Field(default_factory=lambda: Hardware.model_validate({}), description="For predictions only.")

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        named: list[tuple[str, list[Any]]] = [
            ("languages", self.languages),
            ("directions", [*self.directions]),
            ("seeds", self.seeds),
            ("base.languages", self.base.languages),
        ]
        for key, values in named:
            repeated = [value for i, value in enumerate(values) if value in values[:i]]
            if repeated:
                raise ValueError(f"{key}: {repeated[0]} stands there twice; name each once")
        for key, languages in (("languages", self.languages), ("base.languages", self.base.languages)):
            if self.pivot in languages:
                raise ValueError(f"{key}: {self.pivot} is the pivot; leave it out")
        if len(self.languages) < 2 and (self.merging.all or self.merging.pairs or self.merging.drift):
            raise ValueError("languages: a merge needs at least two; add a language or remove `merging`")
        _check_grids("merging.all", self.merging.all, len(self.languages))
        for method in self.analysis.merges if self.analysis else []:
            if method not in self.merging.all:
                raise ValueError(
                    f"analysis.merges: {method} is not among merging.all; expected one of {sorted(self.merging.all)}"
                )
        if self.merging.drift and (late := [s for s in self.merging.drift.steps if s > self.specialist.steps]):
            raise ValueError(
                f"merging.drift.steps: {late[0]} lies after the last step of the specialists ({self.specialist.steps})"
            )
        for method in self.merging.layer_patch.onto if self.merging.layer_patch else []:
            if method not in self.merging.all:
                known = sorted(self.merging.all)
                raise ValueError(
                    f"merging.layer_patch.onto: {method} is not among merging.all; expected one of {known}"
                )
        for code in self.merging.layer_patch.languages if self.merging.layer_patch else []:
            if code not in self.languages:
                raise ValueError(
                    f"merging.layer_patch.languages: {code} has no specialist; expected some of {self.languages}"
                )
        splits = (
            ["dev", "test"]
            if isinstance(self.corpus, EmbeddedCorpus)
            else [s for s in self.corpus.splits if s != "train"]
        )
        wanted = [("evaluation.splits", split) for split in self.evaluation.splits]
        wanted += [("analysis.split", self.analysis.split)] if self.analysis else []
        for key, split in wanted:
            if split not in splits:
                raise ValueError(f"{key}: no split {split}; the corpus has {', '.join(splits)}")
        return self


class Workflow(Section):
    """`config/config.yaml`: which studies at which scale."""

    studies: list[Name] = Field(min_length=1, description="Files in `config/studies/`, without `.yaml`.")
    scale: Name = Field("cpu", description="File in `config/scales/`, without `.yaml`.")
    data_root: str | None = Field(
        None, description="Folder of your own data, where a scale or study says `{data_root}`."
    )
    keep_merges: bool = Field(
        True, description="Keep the tuned merges' weights; `false` removes them once they are measured."
    )

    @field_validator("studies", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
