"""mergekit and peft live in a Python of their own, which the environment variable LANGMERGE_PEERS names."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_llamas import save, shapes, states

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.randomness import random_bits, stream_key

HERE = Path(__file__).parent
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def other_python():
    named = os.environ.get("LANGMERGE_PEERS")
    if not named:
        pytest.skip("LANGMERGE_PEERS does not name a Python that has mergekit and peft; `make conformance` makes one")
    return named


def run_other(script, task, folder):
    """The JSON that `script` prints for `task` when the other Python runs it."""
    file = folder / f"{script}.json"
    file.write_text(json.dumps(task))
    done = subprocess.run(
        [other_python(), str(HERE / f"{script}.py"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def pytest_terminal_summary(terminalreporter):
    """For each method and type, over all cases: the largest difference, and the share of entries that differ at all."""
    found = {}
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for method, dtype, units, unequal in (value for key, value in report.user_properties if key == "conformance"):
            found.setdefault((method, dtype), []).append((units, unequal))
    for (method, dtype), values in sorted(found.items()):
        units, unequal = max(value for value, _ in values), sum(share for _, share in values) / len(values)
        terminalreporter.write_line(
            f"{method:18} {dtype:9} {len(values):3} cases, at most {units:5.2f} float32 units, {unequal:7.3%} unequal"
        )


@dataclass
class Family:
    """Models of one element type: tensors and folders by model name, and the folders of their random bits."""

    dtype: torch.dtype
    states: dict
    folders: dict
    masks: Path

    def recipe(self, case, **parameters):
        """Our recipe of a case."""
        seed = {} if case.seed is None else {"seed": case.seed}
        return Recipe("merged", case.method, case.models, case.base, {**case.ours, **seed, **parameters})

    def ours(self, case, **parameters):
        """Our merge; random masks come from the same bits."""
        recipe = self.recipe(case, **parameters)
        (merged,) = state_dicts([recipe], self.folders, dtype=self.dtype, block=1000)
        return merged.state_dict

    def deltas(self, tensor):
        """The task vectors of a tensor by model, float32."""
        base = self.states["base"][tensor].float()
        return {model: state[tensor].float() - base for model, state in self.states.items() if model != "base"}

    def inputs(self, case, tensor):
        """The tensor in all models of a case."""
        return [self.states[model][tensor] for model in dict.fromkeys([*case.models, case.base or case.models[0]])]


def family(root, made):
    """Models in folders below `root`."""
    dtype = next(iter(made["base"].values())).dtype
    return Family(dtype, made, {model: save(root / model, state) for model, state in made.items()}, root)


@pytest.fixture(scope="session")
def families(tmp_path_factory):
    """Families of the same shapes in float32 and bfloat16, with the bits of random masks for two seeds."""
    result = {}
    for name, dtype in DTYPES.items():
        root = tmp_path_factory.mktemp(name)
        made = states(dtype)
        for seed in (0, 1):
            (root / f"masks{seed}").mkdir()
            for model in made:
                bits = {t: random_bits(stream_key(seed, model, t), 0, made[model][t].numel()) for t in shapes()}
                save_file(bits, root / f"masks{seed}/{model}.safetensors")
        result[name] = family(root, made)
    return result


def merge_with_mergekit(cases, folder):
    """Tensors, or the text of an error, of each (case, family); all in one process, since its start takes seconds."""
    outs = [folder / f"{number}-{case.name}" for number, (case, _) in enumerate(cases)]
    tasks = [
        {
            "config": case.config(family.folders, str(family.dtype).removeprefix("torch.")),
            "out": str(out),
            "masks": None if case.seed is None else str(family.masks / f"masks{case.seed}"),
            "stable": case.stable,
        }
        for out, (case, family) in zip(outs, cases, strict=True)
    ]
    errors = run_other("run_mergekit", tasks, folder)
    return [error or load_file(out / "model.safetensors") for error, out in zip(errors, outs, strict=True)]
