"""The `init` stage: a byte-level BPE tokenizer from the corpus, and random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from langmerge import models
from langmerge.command import parse
from langmerge.provenance import InputError, Result, result, run
from langmerge.training.data import Corpora
from langmerge.training.settings import Component, Share, Strict, check

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


class InitSettings(Strict):
    """An `init` recipe: fields of the model's configuration, and the tokenizer to be learnt.

    The tokenizer is learnt on ``languages`` and on ``pivot``, the language that their corpora share (None: on theirs
    alone).
    """

    kind: str = "init"
    architecture: dict[str, Any]
    vocabulary_size: int = Field(ge=300)
    languages: tuple[str, ...] = Field(min_length=1)
    pivot: str | None = "en"
    special_tokens: tuple[str, ...] = ()
    portion: tuple[Share, Share] = (0.0, 1.0)
    seed: int = Field(default=0, ge=0)


def train_tokenizer(texts: Iterable[str], size: int, special: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with at most ``size`` entries (fewer where the texts have no more pairs to merge).

    A word has one token whether it opens a text or not: a space is put before the first word, and taken off when
    decoding. Language tags are special tokens, never split.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS, PAD, *special],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, special: Iterable[str], length: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=list(special),
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def _texts(settings: InitSettings, inputs: Mapping[str, Path]) -> list[str]:
    """The train sentences of all languages, the pivot's once only, though each corpus holds it."""
    corpora = Corpora(inputs)
    pivot = [] if settings.pivot is None else [settings.pivot]
    codes = dict.fromkeys([*pivot, *settings.languages])
    return [
        text
        for code in codes
        for text in corpora.texts(Component(task="text", language=code, portion=settings.portion))
    ]


def initialise(settings: InitSettings, inputs: Mapping[str, Path], folder: Path) -> int:
    """Write tokenizer, configuration and seeded random fp32 weights into ``folder``; the number of parameters."""
    texts = _texts(settings, inputs)
    tokenizer = train_tokenizer(texts, settings.vocabulary_size, settings.special_tokens)

    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    fields = dict(settings.architecture)
    kind = fields.pop("model_type", "llama")
    fixed = {"vocab_size": tokenizer.get_vocab_size(), "dtype": "float32"}
    fixed |= {f"{name}_token_id": tokenizer.token_to_id(f) for name, f in (("bos", BOS), ("eos", EOS), ("pad", PAD))}
    try:
        known = AutoConfig.for_model(kind).to_dict()
        if unknown := sorted(set(fields) - (set(known) - set(fixed))):
            raise ValueError(f"it has no fields {unknown} that could be set")
        config = AutoConfig.for_model(kind, **fixed, **fields)
        torch.manual_seed(settings.seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise InputError(
            f"architecture: {kind!r} with these fields makes no model ({error}); see the fields of its "
            "configuration class in transformers"
        ) from None
    write_tokenizer(tokenizer, folder, settings.special_tokens, config.max_position_embeddings)
    models.save_model(model, folder)
    return int(sum(weight.numel() for weight in model.parameters()))


def build(spec: Any, inputs: Mapping[str, Path], job: Result) -> None:
    """Run the stage: fill ``job.folder``."""
    settings = check(InitSettings, spec, "init")
    for name, folder in sorted(inputs.items()):
        job.read(name, folder)
    models.set_threads()
    job.cost["parameters"] = initialise(settings, inputs, job.folder)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the model."""
    command = parse("langmerge.training.init", __doc__, arguments)
    with result(command.out, command.spec, command.code, command.environment) as job:
        build(command.spec, command.inputs, job)


if __name__ == "__main__":
    run(main)
