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


def main(arguments: list[str] | None = None) -> None:
    """Write ``model.safetensors`` with what :mod:`langmerge.calibration` says of each kind.

    The spec has ``kind``, ``directions``, ``pivot``, ``split`` (train or dev), ``sentences``, ``seed``, ``prompt`` and
    ``labels`` (of the Fisher information); ``token_counts`` needs ``language`` and ``pivot`` only. The inputs are
    ``models/<name>`` (several for ``similarity``) and ``pairs/<language>``.
    """
    command = parse("langmerge.calibration", __doc__, arguments)
    spec = command.spec
    if spec.get("kind") not in KINDS:
        raise provenance.InputError(f"kind: expected one of {', '.join(KINDS)}, found {spec.get('kind')!r}")
    folders = command.named("models")
    if not folders or (len(folders) > 1 and spec["kind"] != "similarity"):
        raise provenance.InputError(
            f'--inputs: found {len(folders)} of "models/<name>"; expected one (similarity: two or more)'
        )
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        for name, folder in folders.items():
            provenance.verify(job.read(f"models/{name}", folder))

        from safetensors.torch import save_file

        models.set_threads()
        if spec["kind"] == "token_counts":
            tensors, tokens = _token_counts(spec, next(iter(folders.values())), pairs)
        else:
            tensors, tokens = _measured(spec, folders, pairs)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, job.folder / models.WEIGHTS)
        provenance.write_json(job.folder / "models.json", {"models": list(folders)})
        job.cost.update(tokens=tokens, device=str(models.device()))


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
