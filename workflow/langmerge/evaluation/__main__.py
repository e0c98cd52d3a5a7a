"""``python -m langmerge.evaluation``: score one model in all directions and on all tasks."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.evaluation.scoring import score_model, write
from langmerge.evaluation.task_sets import read_task_sets
from langmerge.evaluation.test_sets import read_test_sets

DTYPES = ("float32", "bfloat16", "float16")


def main(arguments: list[str] | None = None) -> None:
    """Write ``scores.json``, ``predictions/`` and ``statistics/`` of ``inputs["model"]`` into ``--out``.

    The spec has ``directions`` and ``tests`` (each may be empty), ``pivot``, ``splits`` (name to limit or null),
    ``decode`` (``batch_size``, ``max_new_tokens``, optionally ``max_length_ratio``, ``cut``, ``dtype``) and, for
    directions, ``prompt``, ``languages`` and ``metrics``; the inputs ``model``, ``pairs/<language>``,
    ``tasks/<language>``.
    """
    command = parse("langmerge.evaluation", __doc__, arguments)
    folder = command.input("model")
    dtype = command.spec["decode"].get("dtype", "float32")
    if dtype not in DTYPES:
        raise provenance.InputError(f"decode.dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", place) for language, place in command.named("pairs").items()}
        tasks = {language: job.read(f"tasks/{language}", place) for language, place in command.named("tasks").items()}
        # Before the slow imports, so that errors in the data show at once
        test_sets = read_test_sets(command.spec, pairs)
        task_sets = read_task_sets(command.spec, pairs, tasks)
        if not test_sets and not task_sets:
            raise provenance.InputError("directions, tests: both are empty; expected something to evaluate on")
        provenance.verify(job.read("model", folder))

        import torch

        models.set_threads()
        device = models.device()
        model = models.load_model(folder, getattr(torch, dtype))
        torch.nn.Module.to(model, device)
        scored = score_model(model, models.load_tokenizer(folder), test_sets, command.spec, task_sets)
        write(scored, job.folder)
        tokens = scored.prompt_tokens + scored.new_tokens
        sentences = sum(len(test.ids) for test in test_sets) + sum(len(test.items) for test in task_sets)
        # a third of a training step: the forward pass alone
        per_token = models.training_flops_per_token(model.config, round(tokens / sentences)) / 3
        job.cost.update(
            tokens=tokens,
            new_tokens=scored.new_tokens,
            flops=per_token * tokens,
            sentences=sentences,
            device=str(device),
        )


if __name__ == "__main__":
    provenance.run(main)
