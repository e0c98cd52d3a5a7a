"""Tokens per second of the training loop, against bare loops over the same model and the same batches.

    python benchmarks/training.py [--hidden 128] [--layers 4] [--vocabulary 2048] [--precision bf16] [--repeats 7]

`bare` is the least that training can be: batches laid out beforehand, forward, backward, clip, step. `full head` is a
bare loop that calls the model as its documentation shows, with logits at every position. Runs alternate, so that
other load on the machine hits all of them; ratios are medians over pairs.
"""

import argparse
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional

from langmerge import models
from langmerge.provenance import result, write_json
from langmerge.training.init import build
from langmerge.training.job import prepare
from langmerge.training.loop import Ledger, _tensors
from langmerge.training.settings import Settings, check


def write_inputs(folder, options):
    """A corpus of random words and a tiny model."""
    chance = random.Random(0)
    syllables = ["".join(pair) for pair in itertools.product("bcdfglmnprst", "aeiou")]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(options.vocabulary)]
    with result(folder / "es", {}, "", "") as job:
        rows = [" ".join(chance.choices(words, k=chance.randint(4, 12))) for _ in range(8000)]
        lines = [
            f'{{"id": "{i}", "en": "{a}", "es": "{b}"}}' for i, (a, b) in enumerate(zip(rows, rows[::-1], strict=True))
        ]
        (job.folder / "train.jsonl").write_text("\n".join(lines))
    spec = {
        "architecture": {
            "hidden_size": options.hidden,
            "num_hidden_layers": options.layers,
            "num_attention_heads": max(1, options.hidden // 32),
            "num_key_value_heads": max(1, options.hidden // 32),
            "intermediate_size": options.hidden * 21 // 8,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
        "vocabulary_size": options.vocabulary,
        "languages": ["es"],
        "special_tokens": ["<en>", "<es>"],
    }
    with result(folder / "model", spec, "", "") as job:
        build(spec, {"pairs/es": folder / "es"}, job)
    return {"model": folder / "model", "pairs/es": folder / "es"}


def ours(run):
    run.ledger = Ledger()
    run.train()


def bare(run, batches, full):
    settings, device = run.settings, run.cluster.device
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            if full:
                ids, positions, where, labels = batch
                logits = run.model(ids, position_ids=positions, use_cache=False).logits.flatten(0, 1)
                targets = torch.full((ids.numel(),), -100, device=device)
                targets[where] = labels
                loss = functional.cross_entropy(logits.float(), targets)
            else:
                loss = run.objective(*batch) / len(batch[2])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("hidden", 128), ("layers", 4), ("vocabulary", 2048), ("repeats", 7), ("steps", 15)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    recipe = {
        "data": [{"source": "en", "target": "es"}],
        "prompt": {"template": "<en>{source}<es>"},
        "steps": options.steps,
        "batch_tokens": options.batch_tokens,
        "context_length": 128,
        "learning_rate": 1e-4,
        "precision": options.precision,
        "packing": options.packing,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_inputs(folder, options)
        run, _ = prepare(check(Settings, recipe, "train"), inputs, folder / "work", "")
        batches = [_tensors(run._batches(step)[0][0], run.cluster.device) for step in range(options.steps)]
        tokens = run.ledger.tokens
        loops = {
            "langmerge": lambda: ours(run),
            "bare": lambda: bare(run, batches, full=False),
            "full head": lambda: bare(run, batches, full=True),
        }
        seconds = {name: [] for name in loops}
        for repeat in range(options.repeats + 1):
            order = list(loops) if repeat % 2 else list(loops)[::-1]
            for loop in order:
                start = time.perf_counter()
                loops[loop]()
                if repeat:  # the first round warms up
                    seconds[loop].append(time.perf_counter() - start)
        rows = {
            loop: {
                "tokens_per_second": tokens / statistics.median(times),
                "ours_relative": statistics.median(t / o for t, o in zip(times, seconds["langmerge"], strict=True)),
            }
            for loop, times in seconds.items()
        }
    parameters = sum(weight.numel() for weight in run.model.parameters())
    threads = torch.get_num_threads()
    print(f"{parameters / 1e6:.2f} M parameters, {options.precision}, {models.device()}, {threads} thread(s)")
    print(f"{'loop':<12}{'tokens/s':>12}{'langmerge / loop':>20}")
    for loop, row in rows.items():
        print(f"{loop:<12}{row['tokens_per_second']:>12.0f}{row['ours_relative']:>20.2f}")
    if options.json:
        write_json(options.json, {"parameters": parameters, "precision": options.precision, "loops": rows})


if __name__ == "__main__":
    main()
