"""Written folders: what is in them, and that nothing is left behind when something goes wrong."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from merge_models import flat, save
from safetensors.torch import load_file

from langmerge.merging import Recipe, state_dicts, write_models
from langmerge.merging import __main__ as command
from langmerge.merging.elements import FLOAT32
from langmerge.merging.writer import WeightsWriter
from langmerge.provenance import InputError

MEAN = Recipe("mean", "linear", ("a", "b"), "base")
TIES = Recipe("ties", "ties", ("a", "b"), "base", {"density": 0.5})


def test_a_folder_has_the_bases_configuration_tokenizer_and_no_code(states, sources, tmp_path):
    base = save(tmp_path / "base", states["base"])
    (base / "modeling_own.py").write_text("raise SystemExit")
    (base / "chat_template.jinja").write_text("{{ messages }}")
    (base / "manifest.json").write_text("{}")
    write_models([MEAN], sources | {"base": base}, {"mean": tmp_path / "out"})
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "merge_statistics.json",
    }
    for file in ("config.json", "tokenizer.json"):
        assert json.loads((tmp_path / "out" / file).read_text()) == json.loads((base / file).read_text())
    statistics = json.loads((tmp_path / "out/merge_statistics.json").read_text())
    assert Recipe.from_json(statistics["recipe"]) == MEAN
    assert statistics["reference"] == "base"


def test_the_reference_of_a_patch_is_found_through_the_merge(sources, tmp_path):
    patch = Recipe("patch", "layer_patch", ("ties", "a"), None, {"last": 1})
    statistics = write_models([TIES, patch], sources, {"patch": tmp_path / "out"})
    assert list(statistics) == ["patch"]
    assert statistics["patch"]["reference"] == "base"
    stored = load_file(tmp_path / "out/model.safetensors")
    merged = {m.recipe.name: m.state_dict for m in state_dicts([TIES], sources)}["ties"]
    specialist = load_file(sources["a"] / "model.safetensors")
    for name, tensor in stored.items():
        assert torch.equal(tensor, specialist[name] if ".layers.1." in name else merged[name])


def test_the_same_merge_gives_the_same_bytes(sources, tmp_path):
    for name, block in (("one", 100), ("two", 5000)):
        write_models([TIES], sources, {"ties": tmp_path / name}, block=block)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_tensors_are_aligned_to_their_element_size(states, tmp_path):
    mixed = {n: t.to(torch.bfloat16) if "norm" in n else t for n, t in states["a"].items()}
    mixed["odd"] = torch.zeros(3, dtype=torch.uint8)
    save(tmp_path / "a", mixed)
    write_models([Recipe("m", "linear", ("a",))], {"a": tmp_path / "a"}, {"m": tmp_path / "out"})
    data = (tmp_path / "out/model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    sizes = {"F32": 4, "BF16": 2, "U8": 1}
    for name, row in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            assert (8 + length + row["data_offsets"][0]) % sizes[row["dtype"]] == 0
    stored = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(stored[n], t) for n, t in mixed.items())


@pytest.mark.parametrize("after", [0, 1, 9])
def test_a_full_disk_leaves_nothing_behind(sources, tmp_path, monkeypatch, after):
    write, calls = WeightsWriter.write, []

    def full(self, *arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *arguments)

    monkeypatch.setattr(WeightsWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_models([MEAN, TIES], sources, {"mean": tmp_path / "one", "ties": tmp_path / "two"}, block=500)
    assert len(calls) == after + 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_turns_out_damaged_leaves_nothing_behind(states, sources, tmp_path):
    bad = {n: t.clone() for n, t in states["b"].items()}
    bad["model.norm.weight"][0] = torch.nan
    inputs = sources | {"b": save(tmp_path / "in/b", bad)}
    with pytest.raises(ValueError, match="NaN"):
        write_models([MEAN], inputs, {"mean": tmp_path / "out/mean"})
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_overwritten(sources, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        write_models([MEAN], sources, {"mean": tmp_path / "out"})
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_tensor_not_written_in_full_is_an_error(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"not written in full: \['w'\]"),
        WeightsWriter(tmp_path, [("w", FLOAT32, (4,))]) as writer,
    ):
        writer.write("w", 0, torch.zeros(3))


def spec(sources, **more):
    return {
        "recipe": {"name": "m", "method": "layer_patch", "models": ["ties", "a"], "parameters": {"layers": [0]}},
        "with": [TIES.to_json()],
        "sources": {name: str(folder) for name, folder in sources.items()},
        **more,
    }


def test_the_command_line_writes_a_folder(sources, tmp_path, capsys):
    text = json.dumps(spec(sources, dtype="bfloat16", block=1000))
    command.main(["--spec", text, "--out", str(tmp_path / "out")])
    stored = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    statistics = json.loads((tmp_path / "out/merge_statistics.json").read_text())
    assert statistics["layers"] == [0]
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int8"}, "spec.dtype: 'int8' is not one of null, float32"),
        ({"sourcs": {}}, r"unknown keys ['sourcs']"),
        ({"sources": {}}, "no source or recipe 'a'"),
    ],
)
def test_the_command_line_says_what_is_wrong(sources, tmp_path, change, message):
    text = json.dumps(spec(sources) | change)
    with pytest.raises(InputError, match=re.escape(message)):
        command.main(["--spec", text, "--out", str(tmp_path / "out")])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_merging_does_not_import_transformers():
    code = "import langmerge.merging.__main__, sys; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_transformers_loads_the_result_with_tied_embeddings(sources, tmp_path):
    transformers = pytest.importorskip("transformers")
    write_models([TIES], sources, {"ties": tmp_path / "out"}, shard_bytes=30_000)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    (merged,) = state_dicts([TIES], sources)
    loaded = {n: t for n, t in model.state_dict().items() if n != "lm_head.weight"}
    assert torch.equal(flat(loaded), flat(merged.state_dict))
