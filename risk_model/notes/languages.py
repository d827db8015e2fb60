"""The language of a note, by its frequent words: each language has rules of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

_ENGLISH = "en"
_WORD = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 20_000
"""Characters from the beginning that are looked at."""
_FEW = 2
"""Different words of a language without which a text is too short to detect."""

_LONG = 5


def language_of(text: str, declared: str | None = None) -> str:
    """Returns the ISO 639-1 code of a note's language.

    The words decide where there are enough; else the `declared` language (a BCP 47 tag); else it is English.

    >>> language_of("Kein Diabetes mellitus. Vater mit Schlaganfall."), language_of("No diabetes.", "en-US")
    ('de', 'en')
    >>> language_of("Diabetes mellitus", "de-CH"), language_of("He has diabetes, the patient said", "de")
    ('de', 'en')
    """
    detected = _detected(text)
    if detected is None and declared and not declared.isspace():
        detected = re.split(r"[-_]", declared.strip().lower())[0]
    return detected or _ENGLISH


def _detected(text: str) -> str | None:
    """Returns the language whose words the text has most of, if it has clearly more of them than of others."""
    words = Counter(_WORD.findall(text[:_LOOKED_AT].lower()))
    counted = {
        language: (sum(words[word] for word in known if word in words), sum(word in words for word in known))
        for language, known in _words().items()
    }
    best = max(counted, key=lambda language: counted[language])
    hits, different = counted[best]
    english = counted[_ENGLISH][0]
    if different < _FEW:
        # Without a single English word, one long word will do.
        alone = best != _ENGLISH and not english and any(len(word) >= _LONG for word in _words()[best] & words.keys())
        return best if alone else None
    return best if best == _ENGLISH or hits > 1.5 * english else _ENGLISH if english >= _FEW else None


@cache
def _words() -> Mapping[str, frozenset[str]]:
    raw = yaml.safe_load(files("risk_model.tables").joinpath("languages.yaml").read_bytes())
    return {language: frozenset(str(word) for word in words) for language, words in raw.items()}
