"""``python -m langmerge.diagnosis``: how near the models of each pair are to each other."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.diagnosis.settings import check
from langmerge.diagnosis.texts import read_parallel


def main(arguments: list[str] | None = None) -> None:
    """Write the tables that :mod:`langmerge.diagnosis` names.

    The spec is :class:`langmerge.diagnosis.settings.Settings`; the inputs are ``models/<name>`` for the base and every
    model in a pair, and ``pairs/<language>`` for their languages.
    """
    command = parse("langmerge.diagnosis", __doc__, arguments)
    spec = check(command.spec)
    names = spec.models if spec.base is None else list(dict.fromkeys([spec.base, *spec.models]))
    folders = {name: command.input(f"models/{name}") for name in names}
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        texts = {code: job.read(f"pairs/{code}", folder) for code, folder in command.named("pairs").items()}
        sentences = read_parallel(spec, texts)  # before the slow imports, so that errors in the data show at once
        for name, folder in folders.items():
            provenance.verify(job.read(f"models/{name}", folder))

        models.set_threads()
        from langmerge.diagnosis.diagnose import diagnose

        job.cost.update(diagnose(spec, sentences, folders, job.folder))


if __name__ == "__main__":
    provenance.run(main)
