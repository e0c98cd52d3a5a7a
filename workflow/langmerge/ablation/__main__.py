"""``python -m langmerge.ablation``: switch off the language units of the models of a direction group."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.analysis.neurons import ranking_of
from langmerge.command import parse
from langmerge.provenance import InputError
from langmerge.sentences import read_sentences

PRECISION = "average_precision"


def main(arguments: list[str] | None = None) -> None:
    """Write ``ablation.csv`` and ``summary.json``.

    The spec has ``models`` (labels), ``baseline``, ``directions``, ``pivot``, ``prompt``, ``split``, ``sentences``,
    ``ranking`` and ``top`` (which units), ``draws`` (of random units), ``blocks`` and ``seed``. The inputs are
    ``models/<label>`` and ``observations/<label>`` of each of the models, ``observations/<baseline>``, whose thresholds
    hold for all, and ``pairs/<language>``.
    """
    command = parse("langmerge.ablation", __doc__, arguments)
    spec = command.spec
    if ranking_of(spec["ranking"], spec["top"]).name == PRECISION:
        raise InputError(f"ranking: {PRECISION} ranks histograms of sentences, not firing; use mutual_information")
    for key, least in (("draws", 2), ("blocks", 2)):
        if spec[key] < least:
            raise InputError(f"{key}: expected {least} or more, found {spec[key]}")
    if not spec["models"]:
        raise InputError("models: expected at least one, found none")
    folders = {label: command.input(f"models/{label}") for label in spec["models"]}
    observed = {
        label: command.input(f"observations/{label}") for label in dict.fromkeys([spec["baseline"], *spec["models"]])
    }
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        # Before the slow imports, so that errors in the data show at once
        sentences, _ = read_sentences(spec, pairs)
        for label, folder in observed.items():
            provenance.verify(job.read(f"observations/{label}", folder), ("counts.safetensors",))
        for label, folder in folders.items():
            provenance.verify(job.read(f"models/{label}", folder))

        models.set_threads()
        from langmerge.ablation.job import ablate

        job.cost.update(ablate(spec, sentences, folders, observed, job.folder))


if __name__ == "__main__":
    provenance.run(main)
