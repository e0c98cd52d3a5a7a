"""Predicted memory: of Qwen2.5-3B below two gigabytes, and what arrays really take."""

import json

import pytest
from tiny_llamas import random_llama

from langmerge import config, host_memory, plan
from langmerge.host_memory import Sizes, sizes_in, sizes_of
from langmerge.landscape import gradients
from langmerge.plan.describe import describe, memory
from langmerge.spans import SPANS

QWEN = {  # the config.json of Qwen/Qwen2.5-3B-Instruct, as far as sizes go
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
SITES = ("mlp_gate", "mlp_product", "attention", "residual", "embedding")


@pytest.mark.parametrize("languages", [4, 5])
def test_an_observation_of_three_billion_parameters_holds_less_than_two_gigabytes(languages):
    found = host_memory.observation(sizes_of(QWEN).sites(), languages, 20, bins=0, vocabulary=151_936)
    assert found["events"] == 4 * languages * 2 * 20 * (2 * 36 * 11008 + 2 * 36 * 2048 + 2048)
    assert found["total"] < 2e9


def test_events_of_the_gate_alone_are_those_reckoned_in_the_design():
    found = host_memory.observation({"mlp_gate": (36, 11008)}, 4, 20)
    assert found["events"] == pytest.approx(254e6, rel=0.01)
    assert len(SPANS) == host_memory.SPANS


def test_a_landscape_of_three_billion_parameters_holds_less_than_two_gigabytes_on_the_host():
    """Five languages; layer by layer from the shapes of Qwen2.5-3B."""
    sizes = sizes_of(QWEN)
    layer = 2048 * (2048 + 2 * 256) + 2048 * 2048 + 3 * 2048 * 11008
    assert sizes.parameters == 151936 * 2048 + 36 * layer == pytest.approx(3.09e9, rel=0.01)
    assert sizes.largest == 151936 * 2048
    found = host_memory.landscape(sizes.parameters, sizes.largest, models=6, languages=5, blocks=16)
    assert found.host < 2e9 and found.device < 40e9
    assert found.passes == -(-4 * 80 * sizes.parameters // 2**33)
    assert found.disk == 2 * 5 * 4 * sizes.parameters


def test_the_models_of_the_cpu_scale_take_one_pass():
    assert host_memory.landscape(1_000_000, 262_144, models=5, languages=4, blocks=16, device="cpu").passes == 1


def test_held_gradients_are_as_many_as_predicted(monkeypatch):
    model = random_llama()
    numbers = [weight.numel() for weight in model.parameters()]
    for budget in (2**29, 4 * 6 * 1000):  # all at once, and in pieces
        monkeypatch.setitem(host_memory.BLOCK_GRADIENTS, "cpu", budget)
        rounds = gradients.rounds(model, 6)
        found = host_memory.landscape(sum(numbers), max(numbers), 3, 2, 3, "cpu")
        assert found.passes == len(rounds)
        assert found.gradients == max(4 * 6 * sum(stop - start for _, start, stop in pieces) for pieces in rounds)


def test_sizes_are_those_of_the_model():
    model = random_llama()
    found = sizes_of(model.config.to_dict())
    matrices = [weight.numel() for weight in model.parameters() if weight.dim() == 2]
    assert found.parameters == sum(matrices) and found.largest == max(matrices)
    for site, (layers, units) in found.sites(("mlp_gate", "attention")).items():
        name = {"mlp_gate": "gate_proj.weight", "attention": "o_proj.weight"}[site]
        weights = [weight for key, weight in model.named_parameters() if key.endswith(name)]
        assert len(weights) == layers
        assert {weight.shape[0 if site == "mlp_gate" else 1] for weight in weights} == {units}


def test_a_model_of_text_and_images_has_the_sizes_of_its_text_part():
    assert sizes_of({"text_config": QWEN, "vision_config": {}}) == sizes_of(QWEN)
    assert sizes_of({"model_type": "t5"}) is None


def test_sizes_come_from_the_first_folder_that_has_a_configuration(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text(json.dumps(QWEN))
    assert sizes_in(tmp_path / "nothing", tmp_path / "there") == sizes_of(QWEN)
    assert sizes_in(tmp_path / "nothing") is None


@pytest.fixture
def paper(tmp_path, monkeypatch, request):
    """The replication of the paper at its own scale, with a local folder that has the configuration of its model."""
    monkeypatch.chdir(request.config.rootpath)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(QWEN))

    def build(**analysis):
        workflow = config.Workflow(studies=["mount_doom"], scale="paper", data_root=str(tmp_path))
        study = config.load(workflow, "mount_doom")
        values = study.model_dump(mode="json", by_alias=True)
        values["base"]["import"]["source"] = str(tmp_path / "model")
        values["analysis"] |= analysis
        return plan.build(config.Study.model_validate(values), "mount_doom")

    return build


def test_the_paper_scale_stays_below_two_gigabytes_in_every_job(paper):
    found = paper()
    # 942,080 units at five sites in four languages, 20 blocks, 151,936 tokens; one embedding matrix of fp32
    for rule, bytes_, printed in (
        ("observe_model", 764_231_680, "764.2 MB"),
        ("survey_landscape", 4 * 151936 * 2048, "1.2 GB"),
    ):
        jobs = [job for job in found.jobs.values() if job.rule == rule]
        assert {job.memory for job in jobs} == {bytes_}
        (row,) = [line for line in describe(found) if line.startswith(f"{rule} ")]
        assert printed in row
    assert 0 < memory(found.jobs.values()) < 2e9
    assert not [line for line in describe(found) if line.startswith("warning")]


def test_more_than_two_gigabytes_are_warned_of(paper):
    lines = [line for line in describe(paper(blocks=200)) if line.startswith("warning")]
    assert len(lines) == 1 and "observe_model holds" in lines[0] and "lower analysis.blocks" in lines[0]


def test_sites_that_are_asked_for_are_all_that_counts():
    sizes = Sizes(2, 16, 24, 8, 50, 0)
    assert sizes.sites(["attention"]) == {"attention": (2, 8)}
    assert set(sizes.sites()) == set(SITES)
