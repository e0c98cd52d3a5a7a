"""Jobs as forks of one process that has imported the large libraries already.

To import torch and transformers takes three CPU-seconds, which is more than many a job of a small study has to do.
``python -m langmerge.forkserver MODULE ARGUMENTS`` does what ``python -m MODULE ARGUMENTS`` does; if the workflow runs
on this machine it has started a server (:func:`start`), and the module then runs in a fork of it, with the caller's
environment, working directory, standard streams and exit status. Where there is no server (another machine, another
Python, a command typed by hand) the module runs right here.

The server holds libraries only and none of the project's own code, so that every job reads that anew; it has one
thread and has touched no GPU, which is what makes forking it safe. A job whose caller is gone is interrupted.

``LANGMERGE_FORKSERVER=off`` in the environment of Snakemake does without.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from langmerge.garbage import without_collection

ADDRESS = "LANGMERGE_FORKSERVER"
"""Environment variable: path of the server's socket, or `off`."""

LIBRARIES = (
    "safetensors.torch",
    "tokenizers",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.generation",
    "pydantic.main",
    "pydantic.fields",
    "tensorboard.compat.proto.summary_pb2",
    "tensorboard.summary.writer.event_file_writer",
    "scipy.stats",
    "sacrebleu",
)
ELSEWHERE = b"elsewhere"
"""What the server answers a caller with another Python."""

GRACE = 60.0
"""Seconds that a job whose caller is gone has to stop by itself: a training finishes its step and saves its state."""


# ---- the server ----------------------------------------------------------------------------------------------------


def start(at_once: bool = False) -> None:
    """Start a server that lives as long as this process, and put its address into the environment of its jobs.

    Callers can connect at once and wait until the libraries are there. It imports these for the first caller, or
    ``at_once``: where callers are sure to come, what runs before them need not end first.
    """
    if ADDRESS in os.environ:
        return
    path = Path(tempfile.mkdtemp(prefix="langmerge-")) / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)
        alive, _ = os.pipe()  # its other end is closed by the end of this process, however it ends
        subprocess.Popen(
            [sys.executable, "-m", "langmerge.forkserver", "--serve", str(listener.fileno()), str(int(at_once))],
            stdin=alive,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        )
        os.close(alive)
    os.environ[ADDRESS] = str(path)


def serve(listener: socket.socket, at_once: bool) -> None:
    """Import the libraries, for the first caller or ``at_once``, and fork for each, until standard input ends.

    Removes the socket and its folder in the end.
    """
    path = Path(listener.getsockname())
    try:
        if not at_once and not _called(listener):
            return
        with without_collection():
            for library in LIBRARIES:
                with contextlib.suppress(ImportError):  # the job that needs it will say so
                    importlib.import_module(library)
            _read_conversions()
        gc.freeze()  # the forks share these pages as long as nobody looks at them
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        while _called(listener):
            caller, _ = listener.accept()
            if os.fork() == 0:
                try:
                    listener.close()
                    _attend(caller)
                finally:
                    os._exit(0)
            caller.close()
    finally:
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _read_conversions() -> None:
    """Have transformers build its table of how checkpoints are converted: a tenth of a second in a first loading."""
    with contextlib.suppress(ImportError, AttributeError):  # other releases load without it
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")


def _called(listener: socket.socket) -> bool:
    """Wait: True once somebody calls, False once standard input has ended."""
    return sys.stdin not in select.select([listener, sys.stdin], [], [])[0]


def _attend(caller: socket.socket) -> None:
    """In a fork of the server: run one caller's job in a fork of its own, and tell the caller how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)  # with the job and all that it starts
    _, streams, _, _ = socket.recv_fds(caller, 1, 2)
    with caller.makefile("rb") as file:
        request = json.loads(file.readline())
    if request["python"] != sys.prefix:
        caller.sendall(ELSEWHERE)
        return
    job = multiprocessing.get_context("fork").Process(target=_run, args=(request, streams))
    job.start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if job.sentinel not in wait([caller, job.sentinel]):
        os.killpg(0, signal.SIGINT)
        job.join(GRACE)
        os.killpg(0, signal.SIGKILL)
    job.join()
    caller.sendall(str(job.exitcode).encode())


def _run(request: Mapping[str, Any], streams: list[int]) -> None:
    """Become ``python -m MODULE ARGUMENTS`` of the request."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background has it ignored
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    sys.argv = list(request["command"])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


# ---- the caller ----------------------------------------------------------------------------------------------------


def call(address: str, command: list[str]) -> int | None:
    """Exit status of ``python -m COMMAND``, run by the server at this address; None if there is none for us.

    A negative status is the signal that ended the job.
    """
    request = {
        "python": sys.prefix,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "command": command,
    }
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
            socket.send_fds(server, [b"\0"], [1, 2])
            server.sendall(json.dumps(request).encode() + b"\n")
            answer = server.recv(64)
        except OSError:
            return None
    if answer == ELSEWHERE:
        return None
    if not answer:
        sys.exit(f"error: the process that {command[0]} was forked from has ended; run snakemake again")
    return int(answer)


def main(command: list[str]) -> None:
    """Run a module by the server, or as a process of its own."""
    if command[0] == "--serve":
        serve(socket.socket(fileno=int(command[1])), command[2] == "1")
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # to the job, that we are gone is enough
    address = os.environ.get(ADDRESS, "off")
    status = None if address == "off" else call(address, command)
    if status is None:
        os.execv(sys.executable, [sys.executable, "-m", *command])
    sys.exit(128 - status if status < 0 else status)


if __name__ == "__main__":
    main(sys.argv[1:])
