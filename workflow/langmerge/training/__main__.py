"""Train a model: ``python -m langmerge.training --spec JSON --inputs JSON --out FOLDER``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from langmerge.command import parse
from langmerge.provenance import Result, result, run


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train."""
    command = parse("langmerge.training", __doc__, arguments, work=True)
    from langmerge.training.job import train
    from langmerge.training.state import FILE

    work = command.work or command.out.with_name(f".{command.out.name}.work")
    if os.environ.get("RANK", "0") != "0":  # one of several processes that train together: the first writes the result
        with tempfile.TemporaryDirectory() as folder:
            train(command.spec, command.inputs, Result(command.out, Path(folder), command.code), work)
        return
    with result(command.out, command.spec, command.code, command.environment) as job:
        train(command.spec, command.inputs, job, work)
    (work / FILE).unlink(missing_ok=True)  # only now: a kill until here goes on from it


if __name__ == "__main__":
    run(main)
