"""What the tests of the observation share: a task from sentences, and a pass over it."""

import numpy as np

from langmerge.observation.forward import Task, meters_of, observe, site_shapes
from langmerge.observation.job import count_tensors
from langmerge.observation.store import Pooled

SITES = ("mlp_gate", "mlp_product", "attention", "residual", "embedding")


def task_of(encoded, directions, blocks, align="read"):
    return Task(encoded, np.array(directions), np.array(blocks), max(directions) + 1, max(blocks) + 1, align)


def run(model, task, out, sites=SITES, pools=("mean", "last"), bins=0, frozen=None, tokens=None):
    """Losses [N], counts by name, the pooled states' file, and the meters."""
    meters = meters_of(site_shapes(model, sites), task, bins, model.device, frozen)
    config = model.config.get_text_config()
    sizes = {f"d{d}": int((task.directions == d).sum()) for d in range(task.n_directions)}
    pooled = Pooled(out / "representations.safetensors", sizes, pools, config.num_hidden_layers, config.hidden_size)
    losses = observe(model, task, meters, pools, pooled, tokens)
    pooled.close()
    return losses, count_tensors(meters, task), meters
