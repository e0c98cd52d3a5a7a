"""Jobs that prepare and check sentence pairs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import yaml

import langmerge
from langmerge.config import EmbeddedCorpus, EmbeddedTasks, FilesCorpus, FileTasks
from langmerge.plan.graph import Draft, Job
from langmerge.provenance import InputError

PACKAGE = Path(langmerge.__file__).parent
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # grammars are long, and read at each start


def add_corpora(draft: Draft) -> None:
    """One job per language, so that a new language touches no other's data, and one that looks across them."""
    corpus, pivot = draft.study.corpus, draft.study.pivot
    for language in draft.languages():
        files, modules = dependencies(corpus, pivot, language)
        spec = {"corpus": corpus.model_dump(mode="json"), "pivot": pivot, "language": language}
        draft.add_job(Job("prepare_corpus", f"{draft.root}/corpora/{language}", spec, files=files, modules=modules))
    draft.add_job(
        Job(
            "check_corpora",
            f"{draft.root}/corpora_check",
            {"languages": draft.languages(), "pivot": pivot},
            draft.pairs(draft.languages()),
            modules=("langmerge.corpora.contamination",),
        )
    )


def check_files(jobs: Iterable[Job]) -> None:
    """:class:`InputError` for a data file that is not there, with the nearest name in its folder."""
    for job in jobs:
        for path in map(Path, job.files):
            if not path.is_file():
                present = sorted(other.name for other in path.parent.glob("*")) if path.parent.is_dir() else []
                near = difflib.get_close_matches(path.name, present, n=1)
                hint = f"did you mean {near[0]}?" if near else "check corpus.splits and data_root"
                raise InputError(f"{path}: file not found, needed for {job.folder}; {hint}")


def dependencies(
    corpus: EmbeddedCorpus | FilesCorpus, pivot: str, language: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Data files and code modules that one language's corpus depends on, and no other language's."""
    if isinstance(corpus, FilesCorpus):
        try:
            own = corpus.source_of(language)
        except ValueError as error:
            raise InputError(f"languages: {error}") from None
        sources = [source.filled(pivot, own) for source in corpus.splits.values()]
        files = [path for source in sources for path in (source.path, source.target_path) if path]
        return tuple(dict.fromkeys(files)), ("langmerge.corpora.prepare",)
    folder = Path(corpus.grammar)
    files, modules = [str(folder / "world.yaml")], ["langmerge.corpora.prepare"]
    # English always: two meanings are told apart by their English sentences.
    for code in dict.fromkeys(["en", pivot, language]):
        for name in filter(None, (code, _transform_of(folder, code))):
            files.append(str(folder / "languages" / f"{name}.yaml"))
            if (PACKAGE / "corpora/grammar/languages" / f"{name}.py").is_file():
                modules.append(f"langmerge.corpora.grammar.languages.{name}")
    return tuple(dict.fromkeys(files)), tuple(dict.fromkeys(modules))


def task_dependencies(
    corpus: EmbeddedCorpus | FilesCorpus, tasks: EmbeddedTasks | FileTasks, pivot: str, language: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Data files and code modules that one language's tasks depend on, and no other language's."""
    if isinstance(tasks, FileTasks):
        own = tasks.splits(language)
        sources = [s.filled(language, split) for task, s in tasks.tasks.items() if task in own for split in s.splits]
        return tuple(dict.fromkeys(source.path for source in sources if source.path)), ("langmerge.corpora.tasks",)
    if not isinstance(corpus, EmbeddedCorpus):
        raise InputError("tasks.kind: embedded tasks need the embedded corpus; set corpus.kind or tasks.kind: files")
    files, modules = dependencies(corpus, pivot, language)
    phrases = Path(corpus.grammar) / "tasks"
    phrase_files = [str(path) for path in (phrases / "world.yaml", phrases / f"{language}.yaml") if path.is_file()]
    return (*files, *phrase_files), ("langmerge.corpora.tasks", *modules)


def _transform_of(folder: Path, code: str) -> str | None:
    """The language that ``code`` is declared a transform of, by its file's head; None for a natural language."""
    path = folder / "languages" / f"{code}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (folder / "languages").glob("*.yaml")))
        raise InputError(
            f"{path}: no grammar for the language {code}; expected one of {known}, "
            "or add its files (data/grammar/README.md)"
        )
    head = (yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER) or {}).get("language", {})
    return head.get("transform_of")
