"""``python -m langmerge.analysis``: compare the observed models of a direction group."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.analysis.neurons import ranking_of
from langmerge.command import parse


def main(arguments: list[str] | None = None) -> None:
    """Write the tables (CSV) of :mod:`langmerge.analysis` and ``summary.json``.

    The spec has ``models`` (labels), ``baseline``, ``directions``, ``neurons`` (headline ranking), ``rankings``,
    ``top``, ``permutations`` and ``seed``; the inputs are ``observations/<label>``, as ``langmerge.observation`` writes
    them.
    """
    command = parse("langmerge.analysis", __doc__, arguments)
    spec = command.spec
    folders = {label: command.input(f"observations/{label}") for label in spec["models"]}
    if spec["baseline"] not in spec["models"]:
        raise provenance.InputError(f"baseline: {spec['baseline']!r} is not among the models {spec['models']}")
    for name in [spec["neurons"], *spec["rankings"]]:
        ranking_of(name, spec["top"])
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        for label, folder in folders.items():
            provenance.verify(job.read(f"observations/{label}", folder))
        models.set_threads()
        from langmerge.analysis.measure import measure

        measure(spec, folders, job.folder)
        job.cost["device"] = str(models.device())


if __name__ == "__main__":
    provenance.run(main)
