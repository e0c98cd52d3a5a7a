"""``python -m langmerge.sweeping``: tune and score merges; see :mod:`langmerge.sweeping.sweep`."""

from __future__ import annotations

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.evaluation.scoring import write


def main(arguments: list[str] | None = None) -> None:
    """Write ``selection.json``, ``systems/<merge>/`` (scores, predictions) and, where kept, ``merged/<merge>/``."""
    command = parse("langmerge.sweeping", __doc__, arguments)
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        for name, folder in command.inputs.items():
            job.read(name, folder)
        sources, pairs = command.named("models"), command.named("pairs")
        if not sources:
            raise provenance.InputError('--inputs: no "models/<name>"; expected the folders of the models to merge')
        for folder in [*sources.values(), *command.named("data").values()]:
            provenance.verify(folder)

        from tqdm import tqdm

        from langmerge.sweeping.sweep import Sweep

        models.set_threads()
        first = next(iter(sources.values()))
        model, tokenizer = models.load_model(first), models.load_tokenizer(first)
        model.to(models.device())  # type: ignore[arg-type]
        sweep = Sweep(command.spec, sources, pairs, model, tokenizer, command.named("data"), command.named("tasks"))
        selection, merges = {}, {}
        for tuned in tqdm(sweep, total=len(command.spec["merges"]), desc=command.out.name, mininterval=5):
            write(tuned.scored, job.folder / "systems" / tuned.name)
            merges[tuned.name] = tuned.cost
            selection[tuned.name] = {
                "recipe": tuned.recipe.to_json(),
                "trials": tuned.trials,
                "statistics": tuned.statistics,
                **({"search": tuned.notes} if tuned.notes else {}),
            }
            if tuned.keep:
                sweep.write(tuned, job.folder / "merged" / tuned.name)
        provenance.write_json(job.folder / "selection.json", selection)
        job.cost.update(tokens=sweep.tokens, device=str(models.device()), merges=merges)
    (command.out / "merged").mkdir(exist_ok=True)  # declared to Snakemake even where nothing is kept


if __name__ == "__main__":
    provenance.run(main)
