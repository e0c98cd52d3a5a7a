"""One pass against slow readings of each sequence alone, without padding, with plain loops."""

import math

import numpy as np
import pytest
import torch
from observing import SITES, run, task_of
from safetensors.torch import load_file

from langmerge.analysis.precision import average_precision
from langmerge.observation.forward import pilot
from langmerge.observation.meters import bins_of, scale_of
from langmerge.observation.sites import taps
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError
from langmerge.spans import check_spans, positions

PROMPT = Prompt("<{source_code}>{source}<{target_code}>")
PAIRS = [("abc de", "fghij"), ("a", "bcdefghij abc"), ("jihgfedcba abc", "ba"), ("ab ab", "c"), ("bb", "ccdd")]
DIRECTIONS = [0, 0, 0, 1, 1]
BLOCKS = [0, 2, 1, 0, 2]


@pytest.fixture(scope="module")
def encoded(tokenizer):
    return encode_pairs(PROMPT, tokenizer, PAIRS, "en", "es")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model().double()  # so that no rounding moves a value over a threshold


def watched(model, sequence):
    """Values at each site, {site: [layers, T, units]}, hidden states [L + 1, T, d] and logits of a sequence alone."""
    found = {site: [] for site in SITES}
    handles = []
    for block in model.model.layers:
        mlp, attention = block.mlp, block.self_attn
        handles += [
            mlp.gate_proj.register_forward_hook(lambda m, i, o: found["mlp_gate"].append(o[0])),
            mlp.down_proj.register_forward_hook(lambda m, i, o: found["mlp_product"].append(i[0][0])),
            attention.o_proj.register_forward_hook(lambda m, i, o: found["attention"].append(i[0][0])),
            block.register_forward_hook(
                lambda m, i, o: found["residual"].append((o if torch.is_tensor(o) else o[0])[0])
            ),
        ]
    with torch.no_grad():
        output = model(torch.tensor([sequence.ids]), output_hidden_states=True)
    for handle in handles:
        handle.remove()
    found["embedding"].append(output.hidden_states[0][0])
    values = {site: torch.stack(states).numpy() for site, states in found.items()}
    return values, torch.stack(output.hidden_states)[:, 0].numpy(), output.logits[0].numpy()


@pytest.mark.parametrize("align", ["read", "predict"])
def test_everything_equals_a_naive_reading(model, encoded, align, tmp_path):
    task = task_of(encoded, DIRECTIONS, BLOCKS, align)
    assert len(pilot(task)) == 5  # so little text is all pilot
    losses, counts, meters = run(model, task, tmp_path)
    stored = load_file(tmp_path / "representations.safetensors")
    readings = [watched(model, sequence) for sequence in encoded]
    spans = [
        [range(start - (align == "predict"), end - (align == "predict")) for start, end in (s.source, s.target)]
        for s in encoded
    ]
    tau = {}
    for site in SITES[1:]:
        every = np.concatenate(
            [v[site][:, [*source, *target]] for (v, _, _), (source, target) in zip(readings, spans, strict=True)], 1
        )
        ordered = np.sort(np.abs(every), axis=1)
        tau[site] = ordered[:, math.ceil(0.95 * every.shape[1]) - 1]
        assert meters[site].tau.numpy() == pytest.approx(tau[site])

    tokens = np.zeros((2, 2, 3), dtype=int)
    place = {}
    for i, ((_, states, logits), d, g) in enumerate(zip(readings, DIRECTIONS, BLOCKS, strict=True)):
        start, end = encoded[i].target
        nats = -sum(logits[t - 1][encoded[i].ids[t]] - np.log(np.exp(logits[t - 1]).sum()) for t in range(start, end))
        assert losses[i] == pytest.approx(nats, rel=1e-5)
        row = place[d] = place.get(d, -1) + 1
        for s, span in enumerate(("source", "target")):
            tokens[d, s, g] += len(spans[i][s])
            for layer in range(4):
                mean = stored[f"d{d}/{span}/mean/{layer}"][row].numpy()
                assert mean == pytest.approx(states[layer, spans[i][s]].mean(0), rel=1e-5, abs=1e-6)
                assert stored[f"d{d}/{span}/last/{layer}"][row].numpy() == pytest.approx(states[layer, spans[i][s][-1]])
    assert np.array_equal(counts["tokens"], tokens)

    for site in SITES:
        expected = np.zeros(counts[f"{site}/events"].shape, dtype=int)
        total = np.zeros(counts[f"{site}/sum"].shape)
        for i, (values, _, _) in enumerate(readings):
            for s in range(2):
                for t in spans[i][s]:
                    a = values[site][:, t]
                    event = a > 0 if site == "mlp_gate" else np.abs(a) > meters[site].tau.numpy()
                    expected[DIRECTIONS[i], s, BLOCKS[i]] += event
                    total[DIRECTIONS[i], s] += a
        assert np.array_equal(counts[f"{site}/events"], expected)
        assert counts[f"{site}/sum"] == pytest.approx(total, rel=1e-5, abs=1e-5)
        assert expected.sum() > 0 or site == "embedding"  # a frequent token may hold a unit's largest values


def test_thresholds_are_passed_by_one_value_in_twenty_and_stay_frozen(model, make_model, tokenizer, tmp_path):
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghij "), 30)) for _ in range(80)]
    encoded = encode_pairs(PROMPT, tokenizer, list(zip(words[:40], words[40:], strict=True)), "en", "es")
    task = task_of(encoded, [0, 1] * 20, [0, 1, 2, 3] * 10)
    assert len(pilot(task)) < 40
    _, counts, meters = run(model, task, tmp_path)
    frozen = {f"{site}/tau": meter.tau for site, meter in meters.items()}
    for site in ("mlp_product", "attention", "residual"):
        share = counts[f"{site}/events"].sum() / (counts["tokens"].sum() * math.prod(meters[site].tau.shape))
        assert share == pytest.approx(0.05, abs=0.01)
    louder = make_model().double()
    with torch.no_grad():
        louder.model.embed_tokens.weight.mul_(3)
    _, loud, after = run(louder, task, tmp_path, frozen=frozen)
    assert torch.equal(after["embedding"].tau, frozen["embedding/tau"])
    assert loud["embedding/events"].mean() > 0.2 * counts["tokens"].mean() > 4 * counts["embedding/events"].mean()
    _, _, refitted = run(louder, task, tmp_path)
    assert torch.allclose(refitted["embedding"].tau, 3 * frozen["embedding/tau"], rtol=1e-5)


def test_batching_and_padding_change_nothing(model, encoded, tmp_path):
    task = task_of(encoded, DIRECTIONS, BLOCKS)
    frozen = {f"{site}/tau": torch.full((1 if site == "embedding" else 3, 1), 0.5) for site in SITES}
    found = []
    for size in (1, 10_000):
        losses, counts, _ = run(model, task, tmp_path, frozen=frozen, tokens=size)
        found.append((losses, counts, load_file(tmp_path / "representations.safetensors")))
    (losses, counts, states), (others, again, same) = found
    assert losses == pytest.approx(others, rel=1e-6)
    for name, array in counts.items():
        assert np.allclose(array, again[name], rtol=1e-6) and (array.dtype.kind == "f" or (array == again[name]).all())
    for name, tensor in states.items():
        torch.testing.assert_close(tensor, same[name], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same(make_model, encoded, tmp_path):
    found = []
    task = task_of(encoded, DIRECTIONS, BLOCKS)
    for device in ("cpu", "cuda"):
        losses, counts, _ = run(make_model().double().to(device), task, tmp_path, bins=4)
        found.append((losses, counts, load_file(tmp_path / "representations.safetensors")))
    (losses, counts, states), (others, again, same) = found
    assert losses == pytest.approx(others, rel=1e-5)
    for name, array in counts.items():
        if name.endswith(("events", "histogram")):
            assert np.abs(array - again[name]).sum() <= 1e-3 * array.sum()  # a value may lie on a threshold
        else:
            assert np.allclose(array, again[name], rtol=1e-5, atol=1e-5)
    for name, tensor in states.items():
        torch.testing.assert_close(tensor, same[name], rtol=1e-5, atol=1e-6)


def test_batches_after_the_pilot_hold_all_other_sequences_once(make_model, tokenizer, tmp_path, monkeypatch):
    """With a pilot of few tokens most sequences come in batches by length; each is read exactly once."""
    from langmerge.observation import forward

    encoded = encode_pairs(PROMPT, tokenizer, PAIRS * 4, "en", "es")
    task = task_of(encoded, [0] * 10 + [1] * 10, [0, 1] * 10)
    monkeypatch.setattr(forward.pilot, "__defaults__", (30,))
    batches = list(forward.schedule(task, 80))
    assert sorted(row for rows in batches for row in rows) == list(range(20))
    assert {0, 10} <= set(batches[0]) and len(batches[0]) < 6 and len(batches) > 3  # both directions in turn
    assert all(len(rows) == 1 or len(rows) * max(len(encoded[r].ids) for r in rows) <= 80 for rows in batches[1:])
    model = make_model()
    calls = []
    handle = model.model.register_forward_pre_hook(
        lambda m, a, k: calls.append(k["input_ids"].shape[0]), with_kwargs=True
    )
    _, counts, _ = run(model, task, tmp_path, tokens=80)
    handle.remove()
    assert sum(calls) == 20
    assert counts["tokens"].sum() == sum(e - b for s in encoded for b, e in positions(s, "read"))


def test_sums_are_exact_in_half_precision(make_model, tokenizer, tmp_path):
    """A unit that fires 600 times in a sentence: bfloat16 holds whole numbers to 256 only."""
    long = encode_pairs(PROMPT, tokenizer, [("ab" * 300, "cd" * 300)], "en", "es")
    model = make_model()
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.weight.zero_()
        model.model.layers[0].mlp.gate_proj.weight[0, 0] = 1
        model.model.embed_tokens.weight[:, 0] = 5
    _, counts, _ = run(model.bfloat16(), task_of(long, [0], [0]), tmp_path, sites=("mlp_gate",))
    assert counts["mlp_gate/events"][0, :, 0, 0, 0].tolist() == [600, 600]
    assert counts["mlp_gate/events"][0, :, 0, 0, 1:].sum() == 0


def test_bins_by_hand():
    """Of 8, edges at u = -3/4, -1/2, -1/4, 0, ...: 3, 1 and 1/3 deviations below the mean, the mean, and above."""
    scale = torch.tensor([[10.0, 0.0], [2.0, 1.0]])  # means, then deviations, of two units
    z = torch.tensor([-1e9, -3.1, -2.9, -1.1, -0.9, -0.4, -0.3, -0.01, 0.01, 0.3, 0.4, 0.9, 1.1, 2.9, 3.1, 1e9])
    expected = [sum(value >= edge for edge in (-3, -1, -1 / 3, 0, 1 / 3, 1, 3)) for value in z.tolist()]
    found = bins_of(scale[0] + z[:, None] * scale[1], scale, 8)
    assert found[:, 0].tolist() == found[:, 1].tolist() == expected


def test_a_constant_unit_still_has_bins():
    scale = scale_of(torch.tensor([[3.0, 1.0], [3.0, 2.0], [3.0, 6.0]]))
    assert scale[:, 1].tolist() == pytest.approx([3, np.sqrt((4 + 1 + 9) / 3)])
    values = torch.tensor([[3.0, 3.0], [-1e8, 3.0], [1e8, 3.0]])
    assert bins_of(values, scale, 4)[:, 0].tolist() == [2, 0, 3]


def test_bins_rank_sentences_almost_as_their_values_do():
    """Average precision from 64 bins against that of the sorted values, of light and heavy tails, and other models'."""
    generator = np.random.default_rng(0)
    language = np.repeat([0, 1], 300)
    for tails in (
        generator.standard_normal,
        lambda n: generator.standard_t(2, n),
        lambda n: generator.lognormal(0, 1, n),
    ):
        pilot = torch.tensor(tails((60, 20)), dtype=torch.float32)
        values = tails((600, 20)) * 1.3 + 0.5 * language[:, None]
        bins = bins_of(torch.tensor(values, dtype=torch.float32), scale_of(pilot), 64).numpy()
        histogram = np.zeros((2, 20, 64))
        for k, row in zip(language, bins, strict=True):
            histogram[k, np.arange(20), row] += 1
        found = average_precision(histogram)
        for unit in range(20):
            ranked = language[np.argsort(-values[:, unit])]
            for k in (0, 1):
                hits = ranked == k
                exact = (hits.cumsum() / np.arange(1, 601))[hits].mean()
                assert found[k, unit] == pytest.approx(exact, abs=0.06)


def test_histograms_count_each_sentence_once_in_the_bin_of_its_mean(model, encoded, tmp_path):
    task = task_of(encoded, DIRECTIONS, BLOCKS)
    _, counts, meters = run(model, task, tmp_path, bins=4)
    stored = load_file(tmp_path / "representations.safetensors")
    for site, layer, rep in (("embedding", 0, 0), ("residual", 0, 1), ("residual", 1, 2)):
        mean, deviation = meters[site].scale[layer].numpy()
        every = [stored[f"d{d}/{span}/mean/{rep}"].numpy() for d in range(2) for span in ("source", "target")]
        assert mean == pytest.approx(np.concatenate(every).mean(0), abs=1e-6)  # the pilot is all of so little text
        assert deviation == pytest.approx(np.concatenate(every).std(0), rel=1e-4)
        found = counts[f"{site}/histogram"]
        for d in range(2):
            for s, span in enumerate(("source", "target")):
                means = stored[f"d{d}/{span}/mean/{rep}"].numpy()  # [n, units]
                for unit in range(16):
                    z = (means[:, unit].astype(np.float32) - mean[unit]) / deviation[unit]
                    bins = [(value >= -1) + (value >= 0) + (value >= 1) for value in z.tolist()]
                    assert found[d, s, layer, unit].tolist() == np.bincount(bins, minlength=4).tolist()


def test_rows_of_the_embedding_are_the_tokens_read(model, encoded, tmp_path):
    _, counts, _ = run(model, task_of(encoded, DIRECTIONS, BLOCKS), tmp_path)
    vocabulary, rows = counts["embedding/vocabulary"], counts["embedding/rows"]
    assert rows.shape == (2, 2, 3, len(vocabulary))
    for d in range(2):
        for s in range(2):
            for g in range(3):
                ids = [
                    token
                    for sequence, a, b in zip(encoded, DIRECTIONS, BLOCKS, strict=True)
                    if (a, b) == (d, g)
                    for token in sequence.ids[slice(*(sequence.source, sequence.target)[s])]
                ]
                assert rows[d, s, g].tolist() == [ids.count(token) for token in vocabulary]


def test_first_position_is_never_counted():
    sequence = Encoded((5, 6, 7, 8, 9), 3, (0, 2), (3, 4))
    assert positions(sequence, "read") == ((1, 2), (3, 4))
    assert positions(sequence, "predict") == ((1, 1), (2, 3))
    check_spans([sequence], ["s1"], "read")
    with pytest.raises(InputError, match="'s1': its source"):
        check_spans([sequence], ["s1"], "predict")


def hooks(model):
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_hooks_are_gone_afterwards_even_after_an_error(model, encoded, tmp_path):
    task = task_of(encoded, DIRECTIONS, BLOCKS)
    before = hooks(model)
    run(model, task, tmp_path)
    assert hooks(model) == before
    broken = task_of([*encoded[:4], Encoded((9999, 5, 6), 1, (1, 2), (2, 3))], DIRECTIONS, BLOCKS)
    with pytest.raises(IndexError):
        run(model, broken, tmp_path)
    assert hooks(model) == before


@pytest.mark.parametrize("family", ["Qwen2", "Mistral", "Gemma2"])
def test_other_gated_architectures(family, encoded, tmp_path):
    import transformers

    settings = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**settings)).eval()
    losses, counts, _ = run(model, task_of(encoded, DIRECTIONS, BLOCKS), tmp_path)
    fired = counts["mlp_gate/events"].sum((2, 3, 4)) / (counts["tokens"].sum(2) * 2 * 24)
    assert (np.abs(fired - 0.5) < 0.25).all()  # random gates fire half the time
    assert counts["attention/events"].shape[-1] == (32 if "head_dim" in model.config.to_dict() else 16)
    stored = load_file(tmp_path / "representations.safetensors")
    for i, row in ((0, 0), (1, 1)):
        ids = torch.tensor([encoded[i].ids])
        with torch.no_grad():
            output = model(ids, labels=ids, output_hidden_states=True)
        start, end = encoded[i].target
        for layer in range(3):
            expected = output.hidden_states[layer][0, start:end].mean(0)
            torch.testing.assert_close(stored[f"d0/target/mean/{layer}"][row], expected, rtol=1e-4, atol=1e-5)
        scores = output.logits[0].float().log_softmax(-1)  # softcapped where the family does
        nats = -sum(float(scores[t - 1, encoded[i].ids[t]]) for t in range(start, end))
        assert losses[i] == pytest.approx(nats, rel=1e-4)


def test_architectures_that_cannot_be_watched_are_named(encoded, tmp_path, make_model):
    from transformers import CohereConfig, CohereForCausalLM, GPT2Config, GPT2LMHeadModel

    task = task_of(encoded, DIRECTIONS, BLOCKS)
    with pytest.raises(InputError, match="GPT2LMHeadModel"):
        run(GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=4)), task, tmp_path)
    small = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0}
    with pytest.raises(InputError, match="CohereForCausalLM: logit_scale"):
        run(CohereForCausalLM(CohereConfig(**small)), task, tmp_path)
    odd = make_model()
    odd.model.layers[1].self_attn.out = odd.model.layers[1].self_attn.o_proj
    del odd.model.layers[1].self_attn.o_proj
    with pytest.raises(InputError, match=r"block 1 has no self_attn\.o_proj; leave attention out"):
        taps(odd, 3, SITES)
