"""The job: folders in, folders out, promises measured, and errors that name what is wrong."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from langmerge.growing import job as growing_job
from langmerge.growing.__main__ import main
from langmerge.growing.preservation import differences
from langmerge.models import load_model, load_tokenizer
from langmerge.provenance import InputError, canonical, verify, write_json


@pytest.fixture
def small(save_model, lab):
    return save_model("small", lab.decoder(num_key_value_heads=2, tie_word_embeddings=True))


def grow(spec, source, out):
    main(["--spec", canonical(spec), "--inputs", canonical({"model": str(source)}), "--out", str(out)])
    return out


def cost(folder):
    return json.loads((folder / "cost.json").read_text())


def sign(folder):
    """Renew the manifest of a changed folder."""
    from langmerge.provenance import sha256_file

    files = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.name != "manifest.json"}
    write_json(folder / "manifest.json", {"outputs": files})


@pytest.mark.parametrize("spec", [{"method": "hyperclone", "width": 3}, {"method": "identity", "depth": 2}], ids=str)
def test_a_grown_folder_is_a_whole_model_with_the_same_function(spec, small, lab, tmp_path):
    from transformers import AutoModelForCausalLM

    out = grow(spec, small, tmp_path / "large")
    verify(out)
    grown, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    assert {weight.dtype for weight in grown.state_dict().values()} == {torch.float32}
    assert lab.relative(grown, load_model(small)) < 1e-5
    grown.save_pretrained(tmp_path / "again")
    first, second = load_file(out / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (small / name).read_bytes()
    assert load_tokenizer(out)("abc")["input_ids"] == load_tokenizer(small)("abc")["input_ids"]
    said = cost(out)
    assert said["parameters_before"] == sum(weight.numel() for weight in load_model(small).parameters())
    assert said["parameters"] == sum(weight.numel() for weight in grown.parameters())
    assert said["preserves"] is True
    assert said["relative_logit_difference"] < 1e-5


def test_the_same_recipe_makes_the_same_files(small, tmp_path):
    folders = [grow({"method": "hyperclone"}, small, tmp_path / name) for name in "ab"]
    assert len({(folder / "manifest.json").read_bytes() for folder in folders}) == 1


def test_the_cost_says_what_became_of_the_symmetry(small, tmp_path, capsys):
    noisy = grow({"method": "hyperclone"}, small, tmp_path / "noisy")
    assert cost(noisy)["symmetry"] == "broken"
    assert cost(noisy)["copy_difference"] > 0.3
    assert "equal gradients" not in capsys.readouterr().out
    plain = grow({"method": "hyperclone", "noise": False}, small, tmp_path / "plain")
    assert (cost(plain)["symmetry"], cost(plain)["copy_difference"]) == ("kept", 0.0)
    assert "all copies get equal gradients" in capsys.readouterr().out
    assert json.loads((plain / "growth.json").read_text())["symmetry"] == "kept"


def test_what_preserves_nothing_says_so_and_is_written(small, tmp_path):
    for spec in ({"method": "stack", "depth": 2}, {"method": "dus", "depth": 1.334}):
        out = grow(spec, small, tmp_path / spec["method"])
        assert cost(out)["preserves"] is False
        assert cost(out)["symmetry"] == "none"
        assert cost(out)["relative_logit_difference"] > 1e-3
        assert cost(out)["kl_divergence"] > 0


def test_shards_old_buffers_and_a_stored_tied_head_are_read(small, tmp_path):
    expected = grow({"method": "hyperclone"}, small, tmp_path / "expected")
    weights = load_file(small / "model.safetensors")
    (small / "model.safetensors").unlink()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    names = sorted(weights)
    places = {}
    for number, part in enumerate((names[:9], names[9:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, small / file)
        places |= dict.fromkeys(part, file)
    write_json(small / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    sign(small)
    out = grow({"method": "hyperclone"}, small, tmp_path / "large")
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()


def test_a_broken_promise_is_an_error_and_leaves_nothing(small, tmp_path, monkeypatch):
    """Query heads repeated as a whole, where each copy must stay with its key/value head."""
    from langmerge.growing import copies, hyperclone

    def wrong(config, width, heads):
        return copies.copies(config, width, heads) | {"query": copies.Copies(width)}

    monkeypatch.setattr(hyperclone, "copies", wrong)
    grow({"method": "hyperclone", "heads": "all"}, small, tmp_path / "right")
    with pytest.raises(InputError, match="hyperclone preserves the function, but logits differ by"):
        grow({"method": "hyperclone", "heads": "queries"}, small, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_weights_that_are_no_numbers_are_found(small, tmp_path):
    weights = load_file(small / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, small / "model.safetensors", metadata={"format": "pt"})
    sign(small)
    with pytest.raises(InputError, match="are all weights finite"):
        grow({"method": "hyperclone"}, small, tmp_path / "large")


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"model_type": "gemma2"}, r"config\.json: model_type 'gemma2' cannot be grown; expected one of llama"),
        ({"auto_map": {"AutoModel": "x.Y"}}, r"config\.json: auto_map: asks for code of its own"),
        ({"quantization_config": {"bits": 4}}, r"config\.json: quantization_config: quantized weights"),
        ({"num_hidden_layers": 2}, r"small: tensor 'model\.layers\.2.*has no such tensor"),
        ({"intermediate_size": 25}, r"small: tensor .*by the configuration it is"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_folder_cannot_be_is_named(small, tmp_path, fields, message):
    change(small, **fields)
    sign(small)
    with pytest.raises(InputError, match=message):
        grow({"method": "hyperclone"}, small, tmp_path / "large")


def test_a_tied_head_of_its_own_is_an_error(small, tmp_path):
    weights = load_file(small / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, small / "model.safetensors", metadata={"format": "pt"})
    sign(small)
    with pytest.raises(InputError, match=r"config\.json ties lm_head\.weight.*set tie_word_embeddings to false"):
        grow({"method": "hyperclone"}, small, tmp_path / "large")


@pytest.mark.parametrize(
    "spec, message",
    [
        ({}, 'no "method"; expected one of hyperclone'),
        ({"method": "clone"}, "unknown way to grow 'clone'; expected one of hyperclone, stack"),
        ({"method": "hyperclone", "width": 1}, "hyperclone.width: 1 is not allowed; expected a whole number >= 2"),
        ({"method": "hyperclone", "depth": 2}, "hyperclone: unknown parameter 'depth'"),
        ({"method": "stack", "depth": 1.5}, "stack.depth: 1.5 is not allowed; expected a whole number"),
        ({"method": "identity", "depth": 1.5}, "depth 1.5 of 3 layers makes 4.5"),
    ],
    ids=str,
)
def test_what_a_recipe_cannot_be_is_named(small, tmp_path, spec, message):
    with pytest.raises(InputError, match=message):
        grow(spec, small, tmp_path / "large")
    assert not (tmp_path / "large").exists()


def test_a_swapped_or_absent_source_is_an_error(small, tmp_path):
    with (small / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="expected SHA-256"):
        grow({"method": "hyperclone"}, small, tmp_path / "large")
    with pytest.raises(InputError, match='no "model"'):
        main(["--spec", "{}", "--out", str(tmp_path / "large")])
    sign(small)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        growing_job.read_weights(small, True)
    shutil.move(small / "model.safetensors", small / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle"):
        growing_job.read_weights(small, True)


def test_differences_of_logits():
    source = torch.tensor([[[0.0, 2.0]]], dtype=torch.float64)
    grown = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    p = [1 / (1 + torch.e**2), torch.e**2 / (1 + torch.e**2)]
    q = [1 / (1 + torch.e), torch.e / (1 + torch.e)]
    kl = sum(a * float(torch.tensor(a / b).log()) for a, b in zip(p, q, strict=True))
    found = differences(source, grown)
    assert found == {
        "max_logit_difference": 1.0,
        "relative_logit_difference": 0.5,
        "kl_divergence": pytest.approx(kl, rel=1e-5),
    }
    assert differences(source, source)["kl_divergence"] == 0
