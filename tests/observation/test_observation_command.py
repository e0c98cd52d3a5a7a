"""The command line: what it writes, that thresholds are frozen, that only hooks and text decide it."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_llamas import random_llama

from langmerge.analysis.observations import (
    read_counts,
    read_histogram,
    read_representation,
    read_rows,
    read_summary,
)
from langmerge.models import load_tokenizer
from langmerge.observation.__main__ import main
from langmerge.prompts import Prompt, encode_pairs
from langmerge.provenance import InputError, read_json, verify
from langmerge.sentences import blocks_of

SPEC = {
    "sentences": 20,
    "split": "dev",
    "align": "read",
    "blocks": 5,
    "sites": ["mlp_gate", "residual"],
    "pools": ["mean", "last"],
    "bins": 4,
    "pivot": "en",
    "prompt": {"template": "<{target_code}>{source}<{target_code}>", "format": "plain"},
    "directions": [{"source": "en", "target": "es"}, {"source": "de", "target": "en"}],
}


@pytest.fixture
def run(tmp_path, pairs):
    def command(model, name="out", thresholds=None, **changes):
        inputs = {"model": str(model), **{f"pairs/{language}": str(folder) for language, folder in pairs.items()}}
        inputs |= {"thresholds": str(thresholds)} if thresholds else {}
        out = tmp_path / name
        main(["--spec", json.dumps({**SPEC, **changes}), "--inputs", json.dumps(inputs), "--out", str(out)])
        return out

    return command


def test_an_observation_says_what_it_holds(run, save_model, pairs):
    model = random_llama(0)
    folder = save_model("base", model)
    out = run(folder)
    verify(out)
    summary = read_summary(out)
    assert summary.languages == ("es", "de") and list(map(str, summary.directions)) == ["en-es", "de-en"]
    assert summary.sites == {"mlp_gate": (3, 24), "residual": (3, 16)}
    assert summary.layer_names == ("embedding", "block 1", "block 2", "block 3, after the final norm")
    assert np.array_equal(summary.blocks[1], blocks_of(summary.ids[1], 5)) and len(summary.ids[0]) == 20
    assert read_representation(out, "de-en", "source", "last", 0).shape == (20, 16)
    counts = read_counts(out, "residual")
    assert counts.events.shape == (2, 2, 5, 3, 16) and counts.total.shape == (2, 2, 3, 16)
    assert counts.tokens.shape == (2, 2, 5) and counts.events.max() <= counts.tokens.max()
    assert (read_histogram(out, "mlp_gate").sum(-1) == 20).all()
    rows = read_rows(out)
    assert rows.counts.sum() == counts.tokens.sum() and len(rows.vocabulary) == rows.counts.shape[-1]
    cost = read_json(out / "cost.json")
    assert cost["tokens"] > 2 * 20 * 10 and cost["device"] == "cpu" and cost["flops"] > 0
    assert cost["array_bytes"] == cost["predicted_array_bytes"] > 4 * counts.events.size

    losses = pd.read_csv(out / "losses.csv")
    assert list(losses) == ["direction", "id", "block", "source_tokens", "target_tokens", "target_bytes", "nll"]
    lines = [json.loads(line) for line in (pairs["de"] / "dev.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(folder)
    for row in losses[losses.direction == "de-en"].itertuples():
        pair = next(line for line in lines if line["id"] == row.id)
        (sequence,) = encode_pairs(Prompt(**SPEC["prompt"]), tokenizer, [(pair["de"], pair["en"])], "de", "en")
        ids = torch.tensor([sequence.ids])
        labels = torch.full_like(ids, -100)
        start, end = sequence.target
        labels[0, start:end] = ids[0, start:end]
        with torch.no_grad():
            mean = float(model(ids, labels=labels).loss)
        assert row.nll == pytest.approx(mean * row.target_tokens, rel=1e-4)
        assert (row.target_tokens, row.target_bytes) == (end - start, len(pair["en"].encode()))


def test_a_model_by_the_baselines_thresholds(run, save_model):
    """Thresholds and scales are those of the baseline to the bit; a model observed by its own has others."""
    base, other = save_model("base", random_llama(0)), save_model("other", random_llama(1))
    first = run(base, "base")
    frozen, own = run(other, "frozen", first), run(other, "own")
    tensors = [load_file(folder / "thresholds.safetensors") for folder in (first, frozen, own)]
    assert set(tensors[0]) == {f"{site}/{name}" for site in SPEC["sites"] for name in ("tau", "scale")}
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name])
        assert name == "mlp_gate/tau" or not torch.equal(tensor, tensors[2][name])
    gates = [read_counts(folder, "mlp_gate").events for folder in (frozen, own)]
    assert np.array_equal(*gates)  # a sign needs no threshold
    assert not np.array_equal(*(read_counts(folder, "residual").events for folder in (frozen, own)))
    again = run(base, "again", first)
    for name in ("counts.safetensors", "representations.safetensors", "losses.csv"):
        assert (again / name).read_bytes() == (first / name).read_bytes()
    assert set(read_json(frozen / "manifest.json")["inputs"]) == {"model", "pairs/es", "pairs/de", "thresholds"}


def test_predicting_positions_are_one_before_reading_ones(run, save_model, pairs):
    """At the layer of the embedding, states are tokens: the mean over the positions before the span."""
    model = random_llama(0)
    folder = save_model("base", model)
    tokenizer = load_tokenizer(folder)
    lines = [json.loads(line) for line in (pairs["es"] / "dev.jsonl").read_text().splitlines()]
    sequences = encode_pairs(
        Prompt(**SPEC["prompt"]), tokenizer, [(line["en"], line["es"]) for line in lines[:20]], "en", "es"
    )
    for align, shift in (("read", 0), ("predict", 1)):
        states = read_representation(run(folder, align, align=align), "en-es", "target", "mean", 0)
        for sequence, state in zip(sequences, states, strict=True):
            start, end = sequence.target
            ids = torch.tensor(sequence.ids[start - shift : end - shift])
            torch.testing.assert_close(state, model.model.embed_tokens(ids).mean(0).detach())


def test_mistakes_are_named(run, save_model, tmp_path):
    base = save_model("base", random_llama(0))
    for key, value in (("align", "sideways"), ("sites", ["soul"]), ("pools", [])):
        with pytest.raises(InputError, match=f"{key}: expected one of"):
            run(base, **{key: value})
    first = run(base, "base")
    with pytest.raises(InputError, match=r"align = predict, the baseline in .* has read"):
        run(base, "other", first, align="predict")
    with pytest.raises(InputError, match="its tokens are not those of the baseline"):
        run(base, "other", first, sentences=19)
    tau = first / "thresholds.safetensors"
    tau.write_bytes(tau.read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match=r"thresholds\.safetensors: expected SHA-256"):
        run(base, "other", first)
    with pytest.raises(InputError, match="no 'en-fi/source/mean/0'"):
        read_representation(first, "en-fi", "source", "mean", 0)
    with pytest.raises(InputError, match="the site was not observed"):
        read_counts(first, "attention")
    with pytest.raises(InputError, match="expected an observation"):
        read_counts(tmp_path, "attention")
    assert not (tmp_path / "other").exists() and math.isfinite(read_counts(first, "residual").total.sum())
