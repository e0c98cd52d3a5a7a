"""Files that are filled in place are safetensors like any others, and what they need is known beforehand."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from langmerge.host_memory import pooled_states
from langmerge.observation.store import Pooled, write_tensors


def test_pooled_states_are_what_was_put_in_whatever_the_order(tmp_path):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 2, 4, 7, 5, generator=generator)  # [span, pool, layer, rows, d]
    pooled = Pooled(tmp_path / "a.safetensors", {"en-es": 3, "en-de": 4}, ("mean", "last"), layers=3, width=5)
    for rows in ([6, 0], [2, 3, 1], [5, 4]):
        pooled.put(torch.tensor(rows), states[:, :, :, rows])
    pooled.close()
    found = load_file(tmp_path / "a.safetensors")
    assert len(found) == 2 * 2 * 2 * 4
    for s, span in enumerate(("source", "target")):
        for p, pool in enumerate(("mean", "last")):
            for layer in range(4):
                assert torch.equal(found[f"en-es/{span}/{pool}/{layer}"], states[s, p, layer, :3])
                assert torch.equal(found[f"en-de/{span}/{pool}/{layer}"], states[s, p, layer, 3:])
    save_file(found, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").stat().st_size == pytest.approx(
        (tmp_path / "a.safetensors").stat().st_size, rel=1
    )
    assert (tmp_path / "a.safetensors").stat().st_size > pooled_states(7, 1, 2, 3, 5)


def test_arrays_of_any_stride_and_type_are_kept(tmp_path):
    base = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    arrays = {
        "b/turned": base.transpose(2, 0, 1),
        "a/part": base[:, ::2],
        "small": np.array([1, 2], dtype=np.int16),
        "real": np.linspace(0, 1, 5, dtype=np.float32),
        "none": np.zeros((0, 3), dtype=np.int64),
    }
    write_tensors(tmp_path / "c.safetensors", arrays)
    found = load_file(tmp_path / "c.safetensors")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array) and found[name].numpy().dtype == array.dtype
    first = (tmp_path / "c.safetensors").read_bytes()
    write_tensors(tmp_path / "c.safetensors", dict(reversed(arrays.items())))
    assert (tmp_path / "c.safetensors").read_bytes() == first
