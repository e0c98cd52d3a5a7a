"""Each job gets GPUs of its own, and gives them back however it ends."""

import os
import subprocess
import sys
import textwrap

import pytest

from langmerge import devices


def test_gpus_are_those_named_else_those_with_a_device_file(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_gpus(tmp_path) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert devices.visible_gpus(tmp_path) == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.visible_gpus(tmp_path) == []


def run(tmp_path, count, code):
    """Start a command that is given GPUs out of 0 and 1."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "langmerge.devices", str(count), "--", sys.executable, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


SAY_AND_WAIT = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"
SAY = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"


@pytest.mark.parametrize("end", ["finish", "kill"])
def test_two_jobs_do_not_share_a_gpu_and_a_third_waits(tmp_path, end):
    first, second = run(tmp_path, 1, SAY_AND_WAIT), run(tmp_path, 1, SAY_AND_WAIT)
    given = {job.stdout.readline().strip() for job in (first, second)}
    assert given == {"0", "1"}
    third = run(tmp_path, 1, SAY)
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(timeout=1.5)
    first.kill() if end == "kill" else first.communicate("\n")
    assert third.communicate(timeout=20)[0].strip() in given
    second.communicate("\n")


def test_a_job_of_two_gpus_gets_both(tmp_path):
    assert run(tmp_path, 2, SAY).communicate(timeout=20)[0].strip() == "0,1"


def test_more_than_there_are_is_an_error(tmp_path):
    job = run(tmp_path, 3, SAY)
    assert "3 GPUs asked for, 2 visible" in job.communicate(timeout=20)[1]
    assert job.returncode == 1
