"""Train a model: ``python -m langmerge.training --spec JSON --inputs JSON --out FOLDER``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from langmerge.provenance import Result, result, run
from langmerge.training.arguments import parse


def main() -> None:
    """Parse the command line and train."""
    arguments = parse(__doc__, work=True)
    from langmerge.training.job import train
    from langmerge.training.state import FILE

    work = arguments.work or arguments.out.with_name(f".{arguments.out.name}.work")
    if os.environ.get("RANK", "0") != "0":  # one of several processes that train together: the first writes the result
        with tempfile.TemporaryDirectory() as folder:
            train(arguments.spec, arguments.inputs, Result(arguments.out, Path(folder)), work)
        return
    with result(arguments.out, arguments.spec, arguments.code, arguments.environment) as job:
        train(arguments.spec, arguments.inputs, job, work)
    (work / FILE).unlink(missing_ok=True)  # only now: a kill until here goes on from it


if __name__ == "__main__":
    run(main)
