"""Read study, scale and workflow files; every mistake in them ends here, before anything runs."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from langmerge.config.base import fill
from langmerge.config.kinds import KINDS, TRANSLATION
from langmerge.config.language_study import LanguageStudy
from langmerge.config.messages import explain
from langmerge.config.study import Study, Workflow
from langmerge.provenance import InputError


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; :class:`InputError` naming the file (and line) for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        present = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = difflib.get_close_matches(path.stem, present, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{path.parent} holds {', '.join(present) or 'no .yaml file'}"
        raise InputError(f"{path}: file not found; {hint}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        value = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: expected `key: value` lines, found {'an empty file' if value is None else type(value).__name__}"
        )
    return value


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def merge_defaults(defaults: Any, values: Any) -> Any:
    """``values`` over ``defaults``: mappings key by key, anything else replaced; a method's grid is replaced whole."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return {
        key: merge_defaults(defaults[key], values[key])
        if key in defaults and key in values
        else values.get(key, defaults.get(key))
        for key in [*defaults, *(k for k in values if k not in defaults)]
    }


def load_workflow(values: dict[str, Any], origin: str = "config/config.yaml") -> Workflow:
    """Check the workflow's own configuration."""
    try:
        return Workflow.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error, Workflow, lambda _: origin)) from None


def load(workflow: Workflow, name: str, folder: Path = Path("config")) -> Study | LanguageStudy:
    """Load the study ``name`` at the workflow's scale; :class:`InputError` with one line per mistake."""
    study_path = folder / "studies" / f"{name}.yaml"
    study = read_yaml(study_path)
    kind = study.get("kind", TRANSLATION)
    if kind not in KINDS:
        raise InputError(f"{study_path}: kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    scale_path = scale_file(workflow.scale, kind, folder)
    scale = read_yaml(scale_path)
    values = merge_defaults(scale, study)
    if workflow.data_root is None and "{data_root}" in str(values):
        user = scale_path if "{data_root}" in str(scale) else study_path
        raise InputError(
            f"{user}: uses {{data_root}}, but no folder is named; run with `--config data_root=FOLDER` or set it in "
            "config/config.yaml"
        )
    values = fill(values, "{data_root}", workflow.data_root or "")

    def origin(location: tuple[Any, ...]) -> str:
        inside: Any = study
        for part in location:
            if not isinstance(inside, dict) or part not in inside:
                return str(scale_path) if location and location[0] in scale else str(study_path)
            inside = inside[part]
        return str(study_path)

    section = KINDS[kind]
    try:
        return section.model_validate(values)
    except ValidationError as error:
        said = explain(error, section, origin)
        others = _studies_of(scale, kind, folder) if said.startswith(str(scale_path)) else []
        hint = f"; {scale_path.name} goes with the studies {', '.join(others)}" if others else ""
        raise InputError(said + hint) from None


def _studies_of(scale: dict[str, Any], kind: str, folder: Path) -> list[str]:
    """The studies of a kind that a scale is fit for."""
    found = []
    for path in sorted((folder / "studies").glob("*.yaml")):
        study = read_yaml(path)
        if study.get("kind", TRANSLATION) == kind:
            with contextlib.suppress(ValidationError):
                KINDS[kind].model_validate(merge_defaults(scale, study))
                found.append(path.stem)
    return found


def scale_file(scale: str, kind: str, folder: Path = Path("config")) -> Path:
    """The file that says how large a study of a kind is: what is trained differs, so each kind has its own."""
    return folder / "scales" / (f"{scale}.yaml" if kind == TRANSLATION else f"{scale}.{kind}.yaml")
