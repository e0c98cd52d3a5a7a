"""The command line `python -m langmerge.merging RECIPE.yaml OUT`: what it writes, says and refuses."""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from merge_models import CONFIG, save, weights
from safetensors.torch import load_file

from langmerge.merging import Recipe, state_dicts
from langmerge.merging import __main__ as command
from langmerge.merging.documents import tool
from langmerge.merging.documents.estimate import estimate
from langmerge.merging.documents.prepare import prepare, read_job
from langmerge.merging.documents.yaml_text import load
from langmerge.provenance import InputError, modules_of


@pytest.fixture
def folder(sources, tmp_path):
    """A folder with the models base, a, b, c."""
    for name, place in sources.items():
        shutil.copytree(place, tmp_path / name)
    return tmp_path


def written(folder, text, *options, out="out"):
    (folder / "recipe.yaml").write_text(text)
    command.main([str(folder / "recipe.yaml"), str(folder / out), "--quiet", *options])
    return folder / out


ADD = """
models: {base: base, a: a, b: ./b}
base: base
method: task_arithmetic
parameters: {scale: 0.5, weights: {b: 2, a: 1}}
"""


def test_a_merge_is_written_with_all_that_belongs_to_it(folder, sources):
    out = written(folder, ADD, "--hashes")
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "merge_statistics.json",
        "README.md",
        "recipe.yaml",
        "mergekit_config.yml",
        "manifest.json",
        "cost.json",
    }
    recipe = Recipe("merged", "task_arithmetic", ("a", "b"), "base", {"scale": 0.5, "weights": [1, 2]})
    (expected,) = state_dicts([recipe], sources)
    stored = load_file(out / "model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.state_dict.items())
    card = (out / "README.md").read_text()
    front = load(card.split("---\n")[1])
    assert front["tags"] == ["merge", "langmerge", "task_arithmetic"]
    assert front["library_name"] == "transformers"
    assert "arXiv 2212.04089" in card
    assert "base + scale sum_i w_i (m_i - base)" in card
    norms = json.loads((out / "merge_statistics.json").read_text())["total"]["delta_norms"]
    assert re.search(rf"\| b \| merged \| local folder \| 2 \| {norms['b']:.4g} \|", card)
    for path in (out / "model.safetensors", folder / "a/model.safetensors"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert str(folder) not in card


@pytest.mark.parametrize("file", ["recipe.yaml", "mergekit_config.yml"])
@pytest.mark.parametrize("change", [("", ""), ("task_arithmetic", "linear"), ("task_arithmetic", "ties")])
def test_the_files_written_make_the_same_weights_again(folder, file, change):
    text = ADD.replace(*change)
    if "linear" in text:
        text = text.replace("scale: 0.5, ", "")
    if "ties" in text:
        text = text.replace("scale: 0.5", "convention: mergekit, rescale: l1")
    out = written(folder, text)
    command.main([str(out / file), str(folder / "again"), "--quiet"])
    assert (folder / "again/model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_a_file_of_mergekit_is_merged(folder, states):
    text = """
    merge_method: linear
    models:
      - {model: a, parameters: {weight: [1, 0]}}
      - {model: b, parameters: {weight: [0, 1]}}
    out_dtype: bfloat16
    """
    stored = load_file(written(folder, text) / "model.safetensors")
    for layer, name in ((0, "a"), (1, "b")):
        tensor = f"model.layers.{layer}.mlp.up_proj.weight"
        assert torch.equal(stored[tensor], states[name][tensor].to(torch.bfloat16))


def test_a_grid_fills_a_folder_for_each_combination_and_a_dtype_can_be_given(folder):
    out = written(folder, ADD.replace("scale: 0.5", "scale: [0, 1]"), "--dtype", "bfloat16", "--block", "100")
    assert {path.name for path in out.iterdir()} == {"merged-scale0", "merged-scale1"}
    stored = load_file(out / "merged-scale0/model.safetensors")
    base = load_file(folder / "base/model.safetensors")
    assert all(torch.equal(tensor, base[name].to(torch.bfloat16)) for name, tensor in stored.items())
    assert load((out / "merged-scale1/recipe.yaml").read_text())["dtype"] == "bfloat16"
    assert "(for 2 outputs together)" in (out / "merged-scale1/README.md").read_text()


def test_a_merge_of_merges_is_reproduced_by_its_own_recipe(folder):
    text = """
    models: {base: base, a: a, b: b}
    base: base
    merges:
      inner: {method: task_arithmetic, parameters: {scale: 0.5}}
      outer: {method: slerp, models: [inner, a], parameters: {t: 0.3}}
    outputs: [outer]
    """
    out = written(folder, text)
    assert [path.name for path in out.iterdir()] == ["outer"]
    assert not (out / "outer/mergekit_config.yml").exists()
    assert "it merges another merge (inner)" in (out / "outer/README.md").read_text()
    command.main([str(out / "outer/recipe.yaml"), str(folder / "again"), "--quiet"])
    again, first = (place / "outer/model.safetensors" for place in (folder / "again", out))
    assert again.read_bytes() == first.read_bytes()


def test_random_masks_follow_the_seed(folder):
    text = ADD.replace("task_arithmetic", "dare_linear").replace("scale: 0.5", "density: 0.5")
    first, same, other = (
        (written(folder, text, "--seed", seed, out=f"out{i}") / "model.safetensors").read_bytes()
        for i, seed in enumerate("778")
    )
    assert first == same
    assert first != other


def test_hub_models_are_named_in_the_card_by_id_commit_and_hash(folder):
    digest = hashlib.sha256((folder / "a/model.safetensors").read_bytes()).hexdigest()
    cache = folder / "models--org--model-de"
    (cache / "blobs").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("0123abcd")
    shutil.move(folder / "a", cache / "snapshots/0123abcd")
    snapshot = cache / "snapshots/0123abcd"
    shutil.move(snapshot / "model.safetensors", cache / "blobs" / digest)
    (snapshot / "model.safetensors").symlink_to(cache / "blobs" / digest)
    out = written(folder, ADD.replace("a: a,", "a: models--org--model-de,"))
    card = (out / "README.md").read_text()
    assert load(card.split("---\n")[1])["base_model"] == ["org/model-de"]
    assert "https://huggingface.co/org/model-de) at 0123abcd" in card
    assert digest in card
    assert load((out / "recipe.yaml").read_text())["models"]["a"] == {"path": "org/model-de", "revision": "0123abcd"}


def test_tokenizer_and_chat_template_can_be_another_models(folder):
    (folder / "a/chat_template.jinja").write_text("from a {{ messages }}")
    (folder / "b/chat_template.jinja").write_text("from b {{ messages }}")
    (folder / "b/tokenizer_config.json").write_text('{"chat_template": "old", "own": "b"}')
    out = written(folder, ADD + "tokenizer: b\n")
    assert (out / "chat_template.jinja").read_text() == "from b {{ messages }}"
    assert json.loads((out / "tokenizer_config.json").read_text())["own"] == "b"
    out = written(folder, ADD + "tokenizer: b\nchat_template: auto\n", out="auto")
    assert (out / "chat_template.jinja").read_text() == "from a {{ messages }}"
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"own": "b"}


def test_a_union_of_vocabularies_is_written(states, tmp_path):
    words = {"a": [f"t{i}" for i in range(40)], "b": [f"t{i}" for i in range(39)] + ["new"]}
    for name, tokens in words.items():
        vocabulary = {token: i for i, token in enumerate(tokens)}
        model = {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": None}
        save(tmp_path / name, states[name], tokenizer={"model": model, "added_tokens": []})
    out = written(tmp_path, "{models: {a: a, b: b}, method: linear, vocabulary: union}")
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    assert tokenizer["model"]["vocab"] == {**{f"t{i}": i for i in range(40)}, "new": 40}
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 41
    stored = load_file(out / "model.safetensors")["model.embed_tokens.weight"]
    own = {name: states[name]["model.embed_tokens.weight"] for name in "ab"}
    assert torch.equal(stored[40], own["b"][39])
    assert load((out / "mergekit_config.yml").read_text())["tokenizer_source"] == "union"


def test_another_models_tokenizer_must_have_the_same_tokens(states, folder):
    tokens = {"model": {"type": "BPE", "vocab": {f"x{i}": i for i in range(40)}}, "added_tokens": []}
    save(folder / "other", states["a"], tokenizer=tokens)
    with pytest.raises(
        InputError, match=r"tokenizer: other has no tokenizer.json with the tokens of the merged models"
    ):
        merges = "merges: {m: {method: linear, models: [a, b]}}"
        written(folder, "{models: {a: a, b: b, other: other}, tokenizer: other, " + merges + "}")
    assert not (folder / "out").exists()


def test_layers_are_stacked_end_to_end(tmp_path):
    transformers = pytest.importorskip("transformers")
    for number, name in enumerate("ab"):
        save(tmp_path / name, weights(number, layers=3), {**CONFIG, "num_hidden_layers": 3})
    text = """
    merge_method: passthrough
    slices:
      - sources: [{model: a, layer_range: [0, 2]}]
      - sources: [{model: b, layer_range: [1, 3]}]
    """
    out = written(tmp_path, text)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 4
    model, report = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    expected = load_file(tmp_path / "b/model.safetensors")["model.layers.2.mlp.up_proj.weight"]
    assert torch.equal(model.model.layers[3].mlp.up_proj.weight, expected)
    for file in ("recipe.yaml", "mergekit_config.yml"):
        command.main([str(out / file), str(tmp_path / file.split(".")[0]), "--quiet"])
    bytes_of = [
        next((tmp_path / place).rglob("model.safetensors")).read_bytes()
        for place in ("out", "recipe", "mergekit_config")
    ]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]


# ---- the dry run -----------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_will_be_read_and_written_and_writes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    written(folder, ADD.replace("scale: 0.5", "scale: [0, 1]"), "--dry-run", "--dtype", "bfloat16")
    text = capsys.readouterr().out
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "recipe.yaml"])
    parameters = sum(tensor.numel() for tensor in load_file(folder / "a/model.safetensors").values())
    assert f"a: {parameters / 1e6:,.1f} M parameters, float32, {tool.words(4 * parameters)}" in text
    assert f"merged-scale0: {tool.words(2 * parameters)}" in text
    assert f"to read: {tool.words(3 * 4 * parameters)} (all models 1.00 times)" in text
    assert f"to write: {tool.words(2 * 2 * parameters)}" in text
    assert re.search(r"time: [\d.]+ s", text)
    assert re.search(r"peak memory: [\d.,]+ [MG]B", text)


def counted(folder, text, **options):
    """(elements read by the engine, the estimate) of a merge."""
    (folder / "recipe.yaml").write_text(text)
    prepared = prepare(*read_job(folder / "recipe.yaml"))
    cost = estimate(prepared, **options)
    read = []
    for source in prepared.sources.values():

        def counting(tensor, start, count, read=read, source=source, real=source.elements):
            read.append(count * source.tensors[tensor].dtype.itemsize)
            return real(tensor, start, count)

        source.elements = counting
    for _ in prepared.merge(**options):
        pass
    return sum(read), cost


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("method: linear", 0.02),
        ("{method: slerp, models: [a, b]}", 0.02),
        ("{method: ties, parameters: {density: 0.5, convention: mergekit}}", 0.02),
        ("method: ties", 0.4),  # how often a threshold must be looked for depends on the values
        ("{method: linear, rules: [{part: mlp, method: ties}]}", 0.4),
    ],
)
@pytest.mark.parametrize("block", [32, 1 << 17])
def test_the_bytes_foretold_are_those_that_are_read(folder, method, tolerance, block):
    merge = json.dumps(load(method))
    text = f"models: {{base: base, a: a, b: b}}\nbase: base\nmerges: {{m: {merge}}}\n"
    read, cost = counted(folder, text, block=block)
    # With blocks this small, what is read ahead and then not asked for counts.
    assert read == pytest.approx(cost.read, rel=max(tolerance, 0.25 if block == 32 else 0))
    assert cost.seconds is not None and cost.seconds > 0


def test_too_little_space_is_an_error_before_the_start(folder, monkeypatch):
    monkeypatch.setattr(tool, "_free", lambda out: 1000)
    with pytest.raises(InputError, match=r"the merge needs .* kB, but only 1.0 kB are free there"):
        written(folder, ADD)
    assert not (folder / "out").exists()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("method: task_arithmetic", "method: task_arithmetik"),
            "recipe.yaml: merges.merged.method: unknown merge method",
        ),
        (("a: a,", "a: ./nowhere,"), "recipe.yaml: models.a: no folder './nowhere'"),
        (("scale: 0.5", "scale: much"), "task_arithmetic.scale: 'much' is not allowed; expected a number"),
        (("models:", "modles:"), "recipe.yaml: the recipe: unknown key 'modles'; did you mean 'models'?"),
        (("base: base\n", "base: base\nbase: a\n"), "recipe.yaml: not valid YAML: the key 'base' stands here twice"),
    ],
)
def test_errors_name_the_file_and_the_key(folder, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        written(folder, ADD.replace(*change))
    assert not (folder / "out").exists()


def test_nothing_is_overwritten(folder):
    (folder / "out").mkdir()
    (folder / "out/mine").touch()
    with pytest.raises(InputError, match="exists already"):
        written(folder, ADD)
    assert [path.name for path in (folder / "out").iterdir()] == ["mine"]


def test_a_missing_file_and_a_wrong_size_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: file not found"):
        command.main([str(tmp_path / "none.yaml"), str(tmp_path / "out")])
    assert [tool.size(text) for text in ("5GB", "1.5 k", "1000")] == [5_000_000_000, 1500, 1000]
    with pytest.raises(argparse.ArgumentTypeError, match="'five' is not a size"):
        tool.size("five")


def test_the_tool_is_no_part_of_what_decides_the_workflows_merges():
    assert not [name for name in modules_of("langmerge.merging") if "documents" in name]


def test_it_runs_as_a_module(folder):
    (folder / "recipe.yaml").write_text(ADD.replace("task_arithmetic", "tsk"))
    arguments = [sys.executable, "-m", "langmerge.merging", "recipe.yaml", "out"]
    run = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: recipe.yaml: merges.merged.method: unknown merge method 'tsk'")
