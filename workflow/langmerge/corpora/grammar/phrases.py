"""The wording of tasks: what a language says in prompts and questions and what its lexicon does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.lexicon import read_yaml
from langmerge.corpora.grammar.world import GRAMMAR

# The blocks of a file, and of each its keys with the fields that stand in them.
BLOCKS: dict[str, dict[str, tuple[str, ...]]] = {
    "reviews": {"prompt": ("{text}",), "labels": ()},
    "summaries": {"prompt": ("{text}",)},
    "causality": {"so": (), "because": ()},
    "arithmetic": {"left": ("{noun}",), "total": ("{noun}",), "each": ("{number}", "{noun}")},
}


class Phrases:
    """The wording of the tasks in one language: the content of `<folder>/<code>.yaml`."""

    def __init__(self, data: Mapping[str, Any], path: Path) -> None:
        """Check `data`; ValueError naming file and key if a key is missing or lacks a field."""
        self.data = data
        self.path = path
        for block in data:
            if block not in BLOCKS:
                raise ValueError(f"{path}: unknown block `{block}`; expected some of {', '.join(BLOCKS)}")
            for key, fields in BLOCKS[block].items():
                if not (data[block] or {}).get(key):
                    raise ValueError(f"{path}: {block}.{key} is missing; data/grammar/tasks/README.md says what it is")
                for text in _texts(data[block][key]):
                    if lacking := [field for field in fields if field not in text]:
                        raise ValueError(f"{path}: {block}.{key}: {lacking[0]} is missing in {text!r}")

    @staticmethod
    def load(code: str, folder: Path | None = None) -> Phrases:
        """The wording in `folder`/<code>.yaml (default: data/grammar/tasks); ValueError if there is none."""
        path = (folder or GRAMMAR / "tasks") / f"{code}.yaml"
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file, so tasks have no wording in {code}; write it (data/grammar/tasks/README.md) or "
                f"leave {code} out of studies with embedded tasks"
            )
        return Phrases(read_yaml(path), path)

    def block(self, task: str) -> Mapping[str, Any]:
        """The wording of one task; ValueError naming file and task if the language does not take part in it."""
        if task not in self.data:
            raise ValueError(
                f"{self.path}: no `{task}`: the language does not take part in this task; add the block or set the "
                "task to null"
            )
        return self.data[task]


def say(language: Language, template: str, **fields: object) -> str:
    """A template with its fields filled and its words fused as the language wants ("de œufs": "d'œufs")."""
    texts = [text for text in language.contract(template.format(**fields).split()) if text]
    return "".join(text if text.endswith(("'", "’")) else f"{text} " for text in texts).strip()


def _texts(value: Any) -> list[str]:
    return list(value.values()) if isinstance(value, Mapping) else [value]
