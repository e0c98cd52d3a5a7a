"""TMX (Translation Memory eXchange 1.4b), read as a stream.

Units ``<tu>`` hold variants ``<tuv xml:lang="en-GB"><seg>...</seg></tuv>``. Inline codes of the translation tool
(``<bpt>``, ``<ph>``, ...) are no text; ``<hi>`` only marks text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from langmerge.corpora.readers.columns import Raw, Wanted
from langmerge.corpora.readers.files import opened
from langmerge.provenance import InputError

CODES = {"bpt", "ept", "ph", "it", "ut"}
CHUNK = 1 << 16


class _Units:
    """Handlers of the parser: collect one unit at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: list[tuple[dict[str, str], dict[str, str]]] = []  # attributes, sentence by language tag
        self.attributes: dict[str, str] = {}
        self.sentences: dict[str, str] = {}
        self.tag = ""
        self.text: list[str] | None = None  # of the segment that is open
        self.codes = 0  # depth of inline codes
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.EntityDeclHandler = self.refuse
        self.parser.SkippedEntityHandler = self.skipped

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "tu":
            self.attributes, self.sentences = attributes, {}
        elif name == "tuv":
            self.tag = attributes.get("xml:lang") or attributes.get("lang") or ""
        elif name == "seg":
            self.text = []
        elif name in CODES:
            self.codes += 1

    def end(self, name: str) -> None:
        if name == "tu":
            self.done.append((self.attributes, self.sentences))
        elif name == "seg" and self.text is not None:
            self.sentences.setdefault(self.tag, "".join(self.text))
            self.text = None
        elif name in CODES:
            self.codes -= 1

    def characters(self, text: str) -> None:
        if self.text is not None and not self.codes:
            self.text.append(text)

    def refuse(self, name: str, *_: object) -> None:
        raise InputError(
            f"{self.path}, line {self.parser.CurrentLineNumber}: declares the entity {name!r}; entities are refused, "
            "as they can fill the memory or read other files: remove the declarations from the DOCTYPE"
        )

    def skipped(self, name: str, _: bool) -> None:
        raise InputError(
            f"{self.path}, line {self.parser.CurrentLineNumber}: unknown entity &{name}; (write the character itself)"
        )


def matches(tag: str, code: str) -> bool:
    """Whether a file's language tag is ``code``, or ``code`` with a region: ``en_GB`` is ``en``, but not ``en-US``."""
    tag, code = tag.lower().replace("_", "-"), code.lower().replace("_", "-")
    return tag == code or tag.startswith(f"{code}-")


def units(path: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Attributes of each unit and its sentences by language tag; :class:`InputError` for XML that is broken."""
    collector = _Units(path)
    with opened(path) as file:
        last = False
        while not last:
            chunk = file.read(CHUNK)
            last = not chunk
            try:
                collector.parser.Parse(chunk, last)
            except expat.ExpatError as error:
                raise InputError(
                    f"{path}, line {error.lineno}: not well-formed XML ({expat.errors.messages[error.code]})"
                ) from None
            yield from collector.done
            collector.done = []


def rows(path: Path, wanted: Wanted) -> Iterator[Raw]:
    """The units' sentences in the two languages; `columns` may give tags (``en-GB``) and, as ``id``, an attribute.

    Raises :class:`InputError` at the end if a language never occurred, naming those that did.
    """
    codes = [wanted.named(code) or code for code in (wanted.pivot, wanted.language)[wanted.one_sided :]]
    found: dict[str, int] = {}
    key = wanted.columns.get("id")
    for number, (attributes, sentences) in enumerate(units(path), 1):
        for tag in sentences:
            found[tag] = found.get(tag, 0) + 1
        if key and key not in attributes:
            raise InputError(f"{path}, unit {number}: no attribute {key!r} for the id; it has {', '.join(attributes)}")
        found_texts = [_sentence(sentences, code) for code in codes]
        yield attributes[key] if key else None, None if wanted.one_sided else found_texts[0], found_texts[-1]
    for code in codes:
        if not any(matches(tag, code) for tag in found):
            known = ", ".join(sorted(found)) or "none"
            raise InputError(f"{path}: no sentence in {code!r}; the languages are {known}; name it under `columns`")


def _sentence(sentences: dict[str, str], code: str) -> str | None:
    """The variant in exactly this language, else in one of its regions."""
    tags = sorted((tag for tag in sentences if matches(tag, code)), key=len)
    return sentences[tags[0]] if tags else None
