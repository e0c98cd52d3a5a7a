"""How models are made: prompts, trainings, and what a study starts from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from langmerge.config.base import Count, Language, Portion, Positive, Section, Share
from langmerge.config.growth_recipe import GrowSpec


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
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Of the arithmetic; master weights are always fp32. `auto`: bf16 where the GPU or CPU has "
        "instructions for it, else fp32 (a CPU without them is many times slower in bf16); `cost.json` says which.",
    )
    compile: bool = Field(False, description="torch.compile: pays on GPUs, not for tiny models.")
    gradient_checkpointing: bool = Field(False, description="Less memory for more time.")
    threads: Count = Field(
        1,
        description="CPU threads of the job (fewer where the machine has fewer). Two jobs of one thread do more than "
        "one of two, and batches of a tiny model take longer on two. Equal bytes take equal numbers of threads.",
    )
    gpus: Count = Field(
        1, description="GPUs of the job, one process each; without GPUs so many processes of `threads`."
    )
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
    """One more model: exactly one of the four recipes."""

    import_: Import | None = Field(None, alias="import", description="From the Hub or a folder.")
    merge: MergeSpec | None = Field(None, description="From other models of the study.")
    train: TrainSpec | None = Field(None, description="From another model of the study.")
    grow: GrowSpec | None = Field(None, description="From a smaller model of the study, made larger.")

    @model_validator(mode="after")
    def _one_recipe(self) -> ExtraModel:
        if sum(recipe is not None for recipe in (self.import_, self.merge, self.train, self.grow)) != 1:
            raise ValueError("give exactly one of `import`, `merge`, `train`, `grow`")
        return self
