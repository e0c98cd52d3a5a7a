"""``python -m langmerge.observation``: observe one model on the sentences of a direction group."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.sentences import read_sentences

ALIGNMENTS = ("read", "predict")
SITES = ("mlp_gate", "mlp_product", "attention", "residual", "embedding")
POOLS = ("mean", "last")


def main(arguments: list[str] | None = None) -> None:
    """Write ``representations``, ``counts`` and ``thresholds.safetensors``, ``losses.csv`` and ``summary.json``.

    The spec has ``directions``, ``pivot``, ``prompt``, ``split``, ``sentences``, ``align`` (read, predict), ``blocks``,
    ``sites``, ``pools`` (mean, last), ``bins`` (of the histograms for average precision; 0: none) and optionally
    ``dtype``. The inputs are ``model``, ``pairs/<language>`` and, for all models but the baseline, ``thresholds``: the
    baseline's observation, whose thresholds are taken over as they are.
    """
    command = parse("langmerge.observation", __doc__, arguments)
    spec = command.spec
    choices = (("align", [spec["align"]], ALIGNMENTS), ("sites", spec["sites"], SITES), ("pools", spec["pools"], POOLS))
    for key, values, known in choices:
        if not values or (wrong := [value for value in values if value not in known]):
            raise provenance.InputError(
                f"{key}: expected one of {', '.join(known)}, found {wrong[0] if values else 'none'!r}"
            )
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        # Before the slow imports, so that errors in the data show at once
        sentences, shared = read_sentences(spec, pairs)
        folder = job.read("model", command.input("model"))
        provenance.verify(folder)
        baseline = command.inputs.get("thresholds")
        if baseline is not None:
            provenance.verify(job.read("thresholds", baseline), ("thresholds.safetensors",))

        models.set_threads()
        from langmerge.observation.job import observe_model

        job.cost.update(observe_model(spec, sentences, shared, folder, baseline, job.folder))


if __name__ == "__main__":
    provenance.run(main)
