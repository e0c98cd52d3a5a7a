"""mergekit and peft live in a Python of their own, which the environment variable LANGMERGE_PEERS names."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_llamas import save

from langmerge.merging import Recipe, state_dicts

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
