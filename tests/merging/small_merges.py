"""Merges of few, small tensors, and what is to be seen of them from outside: files, open handles, errors."""

from pathlib import Path

import pytest
import torch
from merge_models import save

from langmerge.merging import Recipe, write_models
from langmerge.merging.journal import JOURNAL

MEAN = Recipe("mean", "linear", ("a", "b"), "base")
TIES = Recipe("ties", "ties", ("a", "b"), "base", {"density": 0.5})


def small(seed):
    """A model of few, small tensors: whole numbers, an empty one, a scalar, two layers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (6, 4), "layers.0.w": (5, 4), "layers.1.w": (5, 4), "norm.weight": (4,), "scalar": ()}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"positions": torch.arange(3), "void": torch.zeros(0, 4)}


def sharded(folder, state, shards=2):
    """A model in several files; tensor i stands in file i modulo `shards`."""
    return save(folder, state, shards=shards)


def open_files():
    """Files and folders of models that this process has open."""
    targets = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(handle.readlink()))
        except OSError:
            continue
    return sorted(target for target in targets if target.endswith((".safetensors", ".partial", ".json", JOURNAL)))


def write(sources, out, recipes=(MEAN, TIES), **options):
    options = {"block": 8, "shard_bytes": 150} | options
    return write_models(recipes, sources, {recipe.name: out / recipe.name for recipe in recipes}, **options)


def contents(folder):
    """Bytes of all files below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(sources, out, message, error=ValueError, **options):
    """The merge fails with this message and leaves nothing behind."""
    with pytest.raises(error, match=message) as caught:
        write(sources, out, **options)
    assert not out.exists() or list(out.iterdir()) == []
    return caught.value
