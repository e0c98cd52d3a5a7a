"""What a job leaves behind: whole outputs, their manifest, and the fingerprints that decide what runs again.

A result folder holds its files, a ``manifest.json`` and a ``cost.json``. The manifest says what the files are (recipe,
code, environment, SHA-256 of inputs and outputs) and nothing that differs between two equal runs, so that bit-identical
results have identical manifests and do not cascade. What differs (seconds, device, memory) stands in ``cost.json``.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langmerge.garbage import collect_seldom

MANIFEST = "manifest.json"
COST = "cost.json"
PACKAGE = Path(__file__).parent

# What these modules decide reaches a job through its spec and its inputs, which are tracked themselves, and `command`
# only decodes those; their code is therefore left out of every fingerprint.
NOT_IN_FINGERPRINT = ("langmerge.config", "langmerge.plan", "langmerge.catalogue", "langmerge.command")


class InputError(Exception):
    """Something the user can mend: the message names the file or key, what was expected, and how to mend it."""


# ---- canonical text and hashes -------------------------------------------------------------------------------------


def canonical(value: Any) -> str:
    """One JSON string per value: keys sorted, no white space; the form in which recipes are compared and passed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


# ---- code and environment ------------------------------------------------------------------------------------------


def _source(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _read(source: bytes, package: str) -> tuple[frozenset[str], str]:
    """What a module of ``package`` names in import statements, at any depth, and a hash of its meaning.

    The meaning is the code without comments, docstrings and positions: what an edit must change to make a job run
    again. Remembered, since the stages of a study share most of their modules.
    """
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                stem = f"{parent}.{stem}".rstrip(".")
            names.add(stem)
            names.update(f"{stem}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[_has_docstring(node) :]
    own = frozenset(name for name in names if name.split(".")[0] == "langmerge")
    return own, sha256_text(ast.dump(tree, include_attributes=False))


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _module(module: str, source: Path) -> tuple[frozenset[str], str]:
    return _read(source.read_bytes(), module if source.name == "__init__.py" else module.rpartition(".")[0])


def _beside(package: Path) -> list[Path]:
    """What a package holds besides code: templates, styles."""
    names = (
        path.relative_to(package) for path in sorted(package.rglob("*")) if path.is_file() and path.suffix != ".py"
    )
    return [package / name for name in names if not any(p.startswith((".", "__pycache__")) for p in name.parts)]


def modules_of(*modules: str) -> list[str]:
    """The project modules that ``modules`` reach by static imports, themselves included, sorted."""
    found: set[str] = set()
    # `python -m` runs a package's __main__.
    todo = [*modules, *(f"{module}.__main__" for module in modules if _source(f"{module}.__main__"))]
    while todo:
        module = todo.pop()
        source = _source(module)
        if module in found or f"{module}.".startswith(tuple(f"{name}." for name in NOT_IN_FINGERPRINT)):
            continue
        if source is None:
            raise ValueError(f"no module {module} in {PACKAGE}")
        found.add(module)
        if "." in module:
            todo.append(module.rpartition(".")[0])  # a package's __init__ runs before what is in it
        todo += sorted(name for name in _module(module, source)[0] if _source(name))
    return sorted(found)


@functools.cache
def code_fingerprint(*modules: str) -> str:
    """Hash of the code that ``modules`` reach and of the files beside it, blind to comments and docstrings."""
    parts = []
    for module in modules_of(*modules):
        source = _source(module)
        assert source is not None
        parts.append([module, _module(module, source)[1]])
        if source.name == "__init__.py" and "." in module:
            parts += [[path.name, sha256_file(path)] for path in _beside(source.parent)]
    return sha256_text(canonical(parts))[:16]


@functools.cache
def environment_fingerprint(*libraries: str) -> str:
    """``name==version`` of the libraries whose release may change a stage's results (local build tags dropped)."""
    return " ".join(f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in sorted(libraries))


# ---- whole outputs -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on any error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON (sorted keys, UTF-8), atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; :class:`InputError` naming the file if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: file not found") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); remove it and run again to rebuild it") from None


class Result:
    """A result folder under construction: see :func:`result`."""

    def __init__(self, final: Path, temporary: Path, code: str = "") -> None:
        self.final = final
        self.folder = temporary  # write the files here
        self.code = code  # fingerprint of the stage's code, as the caller gave it
        self.inputs: dict[str, str] = {}  # name -> SHA-256
        self.cost: dict[str, Any] = {}  # tokens, flops, ...
        self.elsewhere: dict[str, float] = {}  # seconds and cpu_seconds spent by other processes on this result

    def read(self, name: str, folder: Path) -> Path:
        """Note a result's folder (or one inside it) as an input, by its files' hashes in the manifest; return it."""
        self.inputs[name] = sha256_text(canonical(hashes(folder)))
        return folder


def peak_memory() -> int:
    """Most resident bytes of this process so far.

    From /proc where there is one: what `getrusage` says was, at first, the size of the process that started this one.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def result(folder: Path, spec: Any, code: str, environment: str) -> Iterator[Result]:
    """Build the result ``folder`` whole or not at all.

    Yields a :class:`Result` whose ``folder`` is temporary. On success it is renamed to ``folder``, so that a folder
    with a manifest is complete. On any error it is removed and what stood in ``folder`` before is untouched.
    """
    for stale in folder.parent.glob(f".{folder.name}.*.part"):
        # Left behind by a killed run of this very job; `.a.b.7.part` belongs to the job of `a.b`, not of `a`.
        if stale.name.removeprefix(f".{folder.name}.").removesuffix(".part").isdigit():
            shutil.rmtree(stale, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    started, cpu = time.time(), time.process_time()
    try:
        job = Result(folder, temporary, code)
        yield job
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        outputs = {str(path.relative_to(temporary)): sha256_file(path) for path in files}
        write_json(
            temporary / COST,
            {
                "seconds": round(time.time() - started + job.elsewhere.get("seconds", 0.0), 3),
                "cpu_seconds": round(time.process_time() - cpu + job.elsewhere.get("cpu_seconds", 0.0), 3),
                "peak_memory_bytes": peak_memory(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "machine": platform.machine(),
                "python": platform.python_version(),
                **job.cost,
            },
        )
        write_json(
            temporary / MANIFEST,
            {"spec": spec, "code": code, "environment": environment, "inputs": job.inputs, "outputs": outputs},
        )
        if folder.exists():
            shutil.rmtree(folder)  # of an earlier run
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def hashes(folder: Path) -> dict[str, str]:
    """File name to SHA-256 for a result's folder, or for a folder inside a result (a snapshot, a merge of a sweep).

    Raises :class:`InputError` if the folder is no result, or none of the result's files lies in it.
    """
    owner = next((place for place in (folder, *folder.parents) if (place / MANIFEST).is_file()), folder)
    prefix = "" if owner == folder else f"{folder.relative_to(owner)}/"
    outputs = read_manifest(owner)["outputs"]
    found = {name.removeprefix(prefix): digest for name, digest in outputs.items() if name.startswith(prefix)}
    if prefix and not found:
        raise InputError(f"{folder}: not among the files that {owner / MANIFEST} names; remove {owner} and run again")
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a result folder; :class:`InputError` if the folder has none."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder}: no {MANIFEST}, so this is not a finished result; remove the folder and run snakemake again"
        )
    return dict(read_json(path))


def verify(folder: Path, suffixes: Iterable[str] = (".safetensors",)) -> None:
    """Raise :class:`InputError` if a file with one of ``suffixes`` does not have the hash that the manifest gives it.

    This is what stops a checkpoint that was swapped, cut off or checked out from another version.
    """
    for name, expected in hashes(folder).items():
        if name.endswith(tuple(suffixes)):
            path = folder / name
            actual = sha256_file(path) if path.is_file() else "missing"
            if actual != expected:
                raise InputError(
                    f"{path}: expected SHA-256 {expected[:12]}... as in {MANIFEST}, found {actual[:12]}...; "
                    f"the file was changed or belongs to another version. Remove {folder} and run snakemake again, "
                    "or restore it"
                )


# ---- command lines -------------------------------------------------------------------------------------------------


def run(main: Any, arguments: Mapping[str, Any] | None = None) -> None:
    """Call ``main`` and turn an :class:`InputError` (or a full disk) into one clear line and exit status 1."""
    collect_seldom()
    try:
        main(**(arguments or {}))
    except InputError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        codes = (errno.ENOSPC, errno.EDQUOT)
        # safetensors passes on what the system said as text, not as an OSError.
        if getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes):
            sys.exit(
                f"error: no space left on the device while writing {getattr(error, 'filename', None) or 'an output'}; "
                "nothing half-written was kept. Free some space and run again: work resumes where it stood"
            )
        raise
