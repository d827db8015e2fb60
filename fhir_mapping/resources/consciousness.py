"""Reads a level of consciousness (AVPU, or ACVPU with new confusion) from codes, text or a string.

Words are understood where a standard answer list has them: LOINC answers of 67775-7 and 80288-4, SNOMED CT terms, and
the letters of the scale. Any other answer is refused as not understood; it was measured, so it is not "none found".
"""

from __future__ import annotations

import re
from datetime import datetime

from fhir_mapping.parsing.elements import ObservationPart, values_of
from fhir_mapping.terminology.codes import LOINC, SNOMED, codings

CONSCIOUSNESS = "consciousness"
Level = tuple[str, datetime, str]
"""Level, time and source."""
LEVELS = ("alert", "confusion", "voice", "pain", "unresponsive")
_CODES = {
    (LOINC, "LA9340-6"): "alert",
    (LOINC, "LA17108-4"): "voice",
    (LOINC, "LA17107-6"): "pain",
    (LOINC, "LA9343-0"): "unresponsive",
    (LOINC, "LA6560-2"): "confusion",
    (SNOMED, "248234008"): "alert",
    (SNOMED, "300202002"): "voice",
    (SNOMED, "450847001"): "pain",
    (SNOMED, "422768004"): "unresponsive",
    (SNOMED, "130987000"): "confusion",
    (SNOMED, "40917007"): "confusion",
}
_WORDS = {
    "alert": ("a", "alert", "mentally alert", "fully alert"),
    "confusion": ("c", "confused", "confusion", "new confusion", "newly confused", "new onset confusion",
                  "acute confusion"),
    "voice": ("v", "voice", "verbal", "to voice", "responds to voice", "responsive to voice", "responds to verbal",
              "responds to voice stimulus", "verbal stimuli", "verbal stimulus", "responsive to verbal stimulus",
              "responds to verbal stimuli", "responds to verbal stimulation", "voice responsive", "reacts to voice",
              "responds to speech"),
    "pain": ("p", "pain", "painful", "to pain", "responds to pain", "responsive to pain", "painful stimuli",
             "painful stimulus", "responds to painful stimuli", "responds to painful stimulus", "pain responsive",
             "responds to painful stimulation", "reacts to pain"),
    "unresponsive": ("u", "unresponsive", "unconscious", "not responsive", "does not respond", "no response"),
}  # fmt: skip
_LEVEL_OF = {word: level for level, words in _WORDS.items() for word in words}
_TAG = re.compile(r"\s*\((?:finding|observable entity|qualifier value|disorder)\)\Z")
_LETTER_AND_WORD = re.compile(r"([acvpu])\s*[-–:=(]+\s*(.+?)\)?\Z")


def level_of(part: ObservationPart) -> tuple[str | None, str]:
    """Returns (one of LEVELS, "") or (None, reason code); an answer with codings of two levels contradicts itself."""
    values = values_of(part)
    if part.dataAbsentReason:
        return None, "value-and-absent-reason" if values else "data-absent"
    if values > 1:
        return None, "several-values"
    if not values:
        return None, "no-value"
    found = set(_levels(part))
    if len(found) > 1:
        return None, "codes-disagree"
    return (found.pop(), "") if found else (None, "code-not-understood")


def _levels(part: ObservationPart) -> list[str]:
    """Returns the levels that the codes say, else those that the words say."""
    answer = part.valueCodeableConcept
    listed = codings(answer)
    coded = [_CODES[key] for coding in listed if (key := (coding.system or "", coding.code)) in _CODES]
    if coded:
        return coded
    text = answer.get("text") if isinstance(answer, dict) else part.valueString
    words = [text, *(coding.display for coding in listed)]
    return [level for word in words if isinstance(word, str) and (level := _level_in_words(word)) is not None]


def _level_in_words(text: str) -> str | None:
    """Returns the level that words of a standard answer list name.

    >>> _level_in_words("Responds to voice"), _level_in_words("V - Voice"), _level_in_words("drowsy")
    ('voice', 'voice', None)
    """
    plain = _TAG.sub("", " ".join(text.lower().split()).rstrip("."))
    both = _LETTER_AND_WORD.match(plain)
    if both is None:
        return _LEVEL_OF.get(plain)
    return _LEVEL_OF[both[1]] if _LEVEL_OF.get(both[2]) == _LEVEL_OF[both[1]] else None
