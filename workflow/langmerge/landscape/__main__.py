"""``python -m langmerge.landscape``: the loss between and around the models of a direction group."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.provenance import InputError
from langmerge.sentences import read_sentences

CHOICES = {"pairs": ("all", "none"), "languages": ("own", "all")}


def main(arguments: list[str] | None = None) -> None:
    """Write the tables that :mod:`langmerge.landscape` names.

    The spec has ``base`` and ``specialists`` (labels), ``directions`` (of the specialists, in their order), ``pivot``,
    ``prompt``, ``split``, ``sentences``, ``gradients`` and ``fisher`` (sentences, 0: none), ``pairs`` (all, none),
    ``points`` of a line, ``languages`` of a line or plane (own, all), ``plane`` (three labels, or none for base and the
    two most distant specialists), ``grid`` (points of its side, 0: none), ``blocks`` and ``seed``; the inputs are
    ``models/<label>`` and ``pairs/<language>``.
    """
    command = parse("langmerge.landscape", __doc__, arguments)
    spec = command.spec
    for key, known in CHOICES.items():
        if spec[key] not in known:
            raise InputError(f"{key}: expected one of {', '.join(known)}, found {spec[key]!r}")
    labels = [spec["base"], *spec["specialists"]]
    if len(spec["specialists"]) != len(spec["directions"]) or len(set(labels)) != len(labels):
        raise InputError(
            f"specialists: expected different labels, one for each of the {len(spec['directions'])} directions, "
            f"found {spec['specialists']}"
        )
    if spec["plane"] and (len(set(spec["plane"])) != 3 or not set(spec["plane"]) <= set(labels)):
        raise InputError(f"plane: expected three of {', '.join(labels)}, found {spec['plane']}")
    for key, least, none in (("points", 3, False), ("grid", 2, True), ("fisher", 2, True), ("gradients", 4, True)):
        if spec[key] < least and not (none and spec[key] == 0):
            raise InputError(f"{key}: expected {least} or more{' (or 0: none)' if none else ''}, found {spec[key]}")
    folders = {label: command.input(f"models/{label}") for label in labels}
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        # Before the slow imports, so that errors in the data show at once
        wanted = max(spec["sentences"], spec["fisher"], spec["gradients"])
        sentences, shared = read_sentences({**spec, "sentences": wanted}, pairs)
        for label, folder in folders.items():
            provenance.verify(job.read(f"models/{label}", folder))

        models.set_threads()
        from langmerge.landscape.survey import survey

        job.cost.update(survey(spec, sentences, shared, folders, job.folder))


if __name__ == "__main__":
    provenance.run(main)
