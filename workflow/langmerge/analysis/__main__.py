"""``python -m langmerge.analysis``: compare the models of a direction group on the same sentences."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.analysis.sentences import read_sentences
from langmerge.command import parse

ALIGNMENTS = ("read", "predict")


def main(arguments: list[str] | None = None) -> None:
    """Write the tables (CSV) cka, angles, mds, neurons, turnover and usage, ``summary.json`` and ``representations/``.

    The spec has ``models`` (labels), ``baseline``, ``directions``, ``pivot``, ``prompt``, ``split``, ``sentences``,
    ``align``, ``neurons``, ``top``, ``blocks``, ``permutations`` and ``seed``; the inputs ``models/<label>`` and
    ``pairs/<language>``.
    """
    command = parse("langmerge.analysis", __doc__, arguments)
    spec = command.spec
    folders = {label: command.input(f"models/{label}") for label in spec["models"]}
    if spec["baseline"] not in spec["models"]:
        raise provenance.InputError(f"baseline: {spec['baseline']!r} is not among the models {spec['models']}")
    if spec["align"] not in ALIGNMENTS:
        raise provenance.InputError(f"align: expected one of {', '.join(ALIGNMENTS)}, found {spec['align']!r}")
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        # Before the slow imports, so that errors in the data show at once
        sentences, shared = read_sentences(spec, pairs)
        for label, folder in folders.items():
            provenance.verify(job.read(f"models/{label}", folder))

        models.set_threads()
        from langmerge.analysis.measure import measure

        job.cost.update(measure(spec, sentences, shared, folders, job.folder))


if __name__ == "__main__":
    provenance.run(main)
