"""The compact artefact for many languages: what is packed comes out again, bit by bit."""

import json

import pytest
import torch
from merge_models import CONFIG, save, weights
from safetensors.torch import load_file, save_file

from langmerge import provenance
from langmerge.merging import Recipe, routing, state_dicts, write_models

ALL = ("a", "b", "c")
METHODS = [
    ("emr", {}),
    ("emr", {"convention": "released"}),
    ("tall_mask", {}),
    ("tall_mask", {"vector": "ties", "mask_scale": 0.4}),
]


def recipe(method, parameters, name="routing", **more):
    return Recipe(name, method, ALL, "base", {**parameters, **more})


def direct(sources, method, parameters, language, **options):
    (merged,) = state_dicts([recipe(method, parameters, serve=language)], sources, **options)
    return merged.state_dict


def assert_equal(one, other):
    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The same kind of models in bfloat16, with a tensor of whole numbers and odd sizes."""
    root = tmp_path_factory.mktemp("half")
    base = weights(0, dtype=torch.bfloat16)
    states = {"base": base, **{name: weights(i, base, 0.01, torch.bfloat16) for i, name in enumerate(ALL, 1)}}
    generator = torch.Generator().manual_seed(1)
    for state in states.values():
        state["ids"] = torch.arange(5)
        state["odd"] = torch.randn(13, 7, generator=generator).to(torch.bfloat16)
    return {name: save(root / name, state) for name, state in states.items()}


@pytest.mark.parametrize("block", [1, 70, 10**6])
@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_a_restored_model_is_exactly_the_merged_one(half, tmp_path, method, parameters, block):
    routing.pack(recipe(method, parameters), half, tmp_path / "artefact", block=block)
    for language in ALL:
        restored = routing.state_dict(tmp_path / "artefact", half["base"], language)
        assert_equal(restored, direct(half, method, parameters, language))


def test_in_float32_too_and_in_a_type_of_choice(sources, tmp_path):
    routing.pack(recipe("emr", {}), sources, tmp_path / "artefact")
    for dtype in (None, torch.bfloat16):
        restored = routing.state_dict(tmp_path / "artefact", sources["base"], "b", dtype=dtype)
        assert_equal(restored, direct(sources, "emr", {}, "b", dtype=dtype))


def test_a_restored_folder_is_the_folder_of_the_merged_model(half, tmp_path):
    routing.pack(recipe("emr", {}), half, tmp_path / "artefact")
    routing.unpack(tmp_path / "artefact", half["base"], "c", tmp_path / "restored")
    write_models([recipe("emr", {}, "direct", serve="c")], half, {"direct": tmp_path / "direct"})
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "restored" / file).read_bytes() == (tmp_path / "direct" / file).read_bytes()


def test_a_vector_in_bfloat16_is_half_as_large_and_nearly_the_same(sources, states, tmp_path):
    exact = routing.pack(recipe("emr", {}), sources, tmp_path / "exact")
    small = routing.pack(recipe("emr", {}), sources, tmp_path / "small", dtype=torch.bfloat16)
    assert small["bytes"]["vector"] < 0.6 * exact["bytes"]["vector"]
    one, other = (routing.state_dict(tmp_path / name, sources["base"], "a") for name in ("exact", "small"))
    for name, base in states["base"].items():
        change = (one[name] - base).abs()
        # bfloat16 has 8 significant bits; base + change is rounded in float32.
        assert ((one[name] - other[name]).abs() <= change * 2**-8 + 1e-8).all()


def test_sizes_are_what_they_claim(sources, states, tmp_path):
    description = routing.pack(recipe("tall_mask", {}), sources, tmp_path / "artefact")
    entries = sum(tensor.numel() for tensor in states["base"].values())
    for language in ALL:
        stored = load_file(tmp_path / "artefact" / "masks" / language / "model.safetensors")
        assert sum(tensor.numel() for tensor in stored.values()) == sum(
            -(-tensor.numel() // 8) for tensor in states["base"].values()
        )
        size = (tmp_path / "artefact" / "masks" / language / "model.safetensors").stat().st_size
        assert description["bytes"]["masks"][language] == size
        assert entries / 8 <= size < entries / 8 + 4096  # and a header
    assert description["bytes"]["model"] == 4 * entries
    assert json.loads((tmp_path / "artefact" / "routing.json").read_text()) == description
    assert set(description["scales"].values()) == {1.0}


def test_rescalers_are_kept(sources, tmp_path):
    description = routing.pack(recipe("emr", {}), sources, tmp_path / "artefact")
    for language in ALL:
        (merged,) = state_dicts([recipe("emr", {}, serve=language)], sources)
        assert description["scales"][language] == merged.statistics["rescaler"] > 0


@pytest.mark.parametrize("count", [8, 64, 4096])
def test_bits_are_packed_from_the_lowest(count):
    mask = (torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5).float()
    packed = routing.pack_bits(mask)
    assert packed.tolist() == [sum(int(mask[8 * j + k]) << k for k in range(8)) for j in range(count // 8)]
    assert torch.equal(routing.unpack_bits(packed, count - 3), mask[: count - 3])


def test_another_base_is_refused_and_nothing_is_left(half, tmp_path):
    routing.pack(recipe("emr", {}), half, tmp_path / "artefact")
    wrong = load_file(half["base"] / "model.safetensors")
    wrong["odd"][3, 3] += 1
    folder = save(tmp_path / "wrong", wrong)
    with pytest.raises(ValueError, match="tensor 'odd' differs from the base"):
        routing.unpack(tmp_path / "artefact", folder, "a", tmp_path / "restored")
    with pytest.raises(ValueError, match="tensor 'odd' differs from the base"):
        routing.state_dict(tmp_path / "artefact", folder, "a")
    del wrong["odd"]
    with pytest.raises(ValueError, match="no tensor 'odd'"):
        routing.unpack(tmp_path / "artefact", save(tmp_path / "less", wrong), "a", tmp_path / "restored")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artefact", "less", "wrong"]


def test_the_base_may_be_sharded_otherwise(half, tmp_path):
    routing.pack(recipe("emr", {}), half, tmp_path / "artefact", shard_bytes=5000)
    assert (tmp_path / "artefact" / "vector" / "model.safetensors.index.json").is_file()
    other = save(tmp_path / "shards", load_file(half["base"] / "model.safetensors"), shards=3)
    assert_equal(routing.state_dict(tmp_path / "artefact", other, "a"), direct(half, "emr", {}, "a"))


def test_transformers_loads_a_restored_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    base = weights(0)
    states = {"base": base, **{name: weights(i, base, 0.01) for i, name in enumerate(ALL, 1)}}
    folders = {name: save(tmp_path / name, state) for name, state in states.items()}
    routing.pack(recipe("emr", {}), folders, tmp_path / "artefact")
    routing.unpack(tmp_path / "artefact", folders["base"], "a", tmp_path / "restored")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "restored")
    expected = routing.state_dict(tmp_path / "artefact", folders["base"], "a")
    loaded = model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(loaded[name].to(tensor.dtype), tensor)


def test_a_tied_head_that_the_base_stores_is_left_out(tmp_path):
    base = weights(0)
    states = {"base": base, **{name: weights(i, base, 0.01) for i, name in enumerate(ALL, 1)}}
    for state in states.values():
        state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    folders = {
        name: save(tmp_path / name, state, {**CONFIG, "tie_word_embeddings": True}) for name, state in states.items()
    }
    routing.pack(recipe("emr", {}), folders, tmp_path / "artefact")
    restored = routing.state_dict(tmp_path / "artefact", folders["base"], "a")
    assert_equal(restored, direct(folders, "emr", {}, "a"))
    assert "lm_head.weight" not in restored


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Recipe("r", "ties", ALL, "base"), "only emr and tall_mask"),
        (
            lambda: Recipe("r", "emr", ALL, "base", rules=({"part": "norms", "method": "linear"},)),
            "without rules",
        ),
        (lambda: Recipe("r", "emr", ("a", "x/y"), "base"), "'x/y' cannot name a folder"),
    ],
)
def test_what_cannot_be_packed_is_refused(sources, tmp_path, made, message):
    with pytest.raises(ValueError, match=message):
        routing.pack(made(), {**sources, "x/y": sources["b"]}, tmp_path / "artefact")
    assert not (tmp_path / "artefact").exists()


def test_what_is_no_artefact_is_refused(half, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"routing\.json"):
        routing.read(tmp_path)
    routing.pack(recipe("emr", {}), half, tmp_path / "artefact")
    with pytest.raises(ValueError, match="no language 'fr'; expected one of a, b, c"):
        routing.state_dict(tmp_path / "artefact", half["base"], "fr")
    with pytest.raises(FileExistsError):
        routing.pack(recipe("emr", {}), half, tmp_path / "artefact")
    (tmp_path / "artefact" / "routing.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="not of format 1"):
        routing.read(tmp_path / "artefact")


def test_values_that_do_not_fit_are_refused(tmp_path):
    states = {"base": {"w": torch.zeros(3)}, "a": {"w": torch.full((3,), 1e6)}, "b": {"w": torch.ones(3)}}
    folders = {name: tmp_path / name for name in states}
    for name, state in states.items():
        folders[name].mkdir()
        save_file(state, folders[name] / "model.safetensors")
    routing.pack(Recipe("r", "emr", ("a", "b"), "base"), folders, tmp_path / "artefact")
    with pytest.raises(ValueError, match=r"does not fit into float16"):
        routing.state_dict(tmp_path / "artefact", folders["base"], "a", dtype=torch.float16)


def test_the_command_packs_and_unpacks(half, tmp_path, capsys):
    models = [f"--model={name}={half[name]}" for name in ALL]
    rest = ["--base", str(half["base"])]
    out = ["--out", str(tmp_path / "artefact")]
    routing.main(["pack", "--method", "tall_mask", "--parameters", '{"mask_scale": 0.4}', *models, *rest, *out])
    assert set(json.loads(capsys.readouterr().out)["masks"]) == set(ALL)
    unpack = ["unpack", "--artefact", str(tmp_path / "artefact"), *rest, "--out", str(tmp_path / "restored")]
    routing.main([*unpack, "--language", "b"])
    restored = load_file(tmp_path / "restored" / "model.safetensors")
    assert_equal(restored, direct(half, "tall_mask", {"mask_scale": 0.4}, "b"))
    with pytest.raises(provenance.InputError, match="no language 'xx'"):
        routing.main([*unpack, "--language", "xx"])
    with pytest.raises(provenance.InputError, match="LANGUAGE=FOLDER"):
        routing.main(["pack", "--method", "emr", "--model", "a", *rest, *out])
    with pytest.raises(provenance.InputError, match="expected a JSON object"):
        routing.main(["pack", "--method", "emr", "--parameters", "[]", *models, *rest, *out])
