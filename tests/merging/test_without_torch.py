"""Merges that the C loops do need no torch: a process of its own never imports it, and merges as with torch."""

import json
import subprocess
import sys

import pytest
import torch
from merge_models import save
from safetensors.torch import load_file

from langmerge.merging.fused import loops

COVERED = {
    "linear": "{method: linear}",
    "slerp": "{method: slerp, models: [a, b], parameters: {t: 0.3}}",
    "nuslerp": "{method: nuslerp, models: [a, b], parameters: {flatten: true, weights: [1, 2]}}",
    "multislerp": "{method: multislerp}",
    "karcher": "{method: karcher}",
    "model_stock": "{method: model_stock, base: base}",
    "task_arithmetic": "{method: task_arithmetic, base: base, parameters: {scale: 0.4}}",
    "magnitude_prune": "{method: magnitude_prune, base: base, parameters: {density: 0.3}}",
    "ties": "{method: ties, base: base, parameters: {density: 0.3}}",
    "ties_mergekit": "{method: ties, base: base, parameters: {density: 0.3, convention: mergekit}}",
    "dare_linear": "{method: dare_linear, base: base, parameters: {density: 0.5, seed: 1}}",
    "dare_ties": "{method: dare_ties, base: base, parameters: {density: 0.5, seed: 1}}",
    "dare_l1": "{method: dare_ties, base: base, parameters: {density: 0.5, seed: 1, rescale: l1}}",
    "della": "{method: della, base: base, parameters: {density: 0.5, epsilon: 0.2, seed: 1}}",
    "della_linear": "{method: della_linear, base: base, parameters: {density: 0.5, epsilon: 0.2, seed: 1}}",
    "breadcrumbs": "{method: breadcrumbs, base: base, parameters: {density: 0.8, gamma: 0.05}}",
    "breadcrumbs_ties": "{method: breadcrumbs_ties, base: base, parameters: {density: 0.8, gamma: 0.05}}",
    "sce": "{method: sce, base: base, parameters: {select_topk: 0.4}}",
    "sce_of_all": "{method: sce, base: base, parameters: {select_topk: 1.0}}",
    "by_rules": "{method: linear, base: base, rules: [{part: mlp, method: ties}, {layers: [1], method: sce}]}",
}

EXACT = ("linear", "task_arithmetic", "magnitude_prune", "ties", "dare_linear", "dare_ties", "della", "breadcrumbs")
"""Those of them of which every bit is promised; sums in float64 in another order move the factors of the rest."""

RUN = """
import json, sys
from langmerge.merging import histograms as module, selection
from langmerge.merging.__main__ import main
histograms, add = [], module.Histogram.add_high
module.Histogram.add_high = lambda self, values: histograms.append(add(self, values))
selection.SIGMAS = float(sys.argv[2])
main(json.loads(sys.argv[1]))
print(json.dumps(["torch" in sys.modules, len(histograms)]))
"""

SHAPES = {
    "model.embed_tokens.weight": (80, 300),
    "model.layers.0.mlp.up_proj.weight": (120, 300),
    "model.layers.1.self_attn.q_proj.weight": (90, 100),
    "model.norm.weight": (300,),
}

needs_loops = pytest.mark.skipif(not loops.usable("cpu"), reason="needs a C compiler")


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in SHAPES.items()}
    for name in ("base", "a", "b", "c"):
        spread = 0.002 * (name != "base")
        state = {key: value + spread * torch.randn(value.shape, generator=generator) for key, value in base.items()}
        save(tmp_path / name, {key: value.to(torch.bfloat16) for key, value in state.items()}, tokenizer=None)
    return tmp_path


def run(arguments, monkeypatch, fused, sigmas=3.0):
    """(whether torch was imported, how often a histogram was counted) by a process of its own."""
    monkeypatch.setenv("LANGMERGE_FUSED", fused)
    command = [sys.executable, "-c", RUN, json.dumps([str(argument) for argument in arguments]), str(sigmas)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return tuple(json.loads(ended.stdout.splitlines()[-1]))


def recipe(folder, merges):
    """A file of these merges."""
    lines = (f"  {key}: {text if 'models:' in text else text[:-1] + ', models: [a, b, c]}'}\n" for key, text in merges)
    path = folder / "recipe.yaml"
    path.write_text("models: {base: base, a: a, b: b, c: c}\nmerges:\n" + "".join(lines))
    return path


@needs_loops
def test_covered_methods_import_no_torch_and_merge_as_with_it(folder, monkeypatch):
    arguments = [recipe(folder, COVERED.items()), "--quiet", "--block", "2000", "--dtype", "float32"]
    assert run([*arguments, folder / "out"], monkeypatch, "1")[0] is False
    assert run([*arguments, folder / "reference"], monkeypatch, "0")[0] is True
    for name in COVERED:
        ours, theirs = (load_file(folder / out / name / "model.safetensors") for out in ("out", "reference"))
        exact = name.startswith(EXACT) and name != "dare_l1"
        # The weights of SCE rest on float32 sums of squares.
        tolerance = {"atol": 0, "rtol": 0 if exact else 3e-7} if "sce" not in name else {"atol": 1e-6, "rtol": 1e-5}
        for tensor in SHAPES:
            torch.testing.assert_close(ours[tensor], theirs[tensor], **tolerance)


@needs_loops
def test_ranks_that_a_sample_missed_are_found_without_torch_too(folder, monkeypatch):
    """Histograms then take over; they look at numbers that the loops write."""
    merges = [(name, COVERED[name]) for name in ("ties", "ties_mergekit", "dare_ties", "breadcrumbs")]
    arguments = [recipe(folder, merges), "--quiet", "--block", "2000"]
    imported, histograms = run([*arguments, folder / "narrow"], monkeypatch, "1", sigmas=0.0)
    assert not imported and histograms > 0
    run([*arguments, folder / "wide"], monkeypatch, "1")
    for name, _ in merges:
        narrow, wide = (folder / out / name / "model.safetensors" for out in ("narrow", "wide"))
        assert narrow.read_bytes() == wide.read_bytes()


@needs_loops
def test_the_workflows_command_needs_no_torch_either(folder, monkeypatch):
    spec = {
        "recipe": {"name": "m", "method": "ties", "models": ["a", "b"], "base": "base"},
        "sources": {name: str(folder / name) for name in ("base", "a", "b")},
        "dtype": "float16",
    }
    imported, _ = run(["--spec", json.dumps(spec), "--out", folder / "out"], monkeypatch, "1")
    assert not imported
    assert {value.dtype for value in load_file(folder / "out/model.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize(
    "merge", ["{method: magmax, base: base}", "{method: nuslerp, models: [a, b], parameters: {flatten: false}}"]
)
def test_other_methods_import_torch_when_they_need_it(folder, monkeypatch, merge):
    assert run([recipe(folder, [("m", merge)]), folder / "out", "--quiet"], monkeypatch, "1")[0] is True
    assert set(load_file(folder / "out/m/model.safetensors")) == set(SHAPES)
