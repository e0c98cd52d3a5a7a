"""Commands in the README, the reference and the configuration's comments are such as their programs take."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from snakemake import cli

from langmerge import config

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/**/*.md"), *ROOT.glob("profiles/*/*.yaml")]
FILES += [path for end in ("md", "yaml") for path in ROOT.glob(f"config/**/*.{end}")]
# In a line of its own, indented or as a comment, or between backticks; what follows two spaces says what it does.
PROGRAM = r"(?:snakemake|make|python -m)"
LINE = re.compile(rf"^(?: {{4}}|# +)({PROGRAM} .*?)(?:  .*)?$", flags=re.MULTILINE)
INLINE = re.compile(rf"`({PROGRAM} [^`]*)`")
MADE_BY_THE_READER = "mine"


def commands():
    """File and command, each once."""
    found = {
        (path.relative_to(ROOT).as_posix(), command)
        for path in FILES
        for pattern in (LINE, INLINE)
        for command in pattern.findall(path.read_text())
    }
    return sorted(found)


def of(program):
    """Test cases of one program's commands, but for those with a placeholder."""
    known = [(file, command) for file, command in commands() if command.startswith(program) and "<" not in command]
    return [pytest.param(command, id=f"{file}: {command}") for file, command in known]


def test_the_places_where_commands_stand_are_searched():
    files = {file for file, _ in commands()}
    assert {"README.md", "config/README.md", "config/scales/gpu.yaml", "profiles/default/config.yaml"} <= files


@pytest.mark.parametrize("command", of("snakemake "))
def test_snakemake_takes_its_commands(command):
    """Such as `--cores` with a number: Snakemake 9 refuses it alone, though its help says that N may be left out."""
    arguments = cli.get_argument_parser().parse_args(shlex.split(command)[1:])
    settings = dict(text.split("=", 1) for text in arguments.config or [])
    assert set(settings) <= {"studies", "scale", "data_root"}
    name = settings.get("studies", "translation")
    if name != MADE_BY_THE_READER:
        study = config.read_yaml(ROOT / f"config/studies/{name}.yaml")
        kind = f".{study['kind']}" if "kind" in study else ""
        assert (ROOT / f"config/scales/{settings.get('scale', 'cpu')}{kind}.yaml").is_file()


@pytest.mark.parametrize("command", of("python -m "))
def test_modules_of_commands_exist(command):
    module = shlex.split(command)[2]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("command", of("make "))
def test_targets_of_commands_are_in_the_makefile(command):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert shlex.split(command)[1] in targets
