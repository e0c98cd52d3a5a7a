"""A disk on which the k-th operation that changes it fails, or during which the process is killed."""

import errno
import os
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from unittest import mock


class Disk:
    """Counts operations that change the disk; before number `fatal` (from 0) it calls `trouble`."""

    def __init__(self, fatal, trouble):
        self.fatal, self.trouble = fatal, trouble
        self.seen = []
        self._lock = Lock()

    def touch(self, operation):
        with self._lock:
            self.seen.append(operation)
            now = len(self.seen) - 1 == self.fatal
        if now:
            self.trouble()


class File:
    """An open file of which each write and flush is an operation."""

    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def write(self, data):
        self._disk.touch("write")
        return self._file.write(data)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._disk.touch("flush")
        self._file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


@contextmanager
def disk(fatal=-1, trouble=None):
    """Within the block, operations are counted and number `fatal` (from 0) is in trouble (default: no space left)."""
    watcher = Disk(fatal, trouble or no_space)
    opened = Path.open

    def open_(path, mode="r", *arguments, **named):
        if not set(mode) & set("wa+x"):
            return opened(path, mode, *arguments, **named)
        watcher.touch(f"open {path.name}")
        return File(watcher, opened(path, mode, *arguments, **named))

    def fsync(handle, fsync=os.fsync):
        watcher.touch("fsync")
        fsync(handle)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Path, "open", open_))
        stack.enter_context(mock.patch.object(os, "fsync", fsync))
        for name in ("mkdir", "rename", "replace", "unlink"):
            stack.enter_context(mock.patch.object(Path, name, _method(watcher, name, getattr(Path, name))))
        yield watcher


def _method(watcher, name, function):
    def method(path, *arguments, **named):
        watcher.touch(f"{name} {path.name}")
        return function(path, *arguments, **named)

    return method


def no_space():
    """What a full disk says."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill():
    """End this process at once, without any clearing up."""
    os.kill(os.getpid(), signal.SIGKILL)
