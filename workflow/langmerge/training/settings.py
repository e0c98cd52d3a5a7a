"""What decides a training run: the checked form of a `train` recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from langmerge.provenance import InputError
from langmerge.training.precision import Choice

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Schedule = Literal["cosine", "constant", "inverse_sqrt", "linear", "wsd"]


class Strict(BaseModel):
    """A recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Strict):
    """One part of the data mixture.

    ``task`` "translate" needs ``source`` and ``target``; "text" needs ``language``; "examples" needs ``language`` and
    the ``name`` of a task whose prompts and answers are learnt. ``weight`` is the part's share of the training tokens,
    relative to the other parts. ``portion`` picks rows of the train split by their position. ``loss``: "target" asks
    for the target (text, answer) and its end only, "all" for every token after the first.
    """

    task: Literal["translate", "text", "examples"] = "translate"
    source: str | None = None
    target: str | None = None
    language: str | None = None
    name: str | None = None
    weight: float = Field(default=1.0, ge=0.0)
    portion: tuple[Share, Share] = (0.0, 1.0)
    loss: Literal["target", "all"] = "target"

    @model_validator(mode="after")
    def _languages(self) -> Component:
        if self.task == "translate" and (not self.source or not self.target or self.language):
            raise ValueError("a `translate` part needs `source` and `target` and takes no `language`")
        if self.task == "text" and (not self.language or self.source or self.target):
            raise ValueError("a `text` part needs `language` and takes no `source` or `target`")
        if self.task == "examples" and (not self.language or not self.name or self.source or self.target):
            raise ValueError("an `examples` part needs `name` and `language` and takes no `source` or `target`")
        if self.task != "examples" and self.name:
            raise ValueError("`name` is that of a task, which only `examples` parts have")
        if self.portion[0] >= self.portion[1]:
            raise ValueError("`portion` must be [start, end] with start < end")
        return self

    @property
    def label(self) -> str:
        """How the part is called in messages: ``en-es``, ``es`` or ``sentiment.es``."""
        if self.task == "translate":
            return f"{self.source}-{self.target}"
        return f"{self.name}.{self.language}" if self.name else str(self.language)


class PromptSettings(Strict):
    """The prompt of `translate` parts: see :class:`langmerge.prompts.Prompt`."""

    template: str = "<{source_code}>{source}<{target_code}>"
    format: Literal["plain", "chat"] = "plain"

    @model_validator(mode="after")
    def _one_source(self) -> PromptSettings:
        if self.template.count("{source}") != 1:
            raise ValueError("`template` must hold the field {source} exactly once")
        try:
            self.template.format(source="", source_code="", target_code="", source_name="", target_name="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"`template` has an unknown or broken field ({error}); known are {{source}}, "
                "{source_code}, {target_code}, {source_name}, {target_name}"
            ) from None
        return self


class LowRank(Strict):
    """The adapters of :mod:`langmerge.training.lora`: ``rank``, ``alpha`` (scaling alpha / rank), ``dropout`` of their
    input, and ``targets``, the names of the linear modules that get one (default: all of a Llama's layers).
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )


class Settings(Strict):
    """A `train` recipe.

    ``batch_tokens`` counts the real tokens of one optimizer step, over all accumulation steps and devices, so that
    neither changes what is learnt. ``warmup`` is a fraction of ``steps``, ``final_learning_rate`` one of
    ``learning_rate``. ``precision`` "bf16" computes in bf16 autocast, "auto" where the device has instructions for it
    (:mod:`.precision`); weights and optimizer are fp32 always. With ``lora`` only adapters are trained, and merged into
    the weights at the end.
    """

    kind: Literal["train"] = "train"
    parent: str = ""
    data: tuple[Component, ...] = Field(min_length=1)
    prompt: PromptSettings = PromptSettings()
    text_tag: str = "<{code}>"
    steps: int = Field(ge=1)
    batch_tokens: int = Field(default=2048, ge=1)
    context_length: int = Field(default=512, ge=2)
    packing: bool = False
    learning_rate: float = Field(gt=0.0)
    schedule: Schedule = "cosine"
    warmup: Share = 0.1
    final_learning_rate: Share = 0.05
    weight_decay: float = Field(default=0.01, ge=0.0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    clip: float = Field(default=1.0, gt=0.0)
    precision: Choice = "fp32"
    compile: bool = False
    gradient_checkpointing: bool = False
    accumulation: int = Field(default=1, ge=1)
    lora: LowRank | None = None
    snapshots: tuple[Annotated[int, Field(ge=0)], ...] = ()
    checkpoint_seconds: float = Field(default=300.0, gt=0.0)
    seed: int = Field(default=0, ge=0)

    @field_validator("text_tag")
    @classmethod
    def _tag(cls, tag: str) -> str:
        try:
            tag.format(code="en")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"`text_tag` has an unknown or broken field ({error}); only {{code}} is known") from None
        return tag

    @model_validator(mode="after")
    def _steps(self) -> Settings:
        if not any(part.weight for part in self.data):
            raise ValueError("`data` has no part with a weight above 0")
        late = [step for step in self.snapshots if step > self.steps]
        if late:
            raise ValueError(f"`snapshots` {late} lie after the last step {self.steps}")
        return self


Recipe = TypeVar("Recipe", bound=BaseModel)


def check(form: type[Recipe], spec: Any, stage: str) -> Recipe:
    """The checked form of a recipe; :class:`InputError` lists every wrong key and what it must be."""
    try:
        return form.model_validate(spec)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()]
        raise InputError(
            f"the {stage} recipe is not valid; mend these keys in the study file:\n" + "\n".join(lines)
        ) from None
