"""The plan that is printed before anything runs: nothing is missing, and its numbers add up."""

import subprocess
import sys
from pathlib import Path

import pytest

from langmerge.plan.__main__ import main
from langmerge.plan.describe import describe, predict
from langmerge.plan.graph import parameters_of

ROOT = Path(__file__).parents[2]


def test_every_model_and_every_rule_is_printed(build):
    plan = build({"seeds": [1, 2]})
    lines = list(describe(plan))
    for model in plan.models.values():
        rows = [line for line in lines if line.split()[:2] == [model.name, str(model.seed)]]
        assert len(rows) == 1
        assert rows[0].endswith(", ".join(model.parents))
        assert model.recipe[:44] in rows[0]
    for rule in {job.rule for job in plan.jobs.values()}:
        (row,) = [line for line in lines if line.startswith(f"{rule} ")]
        assert int(row.split()[1]) == sum(job.rule == rule for job in plan.jobs.values())


def test_the_total_is_the_sum_of_the_rules(build):
    plan = build()
    jobs = list(plan.jobs.values())
    by_rule = [predict(plan, [job for job in jobs if job.rule == rule]) for rule in {job.rule for job in jobs}]
    total = predict(plan, jobs)
    for key, value in total.items():
        assert sum(row[key] for row in by_rule) == pytest.approx(value, rel=1e-12), key
    (printed,) = [line for line in describe(plan) if line.startswith("total ")]
    assert int(printed.split()[1]) == len(jobs) == total["jobs"]
    counted = [int(line.split()[1]) for line in describe(plan) if line.split()[:1] and line.split()[0] in
               {job.rule for job in jobs}]  # fmt: skip
    assert sum(counted) == len(jobs)


def test_predictions_by_hand(build):
    """Smoke: base 6 steps, 8 specialists and 2 joint models 4 steps of 512 tokens; 600 x 32 embeddings, 2 layers."""
    plan = build()
    total = predict(plan, list(plan.jobs.values()))
    tokens = (6 + 8 * 4 + 2 * 4) * 512
    weights = 600 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert total["tokens"] == tokens
    assert total["flops"] == 6 * weights * tokens
    assert total["seconds"] == pytest.approx(6 * len(plan.jobs) + total["flops"] / 1e11)
    # fp32 weights: origin, base, joint models, specialists with a snapshot each, 5 tuned merges in each group
    assert total["disk"] == 4 * weights * (1 + 1 + 2 + 8 * 2 + 2 * 5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_key_value_heads": 2}, {"head_dim": 8}, {"tie_word_embeddings": False}, {"num_hidden_layers": 5}],
)
def test_the_predicted_size_is_that_of_the_model(changes):
    """Apart from the norms, which are too small to matter."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    architecture = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
                    "intermediate_size": 24, "tie_word_embeddings": True} | changes  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **architecture))
    assert parameters_of(architecture, 50) == sum(p.numel() for p in model.parameters() if p.dim() == 2)


def test_the_command_prints_the_plan_and_lists_jobs(monkeypatch, capsys, build):
    monkeypatch.chdir(ROOT)
    main(["--studies", "translation", "--scale", "smoke", "--jobs"])
    printed = capsys.readouterr().out
    plan = build()
    for line in describe(plan):
        assert line in printed
    for job in plan.jobs.values():
        assert f"{job.rule:18} {job.folder}\n" in printed


def test_planning_is_quick_and_light():
    """It runs at each start of Snakemake: no torch, no pandas."""
    code = (
        "import sys\nfrom langmerge.plan.__main__ import main\nmain(['--scale', 'smoke'])\n"
        "assert not {'torch', 'pandas', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_mistake_is_one_line(tmp_path):
    command = [sys.executable, "-m", "langmerge.plan", "--studies", "translatoin"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "did you mean translation" in done.stderr
    assert len(done.stderr.splitlines()) == 1
