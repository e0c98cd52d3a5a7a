"""``python -m langmerge.corpora.tasks``: the task items of one language, from the grammar or from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from langmerge import provenance
from langmerge.command import parse
from langmerge.config import EmbeddedCorpus, EmbeddedTasks, FileTasks
from langmerge.corpora.grammar import corpus as grammar
from langmerge.corpora.grammar.arithmetic import Arithmetic
from langmerge.corpora.grammar.causality import CausalChoice
from langmerge.corpora.grammar.drawing import Guard, Row, Task, draw_contents, rows
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.lexicon import read_yaml
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.reviews import Reviews
from langmerge.corpora.grammar.summaries import Summaries
from langmerge.corpora.grammar.world import World
from langmerge.corpora.prepare import write_rows
from langmerge.provenance import InputError
from langmerge.tasks import file_of

# Meanings looked through for each minimal pair of a phenomenon. The corpus's own may be fewer; the further ones are
# of the same splits, so none of them is in train either.
MEANINGS_PER_PAIR = 30
# And at least so many, of which the rarest phenomenon needs a few hundred.
FEWEST_MEANINGS = 400

Items = Iterator[tuple[str, str, Iterable[Row]]]


def embedded_items(tasks: EmbeddedTasks, corpus: EmbeddedCorpus, language: str) -> Items:
    """Task, split and items of each task that is asked for, generated from the grammar.

    Raises ValueError if the grammar's files are wrong, if the language has no wording for a task, or if the world is
    too small.
    """
    folder = Path(corpus.grammar)
    world = World.load(folder / "world.yaml")
    # The tasks speak of the corpus's nouns, but need all verbs and adjectives: the first few tell no good from bad.
    nouns = world.restricted(nouns=corpus.nouns, two_clauses=False)
    text = world.restricted(corpus.nouns, corpus.verbs, corpus.adjectives, corpus.two_clauses)
    guard = Guard(grammar.held_out_combinations(text, corpus.held_out), corpus.seed, tasks.seed)
    sizes = tasks.splits()
    if pairs := sizes.pop("minimal_pairs", None):
        yield from _minimal_pairs(corpus, text, pairs, language)
    if not sizes:
        return
    spoken, english = (Language.load(code, folder / "languages", world) for code in (language, "en"))
    phrases = Phrases.load(language, folder / "tasks")
    rules = read_yaml(folder / "tasks" / "world.yaml")
    everything: list[Task[Any]] = [
        Reviews(nouns, rules, tasks.classes, {"negated": tasks.negation, "but": tasks.contrast}),
        Summaries(nouns, rules),
        CausalChoice(nouns, rules),
        Arithmetic(nouns, rules),
    ]
    made = {task.name: task for task in everything}
    for name, splits in sizes.items():
        for split, contents in draw_contents(made[name], splits, guard, english).items():
            yield name, split, rows(made[name], contents, split, spoken, phrases)


def _minimal_pairs(corpus: EmbeddedCorpus, world: World, sizes: dict[str, int], language: str) -> Items:
    from langmerge.corpora.grammar.minimal_pairs import minimal_pairs

    folder = Path(corpus.grammar) / "languages"
    wanted = {
        split: max(getattr(corpus, split), MEANINGS_PER_PAIR * size, FEWEST_MEANINGS) for split, size in sizes.items()
    }
    quota = grammar.Sizes(0, wanted.get("dev", 0), wanted.get("test", 0))
    meanings = grammar.meanings(world, quota, corpus.seed, corpus.held_out, folder=folder)
    spoken = Language.load(language, folder, world)
    for split, size in sizes.items():
        yield "minimal_pairs", split, minimal_pairs(spoken, meanings[split], size)


def file_items(tasks: FileTasks, language: str) -> Items:
    """Task, split and items of each task of the language, read from files; ValueError if a file is missing or wrong."""
    from langmerge.corpora.readers.tasks import read_task

    for name, splits in tasks.splits(language).items():
        for split in splits:
            source = tasks.tasks[name].filled(language, split)
            yield name, split, read_task(source.model_dump(mode="json"), language, split)


def prepare(items: Items, folder: Path) -> dict[str, dict[str, int]]:
    """Write ``<task>.<split>.jsonl`` into ``folder``; returns the number of items by task and split."""
    counts: dict[str, dict[str, int]] = {}
    for task, split, found in items:
        listed = list(found)
        write_rows(listed, file_of(folder, task, split))
        counts.setdefault(task, {})[split] = len(listed)
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Write ``<task>.<split>.jsonl`` and ``statistics.json`` (items by task and split) into ``--out``.

    The spec has ``language``, ``tasks`` (a section of the study file) and, for embedded tasks, ``corpus`` (that of the
    same file).
    """
    command = parse("langmerge.corpora.tasks", __doc__, arguments)
    language, section, corpus = (command.spec.get(key) for key in ("language", "tasks", "corpus"))
    if not isinstance(language, str) or not isinstance(section, dict):
        raise InputError('--spec: expected "language" and "tasks"')
    if section.get("kind") == "files":
        items = file_items(FileTasks.model_validate(section), language)
    elif not corpus or corpus.get("kind") != "embedded":
        raise InputError("tasks.kind: embedded tasks need an embedded corpus; set corpus.kind or take tasks from files")
    else:
        items = embedded_items(EmbeddedTasks.model_validate(section), EmbeddedCorpus.model_validate(corpus), language)
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        try:
            statistics = prepare(items, job.folder)
        except ValueError as error:
            raise InputError(f"tasks: {error}") from None
        provenance.write_json(job.folder / "statistics.json", statistics)


if __name__ == "__main__":
    provenance.run(main)
