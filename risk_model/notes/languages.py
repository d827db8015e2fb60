"""The language of a note, by its frequent words: rules for English read English notes only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

READ = "en"
_WORD = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 20_000
"""Characters from the beginning that are looked at."""
_FEW = 2
"""Different words of a language without which a text is too short to detect."""


def other_language(text: str, declared: str | None = None) -> str | None:
    """Returns the ISO 639-1 code of a note's language if it is not one that is read, else None.

    The words decide where there are enough; else the `declared` language (a BCP 47 tag); else it is English.

    >>> other_language("Kein Diabetes mellitus. Vater mit Schlaganfall."), other_language("No diabetes.", "en-US")
    ('de', None)
    >>> other_language("Diabetes mellitus", "de-CH"), other_language("He has diabetes, the patient said", "de")
    ('de', None)
    """
    detected = _detected(text)
    if detected is None and declared and not declared.isspace():
        detected = re.split(r"[-_]", declared.strip().lower())[0]
    return None if detected in (None, READ) else detected


def _detected(text: str) -> str | None:
    """Returns the language whose words the text has most of, if it has clearly more of them than of others."""
    words = Counter(_WORD.findall(text[:_LOOKED_AT].lower()))
    counted = {
        language: (sum(words[word] for word in known if word in words), sum(word in words for word in known))
        for language, known in _words().items()
    }
    best = max(counted, key=lambda language: counted[language])
    hits, different = counted[best]
    if different < _FEW:
        return None
    english = counted[READ][0]
    return best if best == READ or hits > 1.5 * english else READ if english >= _FEW else None


@cache
def _words() -> Mapping[str, frozenset[str]]:
    raw = yaml.safe_load(files("risk_model.tables").joinpath("languages.yaml").read_bytes())
    return {language: frozenset(str(word) for word in words) for language, words in raw.items()}
