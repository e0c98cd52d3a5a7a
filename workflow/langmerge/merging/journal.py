"""Going on after a kill: a hidden folder with the weights so far, and a journal of the tensors that are complete.

The journal's first line says what is being merged from what; each other line names a tensor whose values are on
disk, with its statistics; the last one says that the folder is complete. A run that finds a journal of just the same
merge leaves those tensors out. Whatever else it finds is removed: it belongs to another merge.

Several folders appear together: first all are declared complete, then all take their names, then all journals are
removed. A folder that still has its journal thus tells a run after a kill that the others are there too.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

JOURNAL = ".journal.jsonl"

SECONDS = 5.0
"""Least time between two entries: each waits until the weights are on disk."""


class Journal:
    """The journal of one folder under construction. `identity` None: nothing can be resumed, nothing is noted."""

    def __init__(self, folder: Path, identity: Any) -> None:
        self._path = folder / JOURNAL
        self._lines: list[str] = []
        self._written = time.monotonic()
        self._head = None if identity is None else json.dumps({"merge": identity}, sort_keys=True)
        self.complete = False
        self.done: dict[str, Any] = self._read()

    @property
    def due(self) -> bool:
        """Whether entries should be written now."""
        return bool(self._lines) and time.monotonic() - self._written >= SECONDS

    def start(self, done: Mapping[str, Any] | None = None) -> None:
        """Begin the journal with the tensors `done` (default: those it has), whatever else it said.

        What was left out of `done` will be written again and is not on disk until then; the end of a line that
        a kill cut would spoil the next one.
        """
        self.done = dict(self.done if done is None else done)
        self.complete = False
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        entries = (entry_of(tensor, state) for tensor, state in self.done.items())
        _append(new, [str(self._head), *entries])
        new.replace(self._path)

    def note(self, entry: str) -> None:
        """A tensor is complete (but perhaps not on disk yet): its `entry`, to be written with the next ones."""
        self._lines.append(entry)

    def take(self) -> list[str]:
        """The entries that wait; they are now the caller's to `write` once their tensors are on disk."""
        lines, self._lines, self._written = self._lines, [], time.monotonic()
        return lines

    def write(self, lines: list[str]) -> None:
        """Append entries."""
        _append(self._path, lines)

    def finish(self) -> None:
        """All that belongs into the folder is there."""
        if self._head is not None and not self.complete:
            _append(self._path, [json.dumps({"complete": True})])
            self.complete = True

    def _read(self) -> dict[str, Any]:
        if self._head is None or not self._path.is_file():
            return {}
        head, *lines = self._path.read_text(encoding="utf-8").split("\n")
        if head != self._head:
            return {}
        done = {}
        for line in lines[:-1]:  # the last line is empty, or was cut by the kill
            try:
                entry = json.loads(line)
                if entry == {"complete": True}:
                    self.complete = True
                    break
                done[entry["tensor"]] = entry["state"]
            except (ValueError, KeyError, TypeError):
                break
        return done


@contextmanager
def resumable_folders(
    folders: Mapping[str, Path], identity: Any
) -> Iterator[tuple[dict[str, Path], dict[str, Journal]]]:
    """Hidden folders beside `folders`, with their journals, that all take their names once the block ends well.

    An error removes them; a kill or an interrupt leaves them for the next run with the same `identity`. If all
    journals are `complete`, the kill came while the folders took their names: there is nothing to do in the block.
    Raises FileExistsError if a folder is not empty, BlockingIOError if another process is just writing it,
    ValueError if two folders are one.
    """
    folders = {name: Path(folder) for name, folder in folders.items()}
    _check_distinct(folders)
    named = _named_by_a_killed_run(folders, identity)
    parts = {name: folder if name in named else _hidden(folder) for name, folder in folders.items()}
    unnamed = {name: part for name, part in parts.items() if name not in named}
    with ExitStack() as stack:
        for name, part in unnamed.items():
            stack.enter_context(_made(part))
            stack.enter_context(_locked(part, folders[name]))
            if _occupied(folders[name]):  # by a process that has finished meanwhile
                raise _exists(folders[name])
        journals = {name: Journal(part, identity) for name, part in parts.items()}
        created = [] if named else list(parts.values())
        try:
            for name, part in unnamed.items():
                if not journals[name].complete and not journals[name].done:
                    _empty(part)
            yield parts, journals
            for journal in journals.values():
                journal.finish()
            for name, part in unnamed.items():
                part.rename(folders[name])
                if created:
                    created.append(folders[name])
            for folder in folders.values():
                (folder / JOURNAL).unlink(missing_ok=True)
        except Exception:
            for folder in created:
                shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder that is made if need be, and is gone again if an error left nothing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except Exception:
        with suppress(OSError):
            folder.rmdir()
        raise


def _hidden(folder: Path) -> Path:
    """Where a folder is under construction."""
    return folder.parent / f".{folder.name}.partial"


def _occupied(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _exists(folder: Path) -> FileExistsError:
    return FileExistsError(f"{folder} exists already; remove it or write elsewhere")


def _check_distinct(folders: Mapping[str, Path]) -> None:
    """ValueError if two outputs go to one folder."""
    places: dict[Path, str] = {}
    for name, folder in folders.items():
        other = places.setdefault(folder.resolve(), name)
        if other != name:
            raise ValueError(f"outputs {other!r} and {name!r} both go to {folder}; give each a folder of its own")


def _named_by_a_killed_run(folders: Mapping[str, Path], identity: Any) -> set[str]:
    """Those of `folders` that took their names when a run of the same merge was killed.

    Raises FileExistsError for any other folder that is not empty, or if the rest of that run is gone.
    """
    occupied = [name for name, folder in folders.items() if _occupied(folder)]
    if not any(Journal(folders[name], identity).complete for name in occupied):
        for name in occupied:
            raise _exists(folders[name])
    for name, folder in folders.items():
        hidden = _hidden(folder)
        if name in occupied and hidden.exists() and not Journal(folder, identity).complete:
            raise _exists(folder)
        if occupied and name not in occupied and not Journal(hidden, identity).complete:
            raise FileExistsError(
                f"{folders[occupied[0]]} is what a killed run of this merge left, but {folder} of the same run is "
                f"missing; remove {', '.join(str(folders[other]) for other in occupied)} and merge again"
            )
    return set(occupied)


@contextmanager
def _locked(partial: Path, folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{folder}: another process is writing it right now") from None
        yield
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def common(journals: Mapping[str, Journal]) -> dict[str, Any]:
    """Tensors that are complete in every folder of a pass, with their statistics."""
    first, *others = journals.values()
    return {name: state for name, state in first.done.items() if all(name in other.done for other in others)}


def entry_of(tensor: str, state: Any) -> str:
    """The line that notes a complete tensor with its statistics."""
    return json.dumps({"tensor": tensor, "state": state})


def _append(path: Path, lines: list[str]) -> None:
    """Append lines to a file and wait until they are on disk."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
