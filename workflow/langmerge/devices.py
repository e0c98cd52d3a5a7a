"""GPUs of a shared machine: Snakemake counts them, this gives each job its own.

``python -m langmerge.devices N -- COMMAND`` runs the command with N free GPUs in ``CUDA_VISIBLE_DEVICES``. A GPU is
taken by a lock on a file, held by the command's own process, so that it is free again the moment the command ends,
however it ends.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path


def visible_gpus(folder: Path = Path("/dev")) -> list[str]:
    """Names of the GPUs that this process may use: ``CUDA_VISIBLE_DEVICES``, else all that have a device file."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    return sorted(path.name.removeprefix("nvidia") for path in folder.glob("nvidia[0-9]*"))


def claim(count: int, names: list[str], folder: Path) -> list[str] | None:
    """Lock ``count`` of the named GPUs for the life of this process (and what it becomes); None if too few are free."""
    taken: list[tuple[str, int]] = []
    for name in names:
        file = os.open(folder / f"langmerge-gpu-{name}.lock", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        taken.append((name, file))
        if len(taken) == count:
            for _, held in taken:
                os.set_inheritable(held, True)
            return [name for name, _ in taken]
    for _, file in taken:
        os.close(file)
    return None


def main(arguments: list[str]) -> None:
    """Wait for free GPUs, then become the command."""
    count, command = int(arguments[0]), arguments[2:]
    names = visible_gpus()
    if count > len(names):
        sys.exit(f"error: {count} GPUs asked for, {len(names)} visible; lower `gpus` in the study's training")
    claimed = None
    while claimed is None:
        claimed = claim(count, names, Path(tempfile.gettempdir()))
        if claimed is None:
            time.sleep(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claimed)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
