"""A job by the fork server ends, prints and looks like one started as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from langmerge import forkserver

HOLDER = """
import os
from langmerge import forkserver
forkserver.start()
print(os.environ[forkserver.ADDRESS], flush=True)
input()
"""
LONG = """
import time
try:
    open("begun", "w").close()
    time.sleep(60)
finally:
    open("cleaned", "w").close()
"""

ALONE = """
import socket, sys, tempfile
from pathlib import Path
from langmerge import forkserver
forkserver.LIBRARIES = ("colorsys",)
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(Path(tempfile.mkdtemp()) / "socket"))
listener.listen()
forkserver.serve(listener, sys.argv[1] == "at once")
print("colorsys" in sys.modules)
"""

JOBS = {
    "look": (
        "import os, sys; print(os.getcwd(), os.environ.get('COLOUR'), sys.argv[1:], __name__);"
        " print('aside', file=sys.stderr)"
    ),
    "says": "import sys; sys.exit('error: corpus.yaml: no such key')",
    "three": "import sys; sys.exit(3)",
    "fails": "def f():\n    raise KeyError('lost')\nf()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.fixture(scope="module", params=["foreground", "background"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server as Snakemake's process starts it; it must end with that process, and leave nothing.

    What a shell without job control starts in the background (`nohup snakemake &` in a script) ignores SIGINT.
    """
    background = request.param == "background"
    environment = {name: value for name, value in os.environ.items() if name != forkserver.ADDRESS}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None,
    )
    assert holder.stdout is not None
    address = holder.stdout.readline().strip()
    yield address
    holder.kill()
    holder.communicate()
    deadline = time.monotonic() + 20
    while Path(address).parent.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(address).parent.exists()


def run(folder: Path, *command: str, address: str = "off", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "langmerge.forkserver", *command],
        cwd=folder,
        env={**os.environ, forkserver.ADDRESS: address, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in JOBS.items():
        (tmp_path / f"{name}.py").write_text(code)
    return tmp_path


@pytest.mark.parametrize("job", ["look", "says", "three"])
def test_the_same_by_the_server_and_alone(folder: Path, address: str, job: str) -> None:
    alone = run(folder, job, "--spec", '{"a": "ü\'"}', COLOUR="red")
    forked = run(folder, job, "--spec", '{"a": "ü\'"}', COLOUR="red", address=address)
    assert (forked.returncode, forked.stdout, forked.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    assert (forked.stdout or forked.stderr) != "" or job == "three"


def test_what_a_job_sees_is_the_callers(folder: Path, address: str) -> None:
    forked = run(folder, "look", "x", COLOUR="red", address=address)
    assert forked.stdout == f"{folder} red ['x'] __main__\n"
    assert forked.stderr == "aside\n"


def test_failures_reach_the_caller(folder: Path, address: str) -> None:
    assert run(folder, "three", address=address).returncode == 3
    fails = run(folder, "fails", address=address)
    assert fails.returncode == 1
    assert "KeyError: 'lost'" in fails.stderr
    assert run(folder, "killed", address=address).returncode == 128 + signal.SIGKILL


def test_libraries_are_there_and_the_projects_own_code_is_not(folder: Path, address: str) -> None:
    (folder / "modules.py").write_text("import sys; print(*sorted(sys.modules))")
    loaded = run(folder, "modules", address=address).stdout.split()
    assert {"torch", "transformers.models.llama.modeling_llama"} <= set(loaded)
    assert {name for name in loaded if name.startswith("langmerge.")} == {"langmerge.garbage"}
    assert "torch" not in run(folder, "modules").stdout.split()


def test_code_is_read_anew_by_every_job(folder: Path, address: str) -> None:
    (folder / "edited.py").write_text("print('before')")
    assert run(folder, "edited", address=address).stdout == "before\n"
    (folder / "edited.py").write_text("print('after it')")
    assert run(folder, "edited", address=address).stdout == "after it\n"


def test_a_server_has_one_thread_and_no_gpu(folder: Path, address: str) -> None:
    (folder / "state.py").write_text(
        "import os, threading, torch; print(threading.active_count(), len(os.listdir('/proc/self/task')),"
        " torch.cuda.is_initialized())"
    )
    assert run(folder, "state", address=address).stdout == "1 1 False\n"


def test_threads_are_the_jobs_own(folder: Path, address: str) -> None:
    (folder / "threads.py").write_text(
        "import torch; from langmerge import models; models.set_threads(); print(torch.get_num_threads())"
    )
    assert run(folder, "threads", address=address, OMP_NUM_THREADS="2").stdout == "2\n"
    assert run(folder, "threads", address=address, OMP_NUM_THREADS="1").stdout == "1\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_job_whose_caller_is_gone_is_interrupted_and_cleans_up(
    folder: Path, address: str, number: signal.Signals
) -> None:
    (folder / "long.py").write_text(LONG)
    caller = subprocess.Popen(
        [sys.executable, "-m", "langmerge.forkserver", "long"],
        cwd=folder,
        env={**os.environ, forkserver.ADDRESS: address},
        stderr=subprocess.DEVNULL,
    )
    _wait_for(folder / "begun")
    caller.send_signal(number)
    assert caller.wait(timeout=20) == -number
    _wait_for(folder / "cleaned")


def test_the_end_of_the_jobs_attendant_is_an_error(folder: Path, address: str) -> None:
    (folder / "orphan.py").write_text("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    orphan = run(folder, "orphan", address=address)
    assert orphan.returncode == 1
    assert orphan.stderr == "error: the process that orphan was forked from has ended; run snakemake again\n"


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name} after 20 s"
        time.sleep(0.02)


def test_another_python_is_not_served(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/somewhere/else")
    assert forkserver.call(address, ["look"]) is None


def test_without_a_server_the_module_runs_alone(folder: Path) -> None:
    gone = run(folder, "look", address=str(folder / "socket"), COLOUR="red")
    assert gone.stdout == f"{folder} red [] __main__\n"


def test_a_server_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forkserver.ADDRESS, "off")
    forkserver.start()
    assert os.environ[forkserver.ADDRESS] == "off"


@pytest.mark.parametrize(("when", "loaded"), [("at once", "True"), ("when called", "False")])
def test_a_server_that_nobody_calls_loads_its_libraries_only_if_told_to(when, loaded):
    done = subprocess.run([sys.executable, "-c", ALONE, when], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout.strip() == loaded, done.stderr
