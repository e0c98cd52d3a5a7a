"""A model of which one unit carries one language, and what it was observed to do."""

import json

import numpy as np
import pytest
from tiny_llamas import random_llama

from langmerge.ablation.__main__ import main
from langmerge.observation.__main__ import main as observe
from langmerge.provenance import read_json, write_json

DIRECTIONS = [{"source": "en", "target": "es"}, {"source": "en", "target": "de"}]
PROMPT = {"template": "<{source}>", "format": "plain"}
LETTERS = {"en": "mnop", "es": "abcd", "de": "wxyz"}
CARRIER, IDLE = (1, 5), (1, 7)  # (layer, unit) that fires on es and raises its letters; fires on de and does nothing
OBSERVED = {
    "sentences": 24,
    "split": "dev",
    "align": "read",
    "blocks": 6,
    "sites": ["mlp_gate"],
    "pools": ["mean"],
    "bins": 0,
    "pivot": "en",
    "prompt": PROMPT,
    "directions": DIRECTIONS,
}
SPEC = {
    "models": ["base"],
    "baseline": "base",
    "directions": DIRECTIONS,
    "pivot": "en",
    "prompt": PROMPT,
    "split": "dev",
    "sentences": 16,
    "ranking": "mutual_information",
    "top": 0.05,
    "draws": 3,
    "blocks": 6,
    "seed": 1,
}


def planted_model(tokenizer):
    """Attention adds nothing, so that each token is predicted from the last one alone; units read three channels."""
    import torch

    model = random_llama(
        num_hidden_layers=2, hidden_size=16, intermediate_size=24, vocab_size=260, tie_word_embeddings=False
    )
    ids = {code: tokenizer.convert_tokens_to_ids(list(letters)) for code, letters in LETTERS.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1)
        generator = torch.Generator().manual_seed(0)
        embedding = model.model.embed_tokens.weight
        embedding[:, 15] = 1  # all tokens
        embedding[:, 3:8] = torch.randn(260, 5, generator=generator)  # what tells letters apart
        embedding[ids["es"], 0] = 2
        embedding[ids["de"], 1] = 2
        for layer in model.model.layers:
            # Units that fire on some letters of every language
            layer.mlp.gate_proj.weight[:, 3:8] = torch.randn(24, 5, generator=generator)
            layer.mlp.up_proj.weight[:, 15] = 1
            layer.mlp.down_proj.weight[9] = 0.02 * torch.randn(24, generator=generator)
        for (layer, unit), channel in ((CARRIER, 0), (IDLE, 1)):
            mlp = model.model.layers[layer].mlp
            mlp.gate_proj.weight[unit] = 0
            mlp.gate_proj.weight[unit, channel] = 2
            mlp.gate_proj.weight[unit, 15] = -0.1
            mlp.down_proj.weight[:, unit] = 0
        model.model.layers[CARRIER[0]].mlp.down_proj.weight[8, CARRIER[1]] = 3
        model.lm_head.weight[ids["es"], 8] = 4
        model.lm_head.weight[:, 9] = torch.randn(260, generator=generator)
    return model


def finish(folder):
    from langmerge.provenance import sha256_file

    files = {path.name: sha256_file(path) for path in folder.iterdir() if path.name != "manifest.json"}
    write_json(folder / "manifest.json", {"outputs": files})
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory, tokenizer):
    """Model, pairs and the baseline's observation, as folders."""
    root = tmp_path_factory.mktemp("planted")
    model = planted_model(tokenizer)
    model.save_pretrained(root / "model", safe_serialization=True)
    tokenizer.save_pretrained(root / "model")
    finish(root / "model")
    generator = np.random.default_rng(0)

    def words(code):
        return "".join(generator.choice(list(LETTERS[code]), generator.integers(6, 14)))

    english = [words("en") for _ in range(24)]
    folders = {}
    for language in ("es", "de"):
        folders[language] = root / language
        folders[language].mkdir()
        rows = [{"id": f"s{i}", "en": en, language: words(language)} for i, en in enumerate(english)]
        (folders[language] / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        finish(folders[language])
    inputs = {"model": str(root / "model"), **{f"pairs/{name}": str(folder) for name, folder in folders.items()}}
    observe(["--spec", json.dumps(OBSERVED), "--inputs", json.dumps(inputs), "--out", str(root / "observation")])
    return root


@pytest.fixture
def ablate(planted, tmp_path):
    """``ablate(top=0.1)``: run the command with these keys of the spec changed; its folder."""

    def command(drop=(), **changes):
        inputs = {"models/base": "model", "observations/base": "observation", "pairs/es": "es", "pairs/de": "de"}
        found = {name: str(planted / folder) for name, folder in inputs.items() if name not in drop}
        out = tmp_path / "ablation"
        main(["--spec", json.dumps({**SPEC, **changes}), "--inputs", json.dumps(found), "--out", str(out)])
        assert read_json(out / "cost.json")["tokens"] > 0
        return out

    return command
