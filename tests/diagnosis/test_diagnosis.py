"""The command: planted models against independent formulas, and what it refuses."""

import copy
import csv
import json
import math

import numpy as np
import pytest
import torch
from tiny_llamas import byte_tokenizer

from langmerge.analysis.cka import debiased_cka
from langmerge.diagnosis.__main__ import main
from langmerge.models import load_model
from langmerge.provenance import InputError, read_manifest

SPEC = {
    "base": "base",
    "pairs": [["a", "b"]],
    "languages": {"a": "es", "b": "de"},
    "sentences": 12,
    "points": 5,
    "gradients": 8,
    "blocks": 4,
    "directions": 3,
    "seed": 1,
}
WEIGHTS = {"cosine", "norm_ratio", "sign_conflict", "sign_conflict.magnitude", "elect_loss"}
SUBSPACES = {"subspace.ratio", "subspace.excess"}


@pytest.fixture
def diagnose(tmp_path, save_model, pairs):
    """diagnose(models, **changes of the spec) -> ({(a, b, measure): (value, low, high)}, layers, curve)."""

    def run(models, corpora=pairs, **changes):
        folders = {
            name: model if hasattr(model, "is_dir") else save_model(name, model) for name, model in models.items()
        }
        inputs = {f"models/{name}": str(folder) for name, folder in folders.items()}
        inputs |= {f"pairs/{code}": str(folder) for code, folder in corpora.items()}
        out = tmp_path / "out"
        main(["--spec", json.dumps({**SPEC, **changes}), "--inputs", json.dumps(inputs), "--out", str(out)])
        tables = []
        for name in ("pairs", "layers", "curve"):
            with (out / f"{name}.csv").open(encoding="utf-8") as file:
                tables.append(list(csv.DictReader(file)))
        overall = {
            (row["a"], row["b"], row["measure"]): tuple(
                float(row[key]) if row[key] else math.nan for key in ("value", "low", "high")
            )
            for row in tables[0]
        }
        assert len(overall) == len(tables[0])
        return overall, tables[1], tables[2]

    return run


def moved(model, seed, by=0.05):
    """The model a step away in a random direction."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="session")
def trio(make_model):
    base = make_model(0)
    return {"base": base, "a": moved(base, 1), "b": moved(base, 2)}


def of(found, measure, a="a", b="b"):
    return found[a, b, measure][0]


def vectors(trio):
    """Base and task vectors of all parameters, fp64."""
    flat = {name: {n: w.detach().double().numpy() for n, w in m.named_parameters()} for name, m in trio.items()}
    return flat["base"], *({n: flat[name][n] - flat["base"][n] for n in flat["base"]} for name in ("a", "b"))


# ---- limit cases ---------------------------------------------------------------------------------------------------


def test_equal_models_are_at_no_distance(diagnose, trio):
    found, layers, curve = diagnose({**trio, "b": trio["a"]})
    ones = ["cosine", "norm_ratio", "cka.a", "cka.b", "activation.a", "activation.b"]
    zeros = ["distance", "distance.relative", "sign_conflict", "sign_conflict.magnitude", "elect_loss"]
    zeros += [f"{measure}.{side}" for measure in ("barrier", "midpoint") for side in ("a", "b", "mean")]
    assert [of(found, measure) for measure in ones] == pytest.approx([1.0] * len(ones), abs=1e-6)
    assert [of(found, measure) for measure in zeros] == pytest.approx([0.0] * len(zeros), abs=1e-9)
    assert of(found, "cka.own") < 0.9  # they read other sentences, made up independently
    for language in ("es", "de"):
        losses = {row["bits_per_byte"] for row in curve if row["language"] == language}
        assert len(losses) == 1
    assert {row["layer"] for row in layers if row["measure"] == "cka.own"} == {"0", "1", "2", "3"}


def test_one_language_makes_own_readings_equal(diagnose, trio):
    found, _, curve = diagnose({**trio, "b": trio["a"]}, languages={"a": "es", "b": "es"})
    assert of(found, "cka.own") == pytest.approx(1.0) == of(found, "activation.own")
    assert found["a", "b", "gradient.cosine"] == (1.0, 1.0, 1.0)
    assert {row["language"] for row in curve} == {"es"}
    assert of(found, "barrier.mean") == of(found, "barrier.a")


def test_task_vectors_on_different_entries_are_orthogonal(diagnose, trio):
    models = {"base": trio["base"], "a": copy.deepcopy(trio["base"]), "b": copy.deepcopy(trio["base"])}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, start in (("a", 0), ("b", 1)):
            for weight in models[name].parameters():
                step = 0.1 * torch.randn(weight.numel(), generator=generator)
                step[1 - start :: 2] = 0
                weight.add_(step.view(weight.shape))
    found, _, _ = diagnose(models)
    assert of(found, "cosine") == pytest.approx(0.0, abs=1e-12)
    assert of(found, "elect_loss") == pytest.approx(0.0, abs=1e-12)  # nothing stands against anything
    assert math.isnan(of(found, "sign_conflict"))  # no entry changed in both
    assert of(found, "distance") > 0


def test_opposite_task_vectors_conflict_everywhere(diagnose, trio):
    base, a, opposite = trio["base"], trio["a"], copy.deepcopy(trio["base"])
    with torch.no_grad():
        for weight, other in zip(opposite.parameters(), a.parameters(), strict=True):
            weight.copy_(2 * weight - other)
    found, layers, _ = diagnose({"base": base, "a": a, "b": opposite})
    assert of(found, "cosine") == pytest.approx(-1.0, abs=1e-5)
    assert of(found, "norm_ratio") == pytest.approx(1.0, abs=1e-5)
    assert of(found, "sign_conflict") == pytest.approx(1.0, abs=1e-3)
    assert of(found, "elect_loss") == pytest.approx(0.5, abs=1e-3)
    assert of(found, "subspace.ratio") > 0.9  # the same directions, at least 95 % of their norm
    by_layer = [float(row["value"]) for row in layers if row["measure"] == "cosine"]
    assert by_layer == pytest.approx([-1.0] * 4, abs=1e-5)


def test_a_permuted_model_is_far_away_but_represents_the_same(diagnose, trio):
    permuted = copy.deepcopy(trio["a"])
    with torch.no_grad():
        for layer in permuted.model.layers:
            order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
            for rows in (layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight):
                rows.copy_(rows[order].clone())
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight[:, order].clone())
    found, _, curve = diagnose({"a": trio["a"], "b": permuted}, base=None)
    assert of(found, "distance.relative") > 0.3
    for side in ("a", "b"):
        assert of(found, f"cka.{side}") == pytest.approx(1.0, abs=1e-5)
        assert of(found, f"activation.{side}") == pytest.approx(1.0, abs=1e-4)
    ends = {row["alpha"]: float(row["bits_per_byte"]) for row in curve if row["language"] == "es"}
    assert ends["0"] == pytest.approx(ends["1"], abs=1e-4) != pytest.approx(ends["0.5"], abs=1e-2)
    assert not {measure for _, _, measure in found} & (WEIGHTS | SUBSPACES | {"gradient.cosine"})


# ---- independent formulas ------------------------------------------------------------------------------------------


def test_weight_measures_are_their_formulas(diagnose, trio):
    found, layers, _ = diagnose(trio)
    base, a, b = vectors(trio)
    x, y = (np.concatenate([value.ravel() for value in each.values()]) for each in (a, b))
    origin = np.concatenate([value.ravel() for value in base.values()])
    lengths = [np.linalg.norm(v) for v in (x, y)]
    assert of(found, "distance") == pytest.approx(np.linalg.norm(x - y), rel=1e-5)
    scale = math.sqrt(((origin + x) @ (origin + x) + (origin + y) @ (origin + y)) / 2)
    assert of(found, "distance.relative") == pytest.approx(np.linalg.norm(x - y) / scale, rel=1e-5)
    assert of(found, "cosine") == pytest.approx(x @ y / math.prod(lengths), abs=1e-6)
    assert of(found, "norm_ratio") == pytest.approx(min(lengths) / max(lengths), rel=1e-5)
    assert of(found, "sign_conflict") == pytest.approx(np.mean(x * y < 0), abs=1e-3)
    against = np.abs(x * y)[x * y < 0].sum() / np.abs(x * y).sum()
    assert of(found, "sign_conflict.magnitude") == pytest.approx(against, abs=1e-5)
    thrown, everything = 0.0, 0.0
    for name in a:  # TIES: keep the largest fifth of each tensor, elect the heavier sign, drop the other
        trimmed = []
        for tau in (a[name].ravel(), b[name].ravel()):
            kept = np.sort(np.abs(tau))[-max(1, int(0.2 * tau.size))]
            trimmed.append(np.where(np.abs(tau) >= kept * (1 - 1e-9), tau, 0))
        positive = np.maximum(trimmed, 0).sum(0)
        negative = -np.minimum(trimmed, 0).sum(0)
        thrown += np.minimum(positive, negative).sum()
        everything += (positive + negative).sum()
    assert of(found, "elect_loss") == pytest.approx(thrown / everything, abs=1e-3)
    one = [name for name in a if ".layers.1." in name]
    x, y = (np.concatenate([each[name].ravel() for name in one]) for each in (a, b))
    second = next(row for row in layers if row["measure"] == "cosine" and row["layer"] == "2")
    assert float(second["value"]) == pytest.approx(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), abs=1e-6)


def test_subspace_ratio_is_the_share_held_by_the_others_directions(diagnose, trio):
    found, _, _ = diagnose(trio)
    _, a, b = vectors(trio)
    ratios = []
    for name in a:
        if a[name].ndim < 2:
            continue
        for one, other in ((a[name], b[name]), (b[name], a[name])):
            u, s, vt = np.linalg.svd(other, full_matrices=False)
            k = int(np.argmax(np.sqrt(np.cumsum(s**2) / (s**2).sum()) > 0.95)) + 1
            for held in (u[:, :k].T @ one, one @ vt[:k].T):
                ratios.append(np.linalg.norm(held) / np.linalg.norm(one))
    assert of(found, "subspace.ratio") == pytest.approx(np.mean(ratios), abs=1e-4)
    assert of(found, "subspace.excess") == pytest.approx(0.0, abs=0.1)  # the task vectors are independent


def read(pairs, code, count=12, column=None):
    lines = (pairs[code] / "dev.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)[column or code] for line in lines]


def sequence(tokenizer, text):
    return torch.tensor([[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]])


def bits_per_byte(model, tokenizer, texts):
    """The textbook formula, one sentence at a time: -sum log2 p(token | those before) over all bytes."""
    bits, size = 0.0, 0
    for text in texts:
        ids = sequence(tokenizer, text)
        log = model(ids).logits[0].double().log_softmax(-1)
        bits = bits - sum(log[t - 1, ids[0, t]] for t in range(1, ids.shape[1])) / math.log(2)
        size += len(text.encode())
    return bits / size


def test_the_curve_is_the_loss_of_mixtures_and_the_barrier_its_rise(diagnose, trio, pairs, tokenizer):
    found, _, curve = diagnose(trio)
    rises = {}
    for side, code in (("a", "es"), ("b", "de")):
        expected = []
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
            mixture = copy.deepcopy(trio["a"])
            with torch.no_grad():
                for weight, other in zip(mixture.parameters(), trio["b"].parameters(), strict=True):
                    weight.copy_((1 - alpha) * weight + alpha * other)
                expected.append(float(bits_per_byte(mixture, tokenizer, read(pairs, code)).detach()))
        values = [float(row["bits_per_byte"]) for row in curve if row["language"] == code]
        assert values == pytest.approx(expected, rel=1e-4)
        rises[side] = np.array(expected) - np.linspace(expected[0], expected[-1], 5)
    rises["mean"] = (rises["a"] + rises["b"]) / 2
    for side, rise in rises.items():
        assert of(found, f"barrier.{side}") == pytest.approx(rise.max(), abs=1e-3)
        assert of(found, f"midpoint.{side}") == pytest.approx(rise[2], abs=1e-3)
        value, low, high = found["a", "b", f"midpoint.{side}"]
        assert low <= value <= high


def test_gradient_cosine_is_that_of_the_losses_at_the_base(diagnose, trio, pairs, tokenizer):
    found, layers, _ = diagnose(trio)
    gradients = {}
    for code in ("es", "de"):
        model = copy.deepcopy(trio["base"]).requires_grad_(True)
        bits_per_byte(model, tokenizer, read(pairs, code, 8)).backward()
        gradients[code] = {name: weight.grad.double().flatten() for name, weight in model.named_parameters()}
    whole = [torch.cat(list(gradients[code].values())) for code in ("es", "de")]
    value, low, high = found["a", "b", "gradient.cosine"]
    assert value == pytest.approx(float(torch.cosine_similarity(*whole, dim=0)), abs=1e-4)
    assert low < value < high
    part = [gradients[code]["model.embed_tokens.weight"] for code in ("es", "de")]
    first = next(row for row in layers if row["measure"] == "gradient.cosine" and row["layer"] == "0")
    assert float(first["value"]) == pytest.approx(float(torch.cosine_similarity(*part, dim=0)), abs=1e-4)


def test_cka_and_overlap_are_those_of_each_models_mean_states(diagnose, trio, pairs, tokenizer):
    found, layers, _ = diagnose(trio)

    def states(name, code):
        """[L + 1, n, d], one sentence at a time; the beginning-of-sequence token is not the sentence's."""
        each = []
        for text in read(pairs, code):
            hidden = trio[name](sequence(tokenizer, text), output_hidden_states=True).hidden_states
            each.append(torch.stack([state[0, 1:].mean(0) for state in hidden]))
        return torch.stack(each, 1).detach()

    readings = {"own": (states("a", "es"), states("b", "de")), "a": (states("a", "es"), states("b", "es"))}
    for side, (x, y) in readings.items():
        expected = [debiased_cka(*layer) for layer in zip(x, y, strict=True)]
        values = [float(row["value"]) for row in layers if row["measure"] == f"cka.{side}"]
        assert values == pytest.approx(expected, abs=1e-4)
        assert of(found, f"cka.{side}") == pytest.approx(np.mean(expected), abs=1e-4)
        overlaps = []
        for one, other in zip(x.double(), y.double(), strict=True):
            first, second = (np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:3] for z in (one, other))
            overlaps.append(np.linalg.norm(first @ second.T) ** 2 / 3)
        assert of(found, f"activation.{side}") == pytest.approx(np.mean(overlaps), abs=1e-4)
    x, y = readings["own"]
    kept = [torch.arange(12) % 4 != block for block in range(4)]  # the jackknife, from its definition
    without = np.array([np.mean([debiased_cka(p[k], q[k]) for p, q in zip(x, y, strict=True)]) for k in kept])
    error = math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    value, low, high = found["a", "b", "cka.own"]
    assert (high - low) / 2 == pytest.approx(3.182446305 * error, rel=1e-3)  # Student's t, 3 degrees of freedom
    assert (high + low) / 2 == pytest.approx(value, rel=1e-6)


# ---- the command ---------------------------------------------------------------------------------------------------


def test_three_models_have_each_asked_for_pair_once(diagnose, trio, tmp_path):
    spec = {"pairs": [["a", "b"], ["c", "a"]], "languages": {"a": "es", "b": "de", "c": "de"}}
    models = {**trio, "c": moved(trio["base"], 3)}
    found, layers, curve = diagnose(models, **spec)
    measures = [{m for a, b, m in found if (a, b) == pair} for pair in (("a", "b"), ("c", "a"))]
    assert measures[0] == measures[1] and len(found) == 2 * len(measures[0])
    assert measures[0] >= WEIGHTS | SUBSPACES
    assert {(row["a"], row["b"]) for row in layers} == {("a", "b"), ("c", "a")} == {(r["a"], r["b"]) for r in curve}
    again, _, _ = diagnose(trio)  # a pair is the same in other company
    for key, values in again.items():
        assert values == pytest.approx(found[key], rel=1e-5, abs=1e-7, nan_ok=True), key
    swapped, _, _ = diagnose(models, **{**spec, "pairs": [["a", "c"]]})
    for measure in sorted(WEIGHTS | SUBSPACES | {"distance", "cka.own", "barrier.mean", "gradient.cosine"}):
        assert of(swapped, measure, "a", "c") == pytest.approx(of(found, measure, "c", "a"), rel=1e-4, abs=1e-6)
    assert of(swapped, "cka.a", "a", "c") == pytest.approx(of(found, "cka.b", "c", "a"), rel=1e-6)
    assert set(read_manifest(tmp_path / "out")["outputs"]) == {"pairs.csv", "layers.csv", "curve.csv"}
    cost = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert cost["tokens"] > 0 and cost["flops"] > 0


def test_the_base_may_be_one_of_a_pair(diagnose, trio):
    found, _, _ = diagnose(trio, pairs=[["base", "b"]], languages={"base": "es", "b": "de"})
    assert math.isnan(of(found, "cosine", "base")) and of(found, "norm_ratio", "base") == 0.0
    _, _, tau = vectors(trio)
    length = math.sqrt(sum((value**2).sum() for value in tau.values()))
    assert of(found, "distance", "base") == pytest.approx(length, rel=1e-5)


def test_the_pivots_text_is_in_every_folder(diagnose, trio, pairs, tokenizer):
    spec = {"languages": {"a": "en", "b": "de"}, "pivot": "en", "corpora": {"de": pairs["de"]}}
    _, _, curve = diagnose(trio, **spec)
    first = next(row for row in curve if row["language"] == "en")
    expected = float(bits_per_byte(trio["a"], tokenizer, read(pairs, "de", column="en")).detach())
    assert float(first["bits_per_byte"]) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InputError, match="pairs/en"):
        diagnose(trio, **{**spec, "pivot": None})


def test_loading_leaves_the_models_as_they_were(diagnose, trio, save_model):
    folder = save_model("kept", trio["a"])
    before = (folder / "model.safetensors").read_bytes()
    diagnose({**trio, "a": folder})
    assert (folder / "model.safetensors").read_bytes() == before
    torch.testing.assert_close(load_model(folder).state_dict(), trio["a"].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": []}, ["pairs"]),
        ({"pairs": [["a", "a"]]}, ["pairs", "itself"]),
        ({"pairs": [["a", "b"], ["a", "b"]]}, ["pairs", "twice"]),
        ({"languages": {"a": "es"}}, ["languages", "b"]),
        ({"languages": {"a": "es", "b": "tr"}}, ["pairs/tr"]),
        ({"pairs": [["a", "c"]], "languages": {"a": "es", "c": "de"}}, ["models/c"]),
        ({"points": 2}, ["points", "3"]),
        ({"sentence": 2}, ["sentence"]),
        ({"split": "test"}, ["test.jsonl", "not found"]),
    ],
)
def test_wrong_specs_are_named(diagnose, trio, change, words):
    with pytest.raises(InputError) as error:
        diagnose(trio, **change)
    assert all(word in str(error.value) for word in words)


def test_sentences_that_are_not_parallel_are_refused(diagnose, trio, pairs):
    file = pairs["de"] / "dev.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps({**row, "id": f"other{row['id']}"}) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"es, de: 0 ids in common.*parallel"):
        diagnose(trio)


def test_models_that_do_not_fit_are_refused(diagnose, trio, make_model, save_model):
    with pytest.raises(InputError, match="shape"):
        diagnose({**trio, "b": make_model(0, hidden_size=32)})
    other = save_model("other", trio["b"], byte_tokenizer("!"))
    backend = json.loads((other / "tokenizer.json").read_text())
    backend["model"]["vocab"] = {token: 259 - i if i > 2 else i for token, i in backend["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps(backend))
    with pytest.raises(InputError, match="tokenizer"):
        diagnose({**trio, "b": other})
