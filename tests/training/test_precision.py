import json

import pytest
import torch

from langmerge.models import device
from langmerge.training import state
from langmerge.training.loop import Run
from langmerge.training.precision import has_bf16, resolve

CPU = torch.device("cpu")
# What Linux says of processors, shortened: Zen 3, Zen 5, Sapphire Rapids, Graviton 2 and 3.
ZEN_3 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx avx2 fma f16c\n"
ZEN_5 = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n"
SAPPHIRE_RAPIDS = "processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n"
GRAVITON_2 = "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp\nCPU part\t: 0xd0c\n"
GRAVITON_3 = "processor\t: 0\nFeatures\t: fp asimd svebf16 i8mm bf16\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ZEN_3, "fp32"),
        (ZEN_5, "bf16"),
        (SAPPHIRE_RAPIDS, "bf16"),
        (GRAVITON_2, "fp32"),
        (GRAVITON_3, "bf16"),
        ("", "fp32"),
    ],
)
def test_bf16_is_taken_where_the_processor_has_instructions_for_it(tmp_path, text, expected):
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(text)
    assert resolve("auto", CPU, cpu) == expected
    assert [resolve(choice, CPU, cpu) for choice in ("fp32", "bf16")] == ["fp32", "bf16"]  # what is asked for is done


def test_a_system_that_tells_nothing_gets_fp32(tmp_path):
    assert not has_bf16(CPU, tmp_path / "missing")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_compute_in_bf16_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(torch.device("cuda")) is expected


def test_torch_agrees_about_this_processor():
    """torch knows of instructions that its matrix products use; where it knows of none, none are claimed."""
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch does not tell what the processor can do")
    found = torch.cpu.get_capabilities()
    if found["architecture"] != "x86_64":
        pytest.skip("compared on x86 only")
    assert has_bf16(CPU) == (found["avx512_bf16"] or found["amx_bf16"])


def test_auto_trains_as_what_it_means_and_the_cost_says_what(recipe, inputs, train, tmp_path):
    chosen = resolve("auto", device())
    folders = {name: train({**recipe, "precision": name}, inputs, tmp_path / name) for name in ("auto", "fp32", "bf16")}
    weights = {name: (folder / "model.safetensors").read_bytes() for name, folder in folders.items()}
    assert weights["auto"] == weights[chosen]
    assert weights["fp32"] != weights["bf16"]
    used = {name: json.loads((folder / "cost.json").read_text())["precision"] for name, folder in folders.items()}
    assert used == {"auto": chosen, "fp32": "fp32", "bf16": "bf16"}


def test_a_run_goes_on_in_the_arithmetic_in_which_it_began(recipe, inputs, train, tmp_path, monkeypatch):
    """Killed on one machine, and gone on with on another: trained anew, not half in one and half in the other."""
    recipe = {**recipe, "precision": "auto", "checkpoint_seconds": 1e-9}
    step = Run._step

    def dying(self, number):
        if number == 6:
            raise ZeroDivisionError
        return step(self, number)

    monkeypatch.setattr(Run, "_step", dying)
    monkeypatch.setattr("langmerge.training.loop.resolve", lambda choice, device: "bf16")
    with pytest.raises(ZeroDivisionError):
        train(recipe, inputs, tmp_path / "m")
    assert (tmp_path / ".m.work" / state.FILE).exists()
    monkeypatch.setattr(Run, "_step", step)
    monkeypatch.setattr("langmerge.training.loop.resolve", lambda choice, device: "fp32")
    folder = train(recipe, inputs, tmp_path / "m")
    assert json.loads((folder / "cost.json").read_text())["resumed"] is False
    other = train({**recipe, "precision": "fp32"}, inputs, tmp_path / "other")
    assert (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
