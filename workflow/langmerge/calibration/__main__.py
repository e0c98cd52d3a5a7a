"""``python -m langmerge.calibration``: measure something of a model on a little data, for merging."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.pairs import Direction, read_direction

if TYPE_CHECKING:
    import torch

KINDS = ("fisher", "gram", "token_counts", "similarity")
ON_TESTS = ("fisher", "gram")  # kinds that are measured on texts and tasks too


def main(arguments: list[str] | None = None) -> None:
    """Write ``model.safetensors`` with what :mod:`langmerge.calibration` says of each kind.

    The spec has ``kind``, ``directions``, ``pivot``, ``split`` (train or dev), ``sentences``, ``seed``, ``prompt`` and
    ``labels`` (of the Fisher information); ``token_counts`` needs ``language`` and ``pivot`` only. The inputs are
    ``models/<name>`` (several for ``similarity``) and ``pairs/<language>``.

    A spec with ``measurements`` measures several models, each alone, and writes ``measured/<name>/model.safetensors``
    for each: ``{name: {"kind": "fisher", "model": ..., "tests": [{"task": "text", "language": "es"}]}}``. It has
    ``context`` (the longest sequence in tokens) in place of ``directions`` and ``prompt``; the items of tasks are in
    the inputs ``tasks/<language>``.
    """
    command = parse("langmerge.calibration", __doc__, arguments)
    spec, folders = command.spec, command.named("models")
    several = spec.get("measurements")
    if several is None:
        _check(spec, folders)
    else:
        for name, measurement in several.items():
            _check_measurement(name, measurement, folders)
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        tasks = {language: job.read(f"tasks/{language}", folder) for language, folder in command.named("tasks").items()}
        for name, folder in folders.items():
            provenance.verify(job.read(f"models/{name}", folder))

        models.set_threads()
        tokens = 0
        if several is None:
            tensors, tokens = _one(spec, folders, pairs)
            write(tensors, job.folder, list(folders))
        for name, measurement in (several or {}).items():
            tensors, read = _on_tests({**spec, **measurement}, folders[measurement["model"]], pairs, tasks)
            (job.folder / "measured" / name).mkdir(parents=True)
            write(tensors, job.folder / "measured" / name, [measurement["model"]])
            tokens += read
        job.cost.update(tokens=tokens, device=str(models.device()))


def write(tensors: Mapping[str, torch.Tensor], folder: Path, names: list[str]) -> None:
    """Write what was measured of the models ``names``."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / models.WEIGHTS)
    provenance.write_json(folder / "models.json", {"models": names})


def _check(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    if spec.get("kind") not in KINDS:
        raise provenance.InputError(f"kind: expected one of {', '.join(KINDS)}, found {spec.get('kind')!r}")
    if not folders or (len(folders) > 1 and spec["kind"] != "similarity"):
        raise provenance.InputError(
            f'--inputs: found {len(folders)} of "models/<name>"; expected one (similarity: two or more)'
        )


def _check_measurement(name: str, measurement: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    if measurement["kind"] not in ON_TESTS:
        raise provenance.InputError(
            f"measurements, {name}: expected a kind among {', '.join(ON_TESTS)}, found {measurement['kind']!r}"
        )
    if measurement["model"] not in folders:
        raise provenance.InputError(f"measurements, {name}: expected the input models/{measurement['model']}")


def _one(
    spec: Mapping[str, Any], folders: Mapping[str, Path], pairs: Mapping[str, Path]
) -> tuple[dict[str, torch.Tensor], int]:
    if spec["kind"] == "token_counts":
        return _token_counts(spec, next(iter(folders.values())), pairs)
    return _measured(spec, folders, pairs)


def _on_tests(
    spec: Mapping[str, Any], folder: Path, pairs: Mapping[str, Path], tasks: Mapping[str, Path]
) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors of a kind, measured of one model on texts or tasks, and the number of tokens read."""
    from langmerge.calibration.fisher import diagonal_fisher
    from langmerge.calibration.gram import gram_matrices
    from langmerge.calibration.sentences import encode_tests, read_tests

    encoded = encode_tests(read_tests(spec, pairs, tasks), models.load_tokenizer(folder), spec.get("context"))
    tokens = sum(len(row.ids) for row in encoded)
    model = models.load_model(folder)
    model.to(models.device())  # type: ignore[arg-type]
    if spec["kind"] == "gram":
        return gram_matrices(model, encoded), tokens
    return diagonal_fisher(model, encoded, spec.get("labels", "target"), spec["seed"]), tokens


def _measured(
    spec: Mapping[str, Any], folders: Mapping[str, Path], pairs: Mapping[str, Path]
) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors of a kind that runs models, and the number of tokens read."""
    from langmerge.calibration.fisher import diagonal_fisher
    from langmerge.calibration.gram import gram_matrices
    from langmerge.calibration.sentences import encode, read_sentences
    from langmerge.calibration.similarity import LEAST, layer_similarity, pooled_states
    from langmerge.prompts import Prompt

    sentences = read_sentences(spec, pairs)
    if spec["kind"] == "similarity" and sum(map(len, sentences.values())) < LEAST:
        raise provenance.InputError(f"sentences: similarity needs {LEAST} or more sentence pairs; raise it")
    states, tokens = [], 0
    for folder in folders.values():
        encoded = encode(sentences, Prompt(**spec["prompt"]), models.load_tokenizer(folder))
        tokens += sum(len(row.ids) for row in encoded)
        model = models.load_model(folder)
        model.to(models.device())  # type: ignore[arg-type]
        if spec["kind"] == "fisher":
            return diagonal_fisher(model, encoded, spec.get("labels", "target"), spec["seed"]), tokens
        if spec["kind"] == "gram":
            return gram_matrices(model, encoded), tokens
        states.append(pooled_states(model, encoded))
    return {"cka": layer_similarity(states)}, tokens


def _token_counts(
    spec: Mapping[str, Any], folder: Path, pairs: Mapping[str, Path]
) -> tuple[dict[str, torch.Tensor], int]:
    """The counts of all training text of ``spec["language"]`` and their sum."""
    from transformers import AutoConfig

    from langmerge.calibration.token_counts import token_counts

    language, pivot = spec["language"], spec["pivot"]
    other = next((name for name in pairs if name != pivot), pivot) if language == pivot else pivot
    texts, _ = read_direction(pairs, Direction(language, other), "train", pivot)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    rows = config.get_text_config().vocab_size
    counts = token_counts(models.load_tokenizer(folder), texts.values(), rows)
    return {"counts": counts}, int(counts.sum())


if __name__ == "__main__":
    provenance.run(main)
