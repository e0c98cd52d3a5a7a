"""Versions of finished results: ``python -m langmerge.snapshot save`` and ``restore [REVISION]``.

Git holds the configuration and the code; DVC holds what Snakemake made from them. A *version* is a Git commit whose
pointers in ``data/versions`` name the results that belong to it. A version also holds Snakemake's records (parameters,
code and checksums of every job), because results without them would be accepted by age alone. Results and records are
therefore only ever replaced together, while Snakemake's own lock keeps runs away.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from langmerge import store
from langmerge.provenance import MANIFEST, InputError, canonical, read_json, run, sha256_file, sha256_text, write_json
from langmerge.store import IGNORED, POINTERS, call

RESULTS = Path("results")
PROVENANCE = RESULTS / "provenance"
VERSIONS = PROVENANCE / "versions.json"
SAVED_RECORDS = PROVENANCE / "snakemake-metadata"
RECORDS = Path(".snakemake/metadata")
LOCKS = Path(".snakemake/locks")
OWN_LOCK = LOCKS / "1000.output.lock"  # Snakemake reads every NUMBER.output.lock; its own number is a small one
LOCKFILE = Path("envs/requirements.lock")
LIBRARIES = (
    *("accelerate", "datasets", "dvc", "langmerge", "numpy", "pandas", "sacrebleu", "safetensors", "scipy"),
    *("snakemake", "tokenizers", "torch", "transformers"),
)
# The one output that a rule may declare temporary (`keep_merges: false`); its hashes stay in the manifest.
TEMPORARY = "merged/"


# ---- the tools -----------------------------------------------------------------------------------------------------


def _git(*arguments: str) -> str:
    done = call("git", *arguments)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)} failed: {done.stdout.strip()}")
    return done.stdout


def _pending(config: Sequence[str]) -> str:
    """What Snakemake would do, as its table of jobs; empty if there is nothing to be done."""
    overrides = ["--config", *config] if config else []
    done = call(sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", *overrides)
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InputError(f"`snakemake -n` failed, so nothing can be said about the results:\n{tail}")
    if "Nothing to be done" in done.stdout:
        return ""
    table = re.search(r"^Job stats:\n(.*?)\n\s*\n", done.stdout, re.DOTALL | re.MULTILINE)
    return table.group(1) if table else done.stdout.strip()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of save and restore; :class:`InputError` if another process holds it or Snakemake is running."""
    if not Path("Snakefile").is_file() or not Path(".git").exists():
        raise InputError(f"{Path.cwd()}: no Snakefile and .git here; call this in the root folder of the repository")
    Path(".snakemake").mkdir(exist_ok=True)
    with Path(".snakemake/snapshot.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("another save or restore is running in this folder; wait until it has ended") from None
        if any(path != OWN_LOCK for path in LOCKS.glob("*.lock")):
            raise InputError(
                "Snakemake is running in this folder (.snakemake/locks); wait until it has ended. "
                "If it was killed: `snakemake --unlock`, then `snakemake --cores all` to complete the run"
            )
        yield


def _lock_snakemake(files: Sequence[str]) -> None:
    """Let Snakemake refuse to run jobs on ``files`` until ``OWN_LOCK`` is removed, even if this process is killed."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    OWN_LOCK.write_text("\n".join(files) + "\n", encoding="utf-8")


# ---- results and their records -------------------------------------------------------------------------------------


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Snakemake's records by output path. The file name is the path in base 64, long ones cut into folders ``@...``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
            found[base64.urlsafe_b64decode(name).decode()] = dict(read_json(path))
    return found


def _folders() -> list[Path]:
    """What gets a pointer: each folder of each study, and the provenance of all."""
    children = (path for path in RESULTS.glob("*/*") if PROVENANCE not in path.parents and path.name[0] != ".")
    return [*sorted(path for path in children if any(file.is_file() for file in [path, *path.rglob("*")])), PROVENANCE]


def _manifests() -> list[Path]:
    """The manifests of results. One inside another result (a model that a sweep keeps) is among that one's files."""
    paths = [path for path in RESULTS.rglob(MANIFEST) if not any(part.startswith(".") for part in path.parts)]
    owners = {path.parent for path in paths}
    return sorted(path for path in paths if owners.isdisjoint(path.parent.parents))


def faults() -> list[str]:
    """What is wrong with the results, one line each: files unlike their manifest, manifests unlike Snakemake's record.

    The second catches results of another version that were put here without their records.
    """
    known, found = records(RECORDS), []
    for path in _manifests():
        manifest = read_json(path)
        for name, expected in manifest["outputs"].items():
            file = path.parent / name
            if not file.is_file():
                if not name.startswith(TEMPORARY):
                    found.append(f"{file}: missing, but named in {MANIFEST}")
            elif sha256_file(file) != expected:
                found.append(f"{file}: changed since it was made (not the SHA-256 that {MANIFEST} gives it)")
        record = known.get(str(path))
        if record is None:
            found.append(f"{path}: Snakemake has no record of the job that made it")
        elif repr(canonical(manifest["spec"])) not in (record["params"] or []):
            found.append(f"{path}: made with other parameters than Snakemake has on record")
    return found


def _refuse_faults(mend: str) -> None:
    found = faults()
    if found:
        more = [f"... and {len(found) - 10} more"] if len(found) > 10 else []
        raise InputError("\n".join(["results do not match their manifests:", *found[:10], *more, mend]))


def _content(config: Sequence[str]) -> str:
    """One hash of all results, their records, the lock of the libraries and the configuration given in the call."""
    files = [*_manifests(), *sorted(path for path in RECORDS.rglob("*") if path.is_file())]
    lock = sha256_file(LOCKFILE) if LOCKFILE.is_file() else None
    return sha256_text(canonical([{str(path): sha256_file(path) for path in files}, lock, list(config)]))


def _device() -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpus = call(*query).stdout.strip().splitlines() if shutil.which("nvidia-smi") else []
    return {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count(), "gpus": gpus}


def _installed() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), **found}


def _uncommitted(*paths: str) -> list[str]:
    return [line[3:] for line in _git("status", "--porcelain", "--", *paths).splitlines()]


def _write_versions(config: Sequence[str]) -> None:
    """Write ``versions.json``, unless it already describes these very results made from a committed state."""
    content = _content(config)
    dirty = bool(_uncommitted(".", f":!{POINTERS}", ":!.dvc", ":!.dvcignore"))
    if VERSIONS.is_file():
        before = read_json(VERSIONS)
        if before["content"] == content and (dirty or not before["dirty"]):
            return
    write_json(
        VERSIONS,
        {
            "commit": _git("rev-parse", "HEAD").strip(),
            "dirty": dirty,
            "saved": int(time.time()),
            "content": content,
            "config": list(config),
            "lock": sha256_file(LOCKFILE) if LOCKFILE.is_file() else None,
            "libraries": _installed(),
            "device": _device(),
        },
    )


# ---- save and restore ----------------------------------------------------------------------------------------------


def save(config: Sequence[str] = ()) -> None:
    """Save the results of a complete run as a version: DVC's cache and remote hold them, ``data/versions`` names them.

    ``config`` are the ``KEY=VALUE`` pairs that the run got with ``--config``. Raises :class:`InputError` while
    Snakemake runs, if the run is not complete, or if a result does not match its manifest. Saving the same results
    again changes nothing.
    """
    with _alone():
        if OWN_LOCK.exists():
            raise InputError("a restore was cut off here; call `make restore` again before anything else")
        head = _git("rev-parse", "--verify", "HEAD").strip()  # fails where nothing was ever committed
        todo = _pending(config)
        if todo:
            raise InputError(f"the run is not complete; `snakemake --cores all` first. It would do:\n{todo}")
        _refuse_faults("Remove the folders of these results and run snakemake again, or `make restore`.")
        if not _manifests():
            raise InputError(f"{RESULTS}: no results to save; run `snakemake --cores all` first")
        before = _content(config)
        shutil.rmtree(SAVED_RECORDS, ignore_errors=True)
        shutil.copytree(RECORDS, SAVED_RECORDS, copy_function=shutil.copyfile)
        _write_versions(config)
        remote = store.prepare()
        with store.pointers_kept_on_error():
            folders = _folders()
            store.point_at(folders)
            store.dvc("add", "--quiet", *map(str, folders))
            if _content(config) != before:
                raise InputError("the results changed while they were saved; wait for Snakemake to end and save again")
        store.dvc("push", "--quiet", hint="The version is complete on this machine; `make snapshot` again pushes it.")
        _report_saved(head, remote)


def _report_saved(head: str, remote: str) -> None:
    outside = {name for record in records(RECORDS).values() for name in record["input"] if name.startswith("/")}
    if outside:
        print(
            f"note: jobs read {len(outside)} files by absolute path (first: {min(outside)}); "
            "where that path does not exist, a restored version makes their results again"
        )
    print(f"saved to {remote}")
    changed = _uncommitted(str(POINTERS), ".dvc", ".dvcignore")
    others = _uncommitted(".", f":!{POINTERS}", ":!.dvc", ":!.dvcignore")
    if others:
        print(f"not yet committed, but part of this version: {', '.join(others[:10])}{' ...' * (len(others) > 10)}")
    if changed or others:
        print("to name this version in Git:")
        print(f"  git add {POINTERS} .dvc .dvcignore{' ' + ' '.join(others[:10]) if others else ''}")
        print('  git commit -m "Save results"')
    else:
        print(f"nothing new: commit {head[:12]} already names these results")


def restore(revision: str | None = None, force: bool = False, config: Sequence[str] | None = None) -> None:
    """Put the results of a version, and Snakemake's records of them, in the place of what is here.

    ``revision`` is checked out with Git first; without it the version of the current commit is restored. ``force``
    gives up results that no version holds. ``config`` replaces the ``KEY=VALUE`` pairs that were saved. Raises
    :class:`InputError` while Snakemake runs, on uncommitted changes, if saved files cannot be had, and if a restored
    result does not match its manifest.
    """
    with _alone():
        if revision:
            _check_out(revision)
        pending = _uncommitted(str(POINTERS), ".dvc", "config") if Path(".dvc/config").is_file() else []
        if pending:
            raise InputError(
                f"{', '.join(pending)}: not committed, so it would be unclear which version is restored; "
                "`git commit` or `git restore` them first"
            )
        folders = list(store.saved_folders().values())
        if not Path(".dvc/config").is_file() or PROVENANCE not in folders:
            raise InputError(f"{POINTERS}: commit {_git('rev-parse', 'HEAD')[:12]} names no saved results")
        here = _present()
        cache, files = store.fetch()
        if not force:
            _refuse_unsaved(here, cache)
        # From here to the last line of the block the folder is between two versions. Whatever cuts this off, even a
        # kill, leaves Snakemake locked, and the next restore completes it.
        _lock_snakemake(sorted({*files, *map(str, here)}))
        for path in here:
            if not any(folder in path.parents for folder in folders):
                path.unlink()  # not of this version: its records go too, and only its age would be compared
        store.dvc("checkout", "--quiet", "--force", *map(str, store.saved_folders()))
        versions = read_json(VERSIONS)
        _replace_records()
        _set_times(folders, versions["saved"])
        OWN_LOCK.unlink()

        _refuse_faults(
            "The stored copy is damaged. If DVC's cache on this machine is at fault, `rm -r .dvc/cache` and restore "
            "with --force; otherwise remove the folders of these results and run snakemake."
        )
        given = versions["config"] if config is None else config
        todo = _pending(given)
        overrides = f" with --config {' '.join(given)}" if given else ""
        print(f"restored the results of commit {versions['commit'][:12]}{' (with changes)' * versions['dirty']}")
        print(f"snakemake{overrides} would do:\n{todo}" if todo else f"snakemake{overrides}: nothing to be done")


def _check_out(revision: str) -> None:
    """Check out a Git revision that names saved results; nothing happens on any doubt."""
    changed = [line[3:] for line in _git("status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        raise InputError(f"{', '.join(changed)}: changed; `git commit` or `git stash` before going to {revision}")
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    if f"{POINTERS}/provenance.dvc" not in _git("ls-tree", "-r", "--name-only", commit).splitlines():
        raise InputError(
            f"{revision}: this revision names no saved results; `git log -- {POINTERS}` lists those that do"
        )
    _git("checkout", "--quiet", revision)


def _present() -> list[Path]:
    """The files of ``results`` that versions care for."""
    files = (path for path in RESULTS.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in files if not any(fnmatch(part, name) for part in path.parts for name in IGNORED))


def _refuse_unsaved(files: Sequence[Path], cache: Path) -> None:
    """Refuse to replace files whose content DVC's cache does not hold: restoring them later would be impossible."""
    unsaved = []
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if not store.cached(cache, digest).is_file():
            unsaved.append(str(path))
    if unsaved:
        raise InputError(
            f"{', '.join(unsaved[:5])}{' ...' * (len(unsaved) > 5)}: in no version that this machine holds; "
            "`make snapshot` keeps them in one, `python -m langmerge.snapshot restore --force` gives them up"
        )


def _replace_records() -> None:
    """Put the saved records in the place of Snakemake's, as copies: Snakemake writes into them in place."""
    fresh = RECORDS.with_name("metadata.part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(SAVED_RECORDS, fresh, copy_function=shutil.copyfile)
    shutil.rmtree(RECORDS, ignore_errors=True)
    fresh.rename(RECORDS)
    shutil.rmtree(RECORDS.with_name("incomplete"), ignore_errors=True)
    RECORDS.with_name("incomplete").mkdir()


def _set_times(folders: Sequence[Path], saved: int) -> None:
    """Give all restored files the time at which they were saved.

    DVC stamps the time of the download. With that, an input that differs from the one on record but is older than the
    download would pass for unchanged; with the time of saving it is newer, and Snakemake compares its checksum.
    """
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            os.utime(path, (saved, saved))


def main(arguments: list[str] | None = None) -> None:
    """Save the results of a complete run as a version, or restore those of a version."""
    parser = argparse.ArgumentParser(prog="python -m langmerge.snapshot", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="save the results of a complete run")
    restoring = commands.add_parser("restore", help="restore the results of this commit or of REVISION")
    restoring.add_argument("revision", nargs="?", metavar="REVISION", help="Git revision to check out first")
    restoring.add_argument("--force", action="store_true", help="give up results that no version holds")
    saving.add_argument("--config", nargs="+", metavar="KEY=VALUE", default=[], help="as given to snakemake --config")
    restoring.add_argument("--config", nargs="+", metavar="KEY=VALUE", help="instead of what was given to save")
    options = parser.parse_args(arguments)
    if options.command == "save":
        save(options.config)
    else:
        restore(options.revision, options.force, options.config)


if __name__ == "__main__":
    run(main)
