"""``python -m langmerge.growing.measure``: how far the copies in cloned models differ, before and after training."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.csv_files import write_csv


def main(arguments: list[str] | None = None) -> None:
    """Write ``copies.csv``: what the spec says of each model, and its ``difference``.

    The spec has ``width`` and ``heads``, as the clones were grown with, and ``models``: rows with ``model`` (a name)
    and any further columns. The inputs are ``model``, what the clones were made from, and ``models/<name>``. The
    difference is that of :func:`langmerge.growing.symmetry.copy_difference`.
    """
    command = parse("langmerge.growing.measure", __doc__, arguments)
    spec, source = command.spec, command.input("model")
    folders = {row["model"]: command.input(f"models/{row['model']}") for row in spec["models"]}
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        job.read("model", source)
        for name, folder in folders.items():
            provenance.verify(job.read(f"models/{name}", folder))
        config = provenance.read_json(source / "config.json")

        models.set_threads()
        from langmerge.growing.job import read_weights
        from langmerge.growing.symmetry import copy_difference

        rows = []
        for row in spec["models"]:
            weights = read_weights(folders[row["model"]], bool(config.get("tie_word_embeddings")))
            rows.append(
                row | {"difference": copy_difference(weights, config, width=spec["width"], heads=spec["heads"])}
            )
        write_csv(job.folder / "copies.csv", rows)


if __name__ == "__main__":
    provenance.run(main)
