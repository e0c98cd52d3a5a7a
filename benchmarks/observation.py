"""What observing a model costs, against a plain forward pass over the same batches.

    python benchmarks/observation.py [--hidden 128] [--layers 3] [--inner 384] [--vocabulary 2048] [--repeats 9]
                                     [--bins 64]

`plain` calls a model as its documentation shows, without cache; `observed` is the whole streaming pass of an equal
model with frozen thresholds: padding, hooks at all sites, pooled states written to their file, losses of the targets;
`baseline` also finds the thresholds, `histograms` also counts sentences in bins. Each reads every batch in turn with
`plain`, so that other load on the machine hits both; ratios are quartiles over repeats. Seconds are the process's own
on a CPU, of the clock on a GPU, which is taken where there is one.
"""

import argparse
import copy
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from langmerge import host_memory, models
from langmerge.observation.forward import TOKENS_PER_BATCH, Task, meters_of, observe, passes, schedule, site_shapes
from langmerge.observation.store import Pooled
from langmerge.prompts import Encoded
from langmerge.spans import collate

SITES = ("mlp_gate", "mlp_product", "attention", "residual", "embedding")


def make_task(options):
    """Random sequences of realistic shape: a short template, a source and a target of about equal length."""
    import numpy as np

    chance = random.Random(0)
    encoded = []
    for _ in range(options.directions * options.sentences):
        source, target = (max(3, round(chance.gauss(options.length, options.length / 4))) for _ in range(2))
        ids = [chance.randrange(3, options.vocabulary) for _ in range(4 + source + target)]
        encoded.append(Encoded(tuple(ids), 3 + source, (2, 2 + source), (3 + source, 3 + source + target)))
    directions = np.repeat(np.arange(options.directions), options.sentences)
    return Task(encoded, directions, np.arange(len(encoded)) % 20, options.directions, 20, "read")


def seconds(call, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("hidden", 128), ("layers", 3), ("inner", 384), ("vocabulary", 2048), ("length", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("directions", 4), ("sentences", 128), ("repeats", 9), ("bins", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--sites", nargs="*", default=SITES, choices=SITES)
    options = parser.parse_args()
    models.set_threads()
    device = models.device()
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.inner,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        num_key_value_heads=max(1, options.hidden // 64),
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval().to(device, getattr(torch, options.dtype))
    task = make_task(options)
    shapes = site_shapes(model, options.sites)
    rows = list(schedule(task, TOKENS_PER_BATCH[device.type]))
    batches = [collate(task.encoded, each, "read", device) for each in rows]

    first = meters_of(shapes, task, options.bins, device)
    observe(model, task, first, ("mean",), None)
    frozen = {f"{site}/tau": meter.tau for site, meter in first.items()}
    frozen |= {f"{site}/scale": meter.scale for site, meter in first.items() if meter.scale is not None}

    bare = copy.deepcopy(model)  # without the hooks of a pass that has begun
    sizes = {f"d{d}": options.sentences for d in range(options.directions)}

    @torch.inference_mode()
    def plain(batch):
        bare(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)

    def together(folder, thresholds, bins):
        """Seconds of a plain and an observed pass, each batch in turn."""
        pools = ("mean", "last")
        taken = [0.0, 0.0]

        def start():
            meters = meters_of(shapes, task, bins, device, thresholds)
            out = Pooled(folder / "states", sizes, pools, options.layers, options.hidden)
            yield from passes(model, task, meters, pools, out)
            out.close()

        steps = start()
        for batch in batches:
            taken[0] += seconds(lambda batch=batch: plain(batch), device)
            taken[1] += seconds(lambda: next(steps), device)
        taken[1] += seconds(lambda: next(steps, None), device)
        return taken

    kinds = {"observed": (frozen, 0), "baseline": (None, 0)}
    kinds |= {"histograms": (frozen, options.bins)} if options.bins else {}
    times = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(options.repeats + 1):
            for name, (thresholds, bins) in kinds.items():
                taken = together(Path(place), thresholds, bins)
                if repeat:  # the first warms up
                    times[name].append(taken)

    def ratio(name):
        return [round(value, 3) for value in statistics.quantiles([b / a for a, b in times[name]], n=4)]

    print(
        json.dumps(
            {
                "device": str(device),
                "threads": torch.get_num_threads(),
                "tokens": sum(int(batch.attention.sum()) for batch in batches),
                "plain_seconds": round(statistics.median(a for a, _ in times["observed"]), 4),
                **{f"ratio_{name}": ratio(name) for name in kinds},
                "host_bytes": host_memory.observation(shapes, options.directions, 20)["total"],
            }
        )
    )


if __name__ == "__main__":
    main()
