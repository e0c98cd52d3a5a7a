"""DVC as the store of results: pointers in ``data/versions``, a cache on this machine, a remote elsewhere.

One pointer file stands for one folder of a study (its corpora, its models, ...): DVC is fast with few large folders
and slow with many small ones. DVC allows one writer, so no job may call it; :mod:`langmerge.snapshot` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from langmerge.provenance import InputError

POINTERS = Path("data/versions")
REMOTE = "store"
REMOTE_VARIABLE = "LANGMERGE_REMOTE"
# Never versioned: Snakemake's time stamps and the folders of unfinished jobs.
IGNORED = (".snakemake_timestamp", ".*.part")


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its two output streams come back as one."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def dvc(*arguments: str, hint: str = "") -> str:
    """Run DVC and return what it prints; :class:`InputError` with its message and ``hint`` if it fails."""
    done = call(sys.executable, "-m", "dvc", *arguments)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments[:4])} failed: {done.stdout.strip()}\n{hint}".rstrip())
    return done.stdout


def prepare() -> str:
    """Set up DVC where it is not, with a folder beside the repository as its remote; return the remote's address."""
    if not Path(".dvc/config").is_file():
        # `dvc init` would stage files in Git and empty a `.dvc` whose cache holds versions of other commits.
        Path(".dvc").mkdir(exist_ok=True)
        Path(".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
        Path(".dvc/config").write_text(
            "[core]\n    analytics = false\n    autostage = false\n    check_update = false\n"
            '[cache]\n    type = "reflink,hardlink,copy"\n',
            encoding="utf-8",
        )
    ignore = Path(".dvcignore")
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    if not set(IGNORED) <= set(lines):
        ignore.write_text("\n".join(dict.fromkeys([*lines, *IGNORED])) + "\n", encoding="utf-8")
    remote = default_remote(settings())
    if remote:
        return remote[1]
    url = os.environ.get(REMOTE_VARIABLE) or f"../{Path.cwd().name}-dvc-store"
    dvc("remote", "add", "--quiet", "--default", REMOTE, url)
    return url


def settings() -> dict[str, str]:
    """DVC's settings by ``section.key``, those of this checkout over those of the repository and the machine."""
    pairs = (line.partition("=") for line in dvc("config", "--list").splitlines())
    return {key: value for key, _, value in pairs}


def default_remote(values: dict[str, str]) -> tuple[str, str] | None:
    """Name and address of DVC's default remote; ``LANGMERGE_REMOTE`` replaces the address for this checkout."""
    name = values.get("core.remote")
    if not name:
        return None
    url = values[f"remote.{name}.url"]
    wanted = os.environ.get(REMOTE_VARIABLE, "")
    if wanted and "://" not in wanted:
        wanted = str(Path(wanted).resolve())
    if wanted and wanted != url:
        dvc("remote", "modify", "--quiet", "--local", name, "url", wanted)
    return name, wanted or url


def saved_folders() -> dict[Path, Path]:
    """Pointer file to the folder that it stands for."""
    found = {}
    for pointer in sorted(POINTERS.rglob("*.dvc")):
        for out in yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"]:
            found[pointer] = Path(out["path"])
    return found


def point_at(folders: Sequence[Path]) -> None:
    """Make the pointers of ``folders`` (below ``results``) where they are missing, and drop all others."""
    wanted = {POINTERS / f"{Path(*folder.parts[1:])}.dvc": folder for folder in folders}
    for pointer, folder in saved_folders().items():
        if pointer not in wanted:
            print(f"{folder} is gone: it is not part of this version")
            pointer.unlink()
    for pointer, folder in wanted.items():
        if not pointer.is_file():
            pointer.parent.mkdir(parents=True, exist_ok=True)
            root = "/".join([".."] * len(pointer.parent.parts))
            pointer.write_text(f"wdir: {root}\nouts:\n- path: {folder}\n", encoding="utf-8")


@contextlib.contextmanager
def pointers_kept_on_error() -> Iterator[None]:
    """Put all pointers back as they were if the block fails."""
    old = {path: path.read_bytes() for path in saved_folders()}
    try:
        yield
    except BaseException:
        for path in POINTERS.rglob("*.dvc"):
            path.unlink()
        for path, data in old.items():
            path.write_bytes(data)
        raise


def cached(cache: Path, digest: str) -> Path:
    """Where the folder ``cache`` keeps the content with this MD5."""
    return cache / "files/md5" / digest[:2] / digest[2:]


def fetch() -> tuple[Path, list[str]]:
    """Bring all saved files into DVC's cache; return the cache and the files' paths. ``results`` is not touched.

    Raises :class:`InputError` if a file cannot be had: DVC itself passes over a remote that does not exist.
    """
    values = settings()
    remote, cache = default_remote(values), Path(values.get("cache.dir", ".dvc/cache"))
    if remote is None:
        raise InputError(f"DVC has no default remote; set {REMOTE_VARIABLE} to the place of the saved results")
    name, url = remote
    gone = "://" not in url and not Path(url).is_dir()
    mend = f"name the place of the saved results: `{REMOTE_VARIABLE}=FOLDER make restore` (or ssh://..., s3://...)"
    if not gone:
        dvc("fetch", "--quiet", *map(str, saved_folders()), hint=mend)
    files: list[str] = []
    missing: list[str] = []
    for pointer, folder in saved_folders().items():
        digest = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0].get("md5", "-")
        members = [{"relpath": "", "md5": digest}]
        if digest.endswith(".dir") and cached(cache, digest).is_file():
            members = json.loads(cached(cache, digest).read_text(encoding="utf-8"))
        for member in members:
            found = files if cached(cache, member["md5"]).is_file() else missing
            found.append(str(folder / member["relpath"]))
    if missing:
        place = f"the folder {url} does not exist" if gone else url
        raise InputError(f"saved files of {missing[0]} are not in DVC's remote '{name}' ({place}); {mend}")
    return cache, files
