"""Does a model write the language it was asked for? Off-target, copy and empty rates.

The writing system is looked at first: it leaves the languages that are written so, and often just one. Among
several, py3langid decides, restricted to the languages of the study. Its error on the *references* is
reported beside every rate as a floor: on short or artificial sentences it is not zero.
"""

from __future__ import annotations

import copy
import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

MIN_CHARACTERS = 20  # shorter texts are left to the script alone
UNDETERMINED = "und"  # ISO 639: written in a script that none of the languages uses

# Writing systems by the first word of the letters' Unicode names; languages not named here use Latin.
SCRIPTS: dict[str, frozenset[str]] = {
    language: frozenset(scripts.split())
    for scripts, languages in {
        "ARABIC": "ar ary arz fa ps sdh ug ur",
        "ARMENIAN": "hy",
        "BENGALI": "as bn",
        "CJK": "wuu yue zh",
        "CJK HIRAGANA KATAKANA": "ja",
        "CYRILLIC": "ba be bg kk ky mk mn ru tg tt uk",
        "CYRILLIC LATIN": "crh sr",
        "DEVANAGARI": "gom hi mr ne sa",
        "ETHIOPIC": "am",
        "GEORGIAN": "ka",
        "GREEK": "el grc",
        "GUJARATI": "gu",
        "GURMUKHI": "pa",
        "HANGUL": "ko",
        "HEBREW": "hbo he",
        "KANNADA": "kn",
        "KHMER": "km",
        "LAO": "lo",
        "MALAYALAM": "ml",
        "MYANMAR": "my",
        "ORIYA": "or",
        "SINHALA": "si",
        "TAMIL": "ta",
        "TELUGU": "te",
        "THAI": "th",
        "TIBETAN": "dz",
    }.items()
    for language in languages.split()
}
LATIN = frozenset({"LATIN"})


@functools.cache
def _full_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


@functools.cache
def _identifier(languages: tuple[str, ...]) -> Any:
    identifier = copy.copy(_full_identifier())
    identifier.set_languages(languages)
    return identifier


def known_languages(languages: Iterable[str]) -> tuple[str, ...]:
    """Those of ``languages`` that py3langid can name, sorted, without duplicates."""
    return tuple(sorted(set(languages) & set(_full_identifier().labels)))


def script(text: str) -> str | None:
    """The script (``LATIN``, ``CYRILLIC``...) of most letters in ``text``; None if it has no letters."""
    counts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    return counts.most_common(1)[0][0] if counts else None


@functools.lru_cache(maxsize=2**17)  # references come back for every system that is scored
def identify(text: str, languages: tuple[str, ...]) -> str | None:
    """The language of ``text`` among ``languages`` (known to py3langid); :data:`UNDETERMINED` if none fits.

    None means too short to say: no letters, or fewer than :data:`MIN_CHARACTERS` characters and a script that
    several of the languages share.
    """
    written = script(text)
    if written is None:
        return None
    candidates = tuple(language for language in languages if written in SCRIPTS.get(language, LATIN))
    if len(candidates) < 2:
        return candidates[0] if candidates else UNDETERMINED
    if len(text.strip()) < MIN_CHARACTERS:
        return None
    return str(_identifier(candidates).classify(text)[0])


def _rate(count: int, total: int) -> float | None:
    """``count / total``; None where there is nothing to count in."""
    return count / total if total else None


def language_rates(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    source: str,
    target: str,
    languages: Iterable[str],
) -> dict[str, float | int | None]:
    """Off-target, copy and empty rates of n outputs, as fractions in 0..1.

    - ``off_target``: share of identified outputs whose language is not ``target``;
    - ``off_target_floor``: the same for the references, that is the error of language identification itself;
    - ``source_language``: share of identified outputs in the source language;
    - ``identified``, ``too_short``: numbers of outputs with and without an identified language (empty ones in
      neither);
    - ``copy``: share of outputs that repeat the source sentence exactly; ``empty``: share without any text.

    The candidates are ``languages``, ``source`` and ``target``. What cannot be had is None, never 0: all but
    the last two if py3langid does not know ``target``, ``source_language`` if it does not know ``source``.
    """
    written = [text for text in hypotheses if text.strip()]
    pairs = list(zip(hypotheses, sources, strict=True))
    rates: dict[str, float | int | None] = {
        "off_target": None,
        "off_target_floor": None,
        "source_language": None,
        "identified": None,
        "too_short": None,
        "copy": _rate(sum(h.strip() == s.strip() for h, s in pairs), len(pairs)),
        "empty": _rate(len(pairs) - len(written), len(pairs)),
    }
    candidates = known_languages([*languages, source, target])
    if target not in candidates:
        return rates
    found = [language for text in written if (language := identify(text, candidates)) is not None]
    floor = [language for text in references if (language := identify(text, candidates)) is not None]
    rates["identified"], rates["too_short"] = len(found), len(written) - len(found)
    rates["off_target"] = _rate(sum(language != target for language in found), len(found))
    rates["off_target_floor"] = _rate(sum(language != target for language in floor), len(floor))
    if source in candidates:
        rates["source_language"] = _rate(found.count(source), len(found))
    return rates
