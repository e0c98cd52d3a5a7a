"""What is written beside the weights: model card, recipe.yaml, mergekit_config.yml, another model's tokenizer."""

import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langmerge import provenance
from langmerge.merging.documents import ours
from langmerge.merging.documents.card import Made, Origin, card
from langmerge.merging.documents.job import Job, Model
from langmerge.merging.documents.library import Library
from langmerge.merging.documents.prepare import Prepared
from langmerge.merging.documents.to_mergekit import to_mergekit
from langmerge.merging.documents.yaml_text import dump
from langmerge.merging.engine import Layout, code_hash
from langmerge.merging.journal import JOURNAL
from langmerge.merging.sources import Source
from langmerge.merging.writer import COPIED, write_json

CARD, RECIPE, MERGEKIT_CONFIG = "README.md", "recipe.yaml", "mergekit_config.yml"
BESIDES = (provenance.COST, provenance.MANIFEST, JOURNAL)
_SNAPSHOT = re.compile(r"models--(?P<id>[^/]+)/snapshots/(?P<commit>[^/]+)$")


def finish(
    prepared: Prepared,
    output: str,
    layout: Layout,
    folder: Path,
    statistics: Mapping[str, Any],
    cost: Mapping[str, str],
    *,
    written: Mapping[str, str],
    hashes: bool,
) -> None:
    """Complete the folder of an output whose weights, configuration and tokenizer are written.

    The manifest, which comes last, makes the folder a model like any other of a study. It names the SHA-256 of all that
    was written, and of the inputs' weights what is known without reading them; all of it with `hashes`. `written` are
    the SHA-256 of weight files that are known already, `layout` the tensors of the output.
    """
    job, library = prepared.job, prepared.library
    if job.tokenizer and job.vocabulary == "error":
        copy_tokenizer(library.source(job.tokenizer), folder)
    if job.chat_template:
        write_chat_template(job, library, folder)
    fixed = pinned(prepared)
    (folder / RECIPE).write_text(dump(ours.write(fixed, output)), encoding="utf-8")
    reason = _write_mergekit(fixed, layout, output, folder)
    origins = {name: origin(path, hashes) for name, path in library.folders.items()}
    made = Made(
        statistics={**statistics, **prepared.notes},
        origins=origins,
        hashes=sha256(folder, written),
        versions={"Python": platform.python_version()} | {n: version(n) for n in ("langmerge", "torch", "safetensors")},
        cost=cost,
        mergekit=reason,
    )
    (folder / CARD).write_text(card(job, output, made), encoding="utf-8")
    provenance.write_json(folder / provenance.COST, dict(cost))
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in BESIDES)
    provenance.write_json(
        folder / provenance.MANIFEST,
        {
            "spec": ours.write(fixed, output),
            "code": code_hash(),
            "environment": " ".join(f"{name}=={number}" for name, number in made.versions.items()),
            "inputs": {name: dict(known.hashes) for name, known in origins.items()},
            "outputs": {path.name: made.hashes.get(path.name) or provenance.sha256_file(path) for path in files},
        },
    )


def _write_mergekit(job: Job, layout: Layout, output: str, folder: Path) -> str | None:
    """Write mergekit_config.yml; why that cannot be done, or None."""
    layout = [row for row in layout if row[1].is_floating_point and all(row[2])]
    dtypes = {dtype.name for _, dtype, _ in layout}
    places = {name: str(model) for name, model in job.models.items() if isinstance(model, Model)}
    try:
        data = to_mergekit(job, output, [row[0] for row in layout], places, dtypes.pop() if len(dtypes) == 1 else None)
    except ValueError as error:
        return str(error)
    (folder / MERGEKIT_CONFIG).write_text(dump(data), encoding="utf-8")
    return None


def pinned(prepared: Prepared) -> Job:
    """The job with places that hold everywhere on this machine: absolute folders, Hub ids with their commits."""
    job, library = prepared.job, prepared.library
    models = dict(job.models)
    for name, path in library.folders.items():
        model = models[name]
        assert isinstance(model, Model)
        known = origin(path, False)
        here = (known.hub_id, known.commit) if known.hub_id else (str(path), None)
        adapter, revision = model.adapter, model.adapter_revision
        if name in library.adapters:
            known = origin(library.adapters[name], False)
            adapter, revision = (known.hub_id, known.commit) if known.hub_id else (str(library.adapters[name]), None)
        models[name] = Model(*here, adapter, revision)
    data = {**job.data, **{name: str(path) for name, path in prepared.data.items()}}
    return replace(job, models=models, data=data)


def origin(folder: Path, hashes: bool) -> Origin:
    """Where a model folder came from, with the hashes of its weights that are known, or all with `hashes`.

    The Hub's cache names files by their SHA-256; our own results have a manifest.
    """
    match = _SNAPSHOT.search(folder.as_posix())
    known = {}
    for path in sorted(folder.glob("*.safetensors")):
        blob = path.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", blob):
            known[path.name] = blob
    if (folder / provenance.MANIFEST).is_file():
        outputs = provenance.read_manifest(folder)["outputs"]
        known |= {name: digest for name, digest in outputs.items() if name.endswith(".safetensors")}
    if hashes:
        known = sha256(folder)
    if match is None:
        return Origin(None, None, known)
    return Origin(match["id"].replace("--", "/", 1), match["commit"], known)


def sha256(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """SHA-256 by name of the weight files in a folder, of which some may be known."""
    known = known or {}
    return {
        path.name: known.get(path.name) or provenance.sha256_file(path) for path in sorted(folder.glob("*.safetensors"))
    }


def copy_tokenizer(source: Source, folder: Path) -> None:
    """Put the tokenizer files of one model in the place of those that are there."""
    for name in COPIED:
        if name != "generation_config.json":
            (folder / name).unlink(missing_ok=True)
            if (content := source.file(name)) is not None:
                (folder / name).write_bytes(content)


def write_chat_template(job: Job, library: Library, folder: Path) -> None:
    """The job's chat template; "auto" is the one that most models have (of several, that of the first)."""
    text = job.chat_template
    if text == "auto":
        found = [template for path in library.folders.values() if (template := chat_template(path))]
        if not found:
            return
        text = Counter(found).most_common(1)[0][0]
    config = folder / "tokenizer_config.json"
    if config.is_file():
        data = json.loads(config.read_text(encoding="utf-8"))
        if data.pop("chat_template", None) is not None:
            write_json(config, data)
    (folder / "chat_template.jinja").write_text(str(text), encoding="utf-8")


def chat_template(folder: Path) -> str | None:
    """The chat template of a model folder, or None."""
    path, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    if not config.is_file():
        return None
    template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(template, list):
        template = next((row["template"] for row in template if row.get("name") == "default"), None)
    return template.strip() if isinstance(template, str) else None
