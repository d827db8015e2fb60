"""What the words around a mention make of it: denied, past, planned, uncertain, or a relative's.

Rules of the NegEx and ConText kind (Chapman 2001, Harkema 2009): a trigger before the mention, in its own sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_mapping import Section
from risk_model.values import Experiencer, Polarity, Temporality

_HISTORY = re.compile(r"\b(history of|h/?x of|h/o|previous(ly)?|prior|past|s/p|status post|\d+ years? ago)\b", re.I)
_HYPOTHETICAL = re.compile(
    r"\b(risk of|if|in case of|return (if|for)|should|rule out|r/o|to exclude|prophylaxis|prevent\w*|screen\w*|possible"
    r"|suspected|concern for|monitor for|watch for)\b",
    re.I,
)
_UNCERTAIN = re.compile(
    r"\b(possible|probable|likely|suspected|suspicion of|concern for|cannot exclude|may have)\b", re.I
)
_RELATIVE = re.compile(r"\b(mother|father|brother|sister|son|daughter|uncle|aunt|grand\w+|family history|fhx?)\b", re.I)
_SENTENCE_START = re.compile(r"[.;!?\n]")
_PAST_SECTIONS = frozenset({"past_history"})
_OTHER_HEADING = re.compile(r"\n[ \t]*\n|\n[ \t]*[A-Z][\w/&() -]{0,30}:")


def section_at(sections: Sequence[Section], position: int) -> str | None:
    """The name of the section that a position lies in."""
    return next((s.name for s in reversed(sections) if s.start <= position < s.end), None)


def current_section(text: str, sections: Sequence[Section], position: int) -> str | None:
    """As `section_at`, but past history ends at an empty line or at a heading that nobody knows.

    A section reaches to the next heading that is known: `PMH: COPD.` followed by `Kidneys: creatinine 3.4` once made
    everything said of today a thing of the past.
    """
    name = section_at(sections, position)
    if name not in _PAST_SECTIONS:
        return name
    start = max(s.start for s in sections if s.start <= position)
    return None if _OTHER_HEADING.search(text, start, position) else name


def before(text: str, position: int) -> str:
    """The words of the same sentence before `position`, at most 80 characters.

    >>> before("CKD. History of heart failure", 16)
    ' History of '
    """
    start = max(0, position - 80)
    piece = text[start:position]
    borders = [match.end() for match in _SENTENCE_START.finditer(piece)]
    return piece[borders[-1] :] if borders else piece


def polarity(negated: bool, words: str) -> Polarity:
    """Of a mention after `words`, which a negation reaches or not."""
    if negated:
        return Polarity.ABSENT
    return Polarity.UNCERTAIN if _UNCERTAIN.search(words) else Polarity.PRESENT


def temporality(section: str | None, words: str) -> Temporality:
    """Of a mention in a section, after `words` of its sentence."""
    if _HYPOTHETICAL.search(words) and not _UNCERTAIN.search(words):
        return Temporality.HYPOTHETICAL
    if section in _PAST_SECTIONS or _HISTORY.search(words):
        return Temporality.HISTORICAL
    return Temporality.CURRENT


def experiencer(section: str | None, words: str) -> Experiencer:
    """Whose finding it is: the patient's, or a relative's."""
    family = section == "family_history" or bool(_RELATIVE.search(words))
    return Experiencer.FAMILY if family else Experiencer.PATIENT
