"""Which languages are related: the top-level families of Glottolog, for the codes that prompts can name."""

from __future__ import annotations

FAMILIES = {
    "Afro-Asiatic": "ar ha",
    "Atlantic-Congo": "ig sw yo",
    "Austroasiatic": "vi",
    "Austronesian": "id",
    "Basque": "eu",
    "Dravidian": "ta te",
    "Indo-European": "bg bn cs da de el en es fa fo fr hi ht is it nl no pl pt ro ru sv uk",
    "Japonic": "ja",
    "Koreanic": "ko",
    "Sino-Tibetan": "zh",
    "Tai-Kadai": "th",
    "Turkic": "tr",
    "Uralic": "et fi hu",
}
FAMILY_OF = {code: family for family, codes in FAMILIES.items() for code in codes.split()}

SUPERVISED, RELATED, UNRELATED, UNKNOWN = "supervised", "related", "unrelated", "unknown"


def family_of(code: str) -> str | None:
    """Family of a language code; of ``pt-BR``, ``zh_Hans`` and transformed languages (``es-relex50``) that of the stem.

    None for codes that are not in the table. A direction's name (``es-de``) has the family of its source.
    """
    return FAMILY_OF.get(code.replace("_", "-").partition("-")[0].lower())


def roles(languages: list[str], supervised: set[str]) -> list[str]:
    """The role of each language for a model that was trained on ``supervised``.

    ``related``: of the family of one of them; ``unrelated``: of another; ``unknown``: its family, or all of theirs, is
    not in the table.
    """
    own = {family_of(code) for code in supervised} - {None}

    def role(code: str) -> str:
        family = family_of(code)
        if code in supervised:
            return SUPERVISED
        if family is None or not own:
            return UNKNOWN
        return RELATED if family in own else UNRELATED

    return [role(code) for code in languages]
