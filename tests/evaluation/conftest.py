"""A tiny random Llama with a byte-level tokenizer, and multi-parallel sentence pairs."""

import json
from pathlib import Path

import pytest

SENTENCES = {
    "en": [
        "The red cat is sleeping in the garden.",
        "The old teacher reads a long book.",
        "We did not see the doctor.",
    ],
    "es": [
        "El gato rojo duerme en el jardín.",
        "El viejo maestro lee un libro largo.",
        "No vimos al médico ayer tarde.",
    ],
    "de": [
        "Die rote Katze schläft im Garten.",
        "Der alte Lehrer liest ein langes Buch.",
        "Wir sahen den Arzt nicht.",
    ],
}


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def model(tokenizer):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Path]:
    """Folders of pairs of es and de with en, with manifests."""
    folders = {}
    for language in ("es", "de"):
        folder = tmp_path / "pairs" / language
        folder.mkdir(parents=True)
        rows = zip(SENTENCES["en"], SENTENCES[language], strict=True)
        lines = [json.dumps({"id": f"s{i}", "en": en, language: xx}) for i, (en, xx) in enumerate(rows)]
        for split in ("dev", "test"):
            (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "manifest.json").write_text('{"outputs": {}}')
        folders[language] = folder
    return folders
