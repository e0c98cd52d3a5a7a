"""Small models as finished results on disk."""

import json

import numpy as np
import pytest
from planted import rows
from safetensors.torch import save_file

from langmerge import provenance
from langmerge.weighing.__main__ import main


@pytest.fixture
def save(tmp_path):
    """``save("base", state)``: the folder of a finished result."""

    def write(name, state, shards=None):
        folder = tmp_path / "models" / name
        with provenance.result(folder, {}, "", "") as job:
            if shards is None:
                save_file(state, job.folder / "model.safetensors")
            else:
                places = {tensor: f"{i % shards}.safetensors" for i, tensor in enumerate(state)}
                for shard in sorted(set(places.values())):
                    part = {tensor: state[tensor] for tensor, place in places.items() if place == shard}
                    save_file(part, job.folder / shard)
                (job.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        return folder

    return write


@pytest.fixture
def weigh(tmp_path, save):
    """``weigh({"base": ..., "a": ..., "m": ...}, merges=["m"])``: the tables of these states, and the summary."""

    def run(states, merges=(), baseline="base", **spec):
        folders = {f"models/{name}": str(save(name, state)) for name, state in states.items()}
        specialists = [name for name in states if name not in (*merges, baseline)]
        spec = {"baseline": baseline, "specialists": specialists, "merges": list(merges), **spec}
        out = tmp_path / "out"
        main(["--spec", json.dumps(spec), "--inputs", json.dumps(folders), "--out", str(out)])
        tables = {name: rows(out / f"{name}.csv") for name in ("task_vectors", "pairs", "subspaces")}
        return {**tables, "summary": json.loads((out / "summary.json").read_text()), "out": out}

    return run


@pytest.fixture
def generator():
    return np.random.default_rng(0)
