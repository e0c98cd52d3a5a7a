"""``python -m langmerge.growing``: make a larger model from a smaller one."""

from __future__ import annotations

from langmerge import provenance
from langmerge.command import parse


def main(arguments: list[str] | None = None) -> None:
    """Grow ``inputs["model"]`` into ``--out``: a model folder with ``growth.json``.

    The spec has ``method`` and that method's parameters, see :mod:`langmerge.growth`. ``cost.json`` says
    ``parameters_before``, ``parameters``, ``preserves``, ``symmetry`` (``kept``: copies that training cannot tell
    apart; ``broken``: copies with noise; ``none``: no copies side by side), ``copy_difference`` of copies, and how far
    the logits are from the source's.
    """
    command = parse("langmerge.growing", __doc__, arguments)
    source = command.input("model")
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        provenance.verify(job.read("model", source))
        from langmerge.growing.job import grow

        grow(command.spec, source, job)


if __name__ == "__main__":
    provenance.run(main)
