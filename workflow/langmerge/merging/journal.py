"""Going on after a kill: a hidden folder with the weights so far, and a journal of the tensors that are complete.

The journal's first line says what is being merged from what; each other line names a tensor whose values are on
disk, with its statistics. A run that finds a journal of just the same merge leaves those tensors out. Whatever else it
finds is removed: it belongs to another merge.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        self.done: dict[str, Any] = {}
        if identity is None:
            return
        self._head = json.dumps({"merge": identity}, sort_keys=True)
        self.done = self._read()

    @property
    def due(self) -> bool:
        """Whether entries should be written now."""
        return bool(self._lines) and time.monotonic() - self._written >= SECONDS

    def start(self) -> None:
        """Begin the journal, unless it is there already."""
        if not self.done:
            self._append([self._head])

    def note(self, tensor: str, state: Any) -> None:
        """A tensor is complete (but perhaps not on disk yet): to be written with the next entries."""
        self._lines.append(json.dumps({"tensor": tensor, "state": state}))

    def take(self) -> list[str]:
        """The entries that wait; they are now the caller's to `write` once their tensors are on disk."""
        lines, self._lines, self._written = self._lines, [], time.monotonic()
        return lines

    def write(self, lines: list[str]) -> None:
        """Append entries."""
        self._append(lines)

    def remove(self) -> None:
        """The folder is complete."""
        self._path.unlink(missing_ok=True)

    def _append(self, lines: list[str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> dict[str, Any]:
        if not self._path.is_file():
            return {}
        head, *lines = self._path.read_text(encoding="utf-8").split("\n")
        if head != self._head:
            return {}
        done = {}
        for line in lines[:-1]:  # the last line is empty, or was cut by the kill
            try:
                entry = json.loads(line)
                done[entry["tensor"]] = entry["state"]
            except (ValueError, KeyError, TypeError):
                break
        return done


@contextmanager
def resumable_folder(folder: Path, identity: Any) -> Iterator[tuple[Path, Journal]]:
    """A hidden folder beside `folder` that takes its name once the block ends well.

    An error removes it; a kill or an interrupt leaves it for the next run with the same `identity`. Raises
    FileExistsError if `folder` is not empty, BlockingIOError if another process is just writing it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already; remove it or write elsewhere")
    partial = folder.parent / f".{folder.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    with _locked(partial, folder):
        journal = Journal(partial, identity)
        if not journal.done:
            _empty(partial)
        try:
            yield partial, journal
            journal.remove()
            partial.rename(folder)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise


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
