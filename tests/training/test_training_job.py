import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from langmerge.models import load_model, training_flops_per_token
from langmerge.provenance import InputError, canonical, read_manifest, sha256_file
from langmerge.training import loop, state
from langmerge.training.batches import assemble
from langmerge.training.job import prepare
from langmerge.training.loop import Run
from langmerge.training.settings import Settings, check


@pytest.fixture(autouse=True)
def states_as_often_as_asked_for(monkeypatch):
    """Tests ask for a state at every step; on a slow disk the loop would space them out."""
    monkeypatch.setattr(loop, "SPACING", 0.0)


def outputs(folder):
    return read_manifest(folder)["outputs"]


@pytest.fixture(scope="module")
def undisturbed(inputs, train, tmp_path_factory):
    """Recipe -> outputs of a run that nothing disturbed."""
    known = {}

    def run(recipe):
        key = canonical(recipe)
        if key not in known:
            known[key] = outputs(train(recipe, inputs, tmp_path_factory.mktemp("undisturbed") / "m"))
        return known[key]

    return run


def test_result_is_a_model_with_snapshots_and_log(recipe, inputs, train, tmp_path):
    folder = train(recipe, inputs, tmp_path / "m")
    parent, model, snapshot = (load_model(f) for f in (inputs["model"], folder, folder / "step5"))
    states = [m.state_dict()["model.layers.0.mlp.up_proj.weight"] for m in (parent, snapshot, model)]
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        for place in (folder, folder / "step5"):
            assert (place / name).read_bytes() == (inputs["model"] / name).read_bytes(), name
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(math.log(model.config.vocab_size), rel=0.05)
    cost = json.loads((folder / "cost.json").read_text())
    assert rows[-1]["tokens"] == cost["tokens"] <= cost["padded_tokens"] and cost["resumed"] is False
    low, high = (cost["tokens"] * training_flops_per_token(model.config, length) for length in (1, 64))
    assert low < cost["flops"] < high
    work = tmp_path / ".m.work"
    assert list((work / "logs").glob("events*"))
    assert [path.name for path in work.iterdir() if path.name != "logs"] in ([], [state.FILE])


def test_snapshot_at_step_0_is_the_parent_and_at_the_end_the_model(recipe, inputs, train, tmp_path):
    folder = train({**recipe, "snapshots": [0, 12]}, inputs, tmp_path / "m")
    weights = "model.safetensors"
    assert sha256_file(folder / "step0" / weights) == sha256_file(inputs["model"] / weights)
    assert sha256_file(folder / "step12" / weights) == sha256_file(folder / weights)


def test_repeats_are_equal_and_seeds_differ(recipe, inputs, train, undisturbed, tmp_path):
    assert outputs(train(recipe, inputs, tmp_path / "a")) == undisturbed(recipe)
    other = undisturbed({**recipe, "seed": 2})
    assert other["model.safetensors"] != undisturbed(recipe)["model.safetensors"]


@pytest.mark.parametrize("change", [{}, {"packing": True}, {"precision": "bf16"}, {"accumulation": 2}])
def test_a_run_that_dies_anywhere_ends_with_the_same_bytes(
    recipe, inputs, train, undisturbed, tmp_path, change, monkeypatch
):
    recipe = {**recipe, **change, "checkpoint_seconds": 1e-9}
    step, deaths = Run._step, sorted(random.Random(str(change)).sample(range(12), 3))

    def dying(self, number):
        if deaths and number >= deaths[0]:
            deaths.pop(0)
            raise ZeroDivisionError
        return step(self, number)

    monkeypatch.setattr(Run, "_step", dying)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            train(recipe, inputs, tmp_path / "m")
        assert not (tmp_path / "m" / "manifest.json").exists()
    folder = train(recipe, inputs, tmp_path / "m")
    assert outputs(folder) == undisturbed(recipe)
    assert json.loads((folder / "cost.json").read_text())["resumed"] is True


def test_a_death_while_writing_the_state_keeps_the_one_before(
    recipe, inputs, train, undisturbed, tmp_path, monkeypatch
):
    recipe = {**recipe, "checkpoint_seconds": 1e-9}
    save, calls = state.save_file, []

    def cut_off(tensors, path, metadata):
        calls.append(path)
        save(tensors, path, metadata)
        if len(calls) == 8:
            path.write_bytes(path.read_bytes()[:1000])
            raise ZeroDivisionError

    monkeypatch.setattr(state, "save_file", cut_off)
    with pytest.raises(ZeroDivisionError):
        train(recipe, inputs, tmp_path / "m")
    resumed_at = []
    restore = state.restore
    monkeypatch.setattr(state, "restore", lambda *a: resumed_at.append(a[-1]) or restore(*a))
    assert outputs(train(recipe, inputs, tmp_path / "m")) == undisturbed(recipe)
    assert resumed_at == [7]


@pytest.mark.parametrize("spoil", ["recipe", "code", "bytes", "snapshot"])
def test_a_state_that_does_not_fit_is_not_used(recipe, inputs, train, undisturbed, tmp_path, monkeypatch, capfd, spoil):
    recipe = {**recipe, "checkpoint_seconds": 1e-9}
    step = Run._step

    def dying(self, number):
        if number == 8:
            raise ZeroDivisionError
        return step(self, number)

    work, before = tmp_path / "work", {**recipe, "seed": 9} if spoil == "recipe" else recipe
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", dying)
        with pytest.raises(ZeroDivisionError):
            train(before, inputs, tmp_path / "m", work, code="other" if spoil == "code" else "")
    if spoil == "bytes":
        (work / state.FILE).write_bytes(b"\0" * 500)
    elif spoil == "snapshot":
        (work / "models" / "step5").rename(work / "models" / "gone")
    folder = train(recipe, inputs, tmp_path / "m", work)
    assert outputs(folder) == undisturbed(recipe)
    assert json.loads((folder / "cost.json").read_text())["resumed"] is False
    assert "training starts anew" in capfd.readouterr().err


def test_killed_processes_end_with_the_same_bytes(recipe, inputs, train, undisturbed, tmp_path):
    recipe = {**recipe, "steps": 200, "snapshots": [50], "checkpoint_seconds": 0.01}
    command = [sys.executable, "-m", "langmerge.training", "--spec", canonical(recipe), "--out", str(tmp_path / "m"),
               "--inputs", canonical({name: str(folder) for name, folder in inputs.items()})]  # fmt: skip
    file = tmp_path / ".m.work" / state.FILE
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = file.stat().st_mtime_ns if file.exists() else 0
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        deadline = time.monotonic() + 60
        while (not file.exists() or file.stat().st_mtime_ns == before) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.random() * 0.2)
        process.send_signal(number)
        _, message = process.communicate()
        assert process.returncode == (-number if number == signal.SIGKILL else 1), message
        assert not (tmp_path / "m" / "manifest.json").exists()
    assert "stopped by signal 15 after step" in message
    folder = train(recipe, inputs, tmp_path / "m")
    assert json.loads((folder / "cost.json").read_text())["resumed"] is True
    assert outputs(folder) == undisturbed(recipe)


def final(folder):
    return torch.cat([weight.flatten() for weight in load_model(folder).state_dict().values()])


@pytest.mark.parametrize("change", [{"accumulation": 3}, {"gradient_checkpointing": True}])
def test_what_is_learnt_does_not_depend_on_how_memory_is_saved(recipe, inputs, train, tmp_path, change):
    # One step from the same weights: the gradients are sums over the same tokens, so the weights agree to rounding.
    # (Plain SGD would be compared more sharply; Adam's first step is the sign of the gradient.)
    settings = [check(Settings, {**recipe, **more, "clip": 1e9}, "train") for more in ({}, change)]
    gradients = []
    for number, chosen in enumerate(settings):
        run, _ = prepare(chosen, inputs, tmp_path / str(number), "")
        run.optimizer.step = lambda: None
        run.optimizer.zero_grad = lambda set_to_none: None
        loss, norm = run._step(3)
        gradients.append((float(loss), float(norm), torch.cat([w.grad.flatten() for w in run.model.parameters()])))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    torch.testing.assert_close(gradients[0][2], gradients[1][2], rtol=1e-3, atol=1e-6)


def test_loss_is_the_mean_over_the_tokens_asked_for(recipe, inputs, tmp_path):
    run, _ = prepare(check(Settings, recipe, "train"), inputs, tmp_path, "")
    indices = run.order.step(0)
    total, count = 0.0, 0
    reference = load_model(inputs["model"])
    for i in indices:
        batch = assemble(run.sequences, indices[indices == i][:1], 0)
        logits = reference(torch.from_numpy(batch.ids)).logits[0].double().log_softmax(-1)
        total -= sum(float(logits[w, y].detach()) for w, y in zip(batch.where, batch.labels, strict=True))
        count += len(batch.labels)
    loss, _ = run._step(0)
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_masters_stay_fp32_under_bf16(recipe, inputs, train, tmp_path):
    from safetensors.torch import load_file

    folder = train(
        {**recipe, "precision": "bf16", "learning_rate": 1e-6, "steps": 3, "snapshots": []}, inputs, tmp_path / "m"
    )
    before, after = (load_file(f / "model.safetensors") for f in (inputs["model"], folder))
    assert all(value.dtype == torch.float32 for value in after.values())
    # Updates of 1e-6 would be lost in bf16 weights (8 bits of mantissa).
    changed = [float((after[name] != value).float().mean()) for name, value in before.items() if "norm" not in name]
    assert min(changed) > 0.2


def test_training_learns_the_translation(recipe, inputs, train, tmp_path):
    recipe = {**recipe, "steps": 60, "batch_tokens": 600, "snapshots": [], "data": recipe["data"][:1]}
    folder = train(recipe, inputs, tmp_path / "m")
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    # Words follow each other without pattern: to get so far, the source must be read.
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_numbers_that_are_not_finite_stop_the_run(recipe, inputs, train, tmp_path, precision):
    with pytest.raises(InputError, match=r"not finite.*lower learning_rate"):
        train({**recipe, "learning_rate": 1e30, "precision": precision, "clip": 1e30}, inputs, tmp_path / "m")
    assert not (tmp_path / "m" / "manifest.json").exists()
    assert not (tmp_path / ".m.work" / state.FILE).exists()


def test_input_errors_name_what_is_wrong(recipe, inputs, train, tmp_path):
    with pytest.raises(InputError, match='"model"'):
        train(recipe, {"pairs/es": inputs["pairs/es"]}, tmp_path / "a")
    with pytest.raises(InputError, match="max_position_embeddings 128"):
        train({**recipe, "context_length": 129}, inputs, tmp_path / "b")
    with pytest.raises(InputError, match="batch_tokens 1 is too small"):
        train({**recipe, "batch_tokens": 1}, inputs, tmp_path / "c")


@pytest.mark.slow
def test_two_processes_learn_what_one_does(recipe, inputs, undisturbed, tmp_path, train):
    one = train(recipe, inputs, tmp_path / "one")
    for out in ("two", "again"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                   "-m", "langmerge.training", "--spec", canonical(recipe), "--out", str(tmp_path / out),
                   "--inputs", canonical({name: str(folder) for name, folder in inputs.items()})]  # fmt: skip
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert outputs(tmp_path / "two") == outputs(tmp_path / "again")
    torch.testing.assert_close(final(tmp_path / "two"), final(one), rtol=1e-2, atol=1e-4)
    cost = [json.loads((folder / "cost.json").read_text()) for folder in (one, tmp_path / "two")]
    assert cost[1]["devices"] == 2 and cost[0]["tokens"] == cost[1]["tokens"]


def test_what_other_processes_use_is_counted(recipe, inputs, tmp_path, monkeypatch):
    run, _ = prepare(check(Settings, recipe, "train"), inputs, tmp_path, "")
    run.cluster = loop.Cluster(torch.device("cpu"), size=3)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(3))  # the others used as much
    run.earlier = loop.Ledger(seconds=7.0, cpu_seconds=100.0)
    run._count()
    own = run.own.cpu_seconds
    assert own > 0 and run.ledger.cpu_seconds == pytest.approx(100 + 3 * own)
    assert run.elsewhere() == {"seconds": 7.0, "cpu_seconds": pytest.approx(100 + 2 * own)}


def test_a_resumed_run_counts_what_was_used_before_it_was_stopped(recipe, inputs, train, tmp_path, monkeypatch):
    recipe = {**recipe, "checkpoint_seconds": 1e-9}
    step = Run._step

    def dying(self, number):
        if number == 6:
            raise ZeroDivisionError
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", dying)
        with pytest.raises(ZeroDivisionError):
            train(recipe, inputs, tmp_path / "m")
    file = tmp_path / ".m.work" / state.FILE
    with safetensors.safe_open(file, framework="pt") as kept:
        meta = json.loads(kept.metadata()["state"])
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    assert meta["cpu_seconds"] > 0 and meta["seconds"] > 0
    meta |= {"seconds": 1000.0, "cpu_seconds": 2000.0, "gpu_joules": 30.0, "cpu_joules": 40.0}
    save_file(tensors, file, metadata={"state": json.dumps(meta)})
    cost = json.loads((train(recipe, inputs, tmp_path / "m") / "cost.json").read_text())
    assert cost["resumed"] and 1000 < cost["training_seconds"] <= cost["seconds"] < 1100
    assert 2000 < cost["cpu_seconds"] < 2100
    assert cost.get("cpu_joules", 41.0) > 40 and "gpu_joules" not in cost  # unknown in one part, unknown in all
