"""Merge models as a YAML file says (ours or mergekit's) and write the result, with a model card, into OUT.

Several merges or a grid of parameters are computed in one pass over the models and written into folders of OUT.
Nothing is ever overwritten; after a kill the same command goes on where it stood.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from langmerge.merging.documents import ours
from langmerge.merging.documents.estimate import Estimate, estimate
from langmerge.merging.documents.finish import finish
from langmerge.merging.documents.job import DTYPES, Job
from langmerge.merging.documents.prepare import Prepared, prepare, read_job
from langmerge.merging.engine import Layout
from langmerge.merging.lazy import torch, use_threads
from langmerge.merging.memory import keep_freed_memory
from langmerge.merging.sinks import Progress, write_models
from langmerge.merging.writer import SHARD_BYTES
from langmerge.provenance import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SAMPLE = 1 << 25
"""Bytes that are written and read to measure the disk."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the file, check all of it, then merge; or, with --dry-run, say what the merge will cost."""
    options = _parser().parse_args(arguments)
    recipe: Path = options.recipe
    if not recipe.is_file():
        raise InputError(f"{recipe}: file not found; expected a YAML file that says what to merge")
    use_threads(options.threads)
    keep_freed_memory()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU; use --device cpu")
    try:
        job, library = read_job(recipe)
        job = replace(job, dtype=options.dtype or job.dtype)
        if options.seed is not None:
            job = ours.with_seed(job, options.seed)
        prepared = prepare(job, library)
        if options.dry_run:
            cost = estimate(prepared, block=options.block, device=options.device)
            print(report(prepared, cost, options.out), end="")
            return
        merge = prepared.merge(block=options.block, device=options.device)
        layouts = {name: merge.layout(name) for name in merge.outputs}
        needed = sum(dtype.itemsize * math.prod(shape) for rows in layouts.values() for _, dtype, shape in rows)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{recipe}: {error}") from None
    _check_space(options.out, needed)
    try:
        _write(prepared, merge.elements, layouts, options)
    except (ValueError, FileExistsError, BlockingIOError) as error:
        raise InputError(f"{recipe}: {error}") from None
    finally:
        library.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m langmerge.merging",
        description=__doc__,
        epilog="The workflow calls it as `python -m langmerge.merging --spec JSON --out FOLDER`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="what to merge")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder that is made (or of the outputs, if several)")
    parser.add_argument("--dry-run", action="store_true", help="print what it will read, write and cost; merge nothing")
    parser.add_argument("--dtype", choices=DTYPES, help="element type of the outputs, instead of the file's")
    parser.add_argument("--seed", type=_count, help="seed of all random masks, instead of the file's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the arithmetic runs")
    parser.add_argument("--threads", type=_positive, default=1, help="threads of the arithmetic (default: 1)")
    parser.add_argument("--block", type=_positive, help="elements that are merged at a time")
    parser.add_argument("--shard-size", type=size, default=SHARD_BYTES, help="largest weight file, e.g. 5GB")
    parser.add_argument("--hashes", action="store_true", help="compute the SHA-256 of all input weights too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def size(text: str) -> int:
    """Bytes from text like 5GB, 500M or 1000 (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected one like 5GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def folders(job: Job, out: Path) -> dict[str, Path]:
    """Where each output is written."""
    return {name: out if job.single else out / name for name in job.outputs}


def _write(prepared: Prepared, elements: int, layouts: dict[str, Layout], options: argparse.Namespace) -> None:
    job = prepared.job
    places = folders(job, options.out)
    started, cpu = time.perf_counter(), time.process_time()
    together = f" (for {len(places)} outputs together)" if len(places) > 1 else ""

    def complete(name: str, folder: Path, statistics: dict[str, Any], written: dict[str, str]) -> None:
        cost = {
            "time" + together: f"{time.perf_counter() - started:.1f} s, {time.process_time() - cpu:.1f} s of CPU",
            "peak memory": words(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads",
        }
        finish(prepared, name, layouts[name], folder, statistics, cost, written=written, hashes=options.hashes)

    with _bar(elements, options.quiet) as progress:
        write_models(
            prepared.recipes,
            prepared.sources,
            places,
            data=prepared.data,
            dtype=prepared.dtype,
            block=options.block,
            shard_bytes=options.shard_size,
            device=options.device,
            progress=progress,
            finish=complete,
        )
    if not options.quiet:
        for name, folder in places.items():
            print(f"{name}: {folder}", file=sys.stderr)


@contextmanager
def _bar(elements: int, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar's `update`."""
    if quiet:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=elements, unit="el", unit_scale=True, mininterval=0.5) as bar:
        yield bar.update


# ---- the dry run -----------------------------------------------------------------------------------------------------


def report(prepared: Prepared, cost: Estimate, out: Path) -> str:
    """What a merge reads, writes and costs, as text."""
    job = prepared.job
    lines = ["Models"]
    for name in cost.sizes:
        kinds = ", ".join(cost.dtypes[name])
        lines.append(f"  {name}: {cost.parameters[name] / 1e6:,.1f} M parameters, {kinds}, {words(cost.sizes[name])}")
    lines.append("Merges")
    for recipe in prepared.recipes:
        base = f" onto {recipe.base}" if recipe.base else ""
        rules = f", {len(recipe.rules)} rules" if recipe.rules else ""
        lines.append(f"  {recipe.name}: {recipe.method} of {', '.join(recipe.models)}{base}{rules}")
        given = {key: value for key, value in recipe.parameters.items() if value is not None}
        if given:
            lines.append("    " + ", ".join(f"{key} = {value}" for key, value in given.items()))
    lines.append("Outputs")
    for name, folder in folders(job, out).items():
        lines.append(f"  {folder}: {words(cost.written[name])}")
    written = sum(cost.written.values())
    reading, writing = _disk(prepared, out)
    lines += [
        "Cost",
        f"  to read: {words(cost.read)} (all models {cost.sweeps:.2f} times)",
        f"  to write: {words(written)}; free at {_existing(out)}: {words(_free(out))}",
        f"  peak memory: {words(cost.memory + _own_memory())}",
    ]
    at_disk = [f"{words(rate)}/s {verb}" for rate, verb in ((reading, "read"), (writing, "written")) if rate]
    if cost.seconds is None:
        lines.append(f"  time: unknown ({cost.unmeasured})")
    else:
        seconds = max(cost.seconds, cost.read / reading if reading else 0.0, written / writing)
        lines.append(
            f"  time: {seconds:,.1f} s ({cost.seconds:,.1f} s of arithmetic; reading and writing go on beside it)"
        )
    lines.append(f"  assumed: {', '.join(at_disk)} as just now with {words(_SAMPLE)}; the machine as busy as it is now")
    lines += [f"Note: {note}" for note in job.notes]
    if _free(out) < written:
        lines.append(f"Too little space: {words(written - _free(out))} are missing.")
    return "\n".join(lines) + "\n"


def words(count: float) -> str:
    """Bytes as text, in powers of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:.0f} B"


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())


def _free(out: Path) -> int:
    return shutil.disk_usage(_existing(out)).free


def _check_space(out: Path, needed: int) -> None:
    if _free(out) < needed:
        raise InputError(
            f"{out}: the merge needs {words(needed)}, but only {words(_free(out))} are free there; free some space, "
            "write elsewhere, or choose a smaller --dtype"
        )


def _own_memory() -> int:
    """Bytes that this process has held at most so far: the libraries, mostly."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _disk(prepared: Prepared, out: Path) -> tuple[float | None, float]:
    """Bytes per second of reading a model's file and of writing beside OUT, each for some MB."""
    files = [path for folder in prepared.library.folders.values() for path in folder.glob("*.safetensors")]
    reading = None
    if files:
        with max(files, key=lambda path: path.stat().st_size).open("rb") as file:
            started = time.perf_counter()
            count = len(file.read(_SAMPLE))
            reading = count / (time.perf_counter() - started)
    place = _existing(out) / f".langmerge-{os.getpid()}.part"
    try:
        started = time.perf_counter()
        with place.open("wb") as file:
            file.write(bytes(_SAMPLE))
            file.flush()
            os.fsync(file.fileno())
        writing = _SAMPLE / (time.perf_counter() - started)
    finally:
        place.unlink(missing_ok=True)
    return reading, writing
