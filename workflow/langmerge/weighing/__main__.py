"""``python -m langmerge.weighing``: weigh the task vectors of specialists and merges, by layer and module."""

from __future__ import annotations

from typing import Any

from langmerge import models, provenance
from langmerge.command import Command, parse


def main(arguments: list[str] | None = None) -> None:
    """Write ``task_vectors.csv``, ``pairs.csv``, ``subspaces.csv`` and ``summary.json``.

    The spec has ``baseline``, ``specialists`` and ``merges`` (labels), and optionally ``density`` of TIES' trim (0.2,
    per tensor), ``svd`` (``exact``, ``lowrank``, or ``auto``: exact where the shorter side is at most 1024), ``rank``
    of the low-rank form (128), ``draws`` of random matrices for nulls (1; 0: none) and ``seed``. The inputs are
    ``models/<label>``. Nulls are drawn for matrices of every size, larger ones as a similar problem of half a million
    entries. Exact subspaces cost, for a matrix of short side d and long side D, about (S + merges)^2 / 2 products of
    2 D d^2 operations and S + merges eigendecompositions of 10 d^3: seconds a matrix for d = 2048 on a CPU; the
    low-rank form 8 D d q a model and pass.
    """
    command = parse("langmerge.weighing", __doc__, arguments)
    spec = command.spec
    for key in ("baseline", "specialists", "merges"):
        if key not in spec:
            raise provenance.InputError(f"--spec: no {key!r}; expected baseline, specialists and merges")
    labels = [spec["baseline"], *spec["specialists"], *spec["merges"]]
    if not spec["specialists"]:
        raise provenance.InputError("specialists: expected at least one model besides the baseline")
    if repeated := [label for i, label in enumerate(labels) if label in labels[:i]]:
        raise provenance.InputError(f"--spec: {repeated[0]} is named twice; name each model once")
    folders = {label: command.input(f"models/{label}") for label in labels}
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        for label, folder in folders.items():
            provenance.verify(job.read(f"models/{label}", folder))
        models.set_threads()
        summary = _write(command, folders, job)
        provenance.write_json(job.folder / "summary.json", summary)


def _write(command: Command, folders: dict[str, Any], job: provenance.Result) -> dict[str, Any]:
    """Weigh and write the tables; the summary of what was weighed, how, and what to beware of."""
    from langmerge.csv_files import write_csv
    from langmerge.weighing import precision, tables
    from langmerge.weighing.memory import predicted_bytes
    from langmerge.weighing.reading import Weights
    from langmerge.weighing.weigh import Settings, weigh

    spec, settings = command.spec, Settings.from_spec(command.spec)
    weights = Weights(folders)
    specialists, labels = len(spec["specialists"]), weights.labels[1:]
    device = models.device()
    found = weigh(weights, specialists, settings, device)
    write_csv(job.folder / "task_vectors.csv", tables.vector_rows(labels, found))
    write_csv(job.folder / "pairs.csv", tables.pair_rows(labels, specialists, found))
    write_csv(job.folder / "subspaces.csv", tables.subspace_rows(labels, specialists, found))
    types = {label: [part.types[i] for part in found] for i, label in enumerate(labels)}
    zeros, lost = {}, {}
    for i, label in enumerate(labels):
        zeros[label] = sum(part.sums.zeros[i] for part in found) / sum(part.sums.entries for part in found)
        coarse = [part for part in found if part.types[i] < len(precision.TYPES) - 1]
        entries = sum(part.sums.entries for part in coarse)
        lost[label] = float(sum(part.sums.zeros[i] for part in coarse) / entries) if entries else 0.0
    shapes = [part.shape for part in weights.parts]
    job.cost.update(
        device=str(device),
        predicted_memory_bytes=predicted_bytes(shapes, specialists, len(spec["merges"]), settings),
    )
    warnings = precision.warnings(spec["specialists"], types, lost)
    if weights.skipped:
        warnings.append(f"{len(weights.skipped)} tensors are no floating-point numbers and were left out")
    return {
        "baseline": spec["baseline"],
        "specialists": spec["specialists"],
        "merges": spec["merges"],
        "density": settings.density,
        "svd": settings.svd,
        "tensors": len(weights.parts),
        "matrices": sum(part.is_matrix for part in weights.parts),
        "exact": sum(part.is_matrix and settings.is_exact(part.shape) for part in weights.parts),
        "entries": sum(part.entries for part in weights.parts),
        "skipped": weights.skipped,
        "zero_share": {label: float(share) for label, share in zeros.items()},
        "float_type": {label: precision.TYPES[max(kinds)] for label, kinds in types.items()},
        "intervals": "spread over tensors, as if these were a random sample; the values are exact for these weights",
        "warnings": warnings,
    }


if __name__ == "__main__":
    provenance.run(main)
