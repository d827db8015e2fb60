"""The context of a mention: negated, historical, planned, uncertain, or about a relative.

Rules of the NegEx and ConText kind (Chapman 2001, Harkema 2009): a trigger before or after the mention, within the same
part of the same sentence. A part ends where the sentence changes direction: `no fever, has a cough`, `h/o MI, known
CKD`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fhir_mapping import Section
from risk_model.core.values import Experiencer, Polarity, Temporality
from risk_model.notes.context_triggers import triggers

_FARTHEST_BEFORE = (100, 600)
"""Characters before a mention: the sentence start is searched within the first number, and at most within the
second."""
_FARTHEST_AFTER = 80
# A line that continues in lower case is the same sentence; `Dr. Hill` and `vs. PE` do not end one.
_SENTENCE = re.compile(
    r"[.;!?:\n](?:(?<=[.;!])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bvs\.)(?=\s|\Z)|(?<=\?)(?=\s)"
    r"|(?<=:)[ \t]*\n|(?<=\n)(?:\s*\n|(?=\s*(?:[-*•]|\d+[.)]|[A-Z]))))"
)
# A minus sign attached to a word negates it, but at the start of a line it is a bullet.
_MINUS = re.compile(r"(?<=[,;/(])\s*[-\u2212]\Z|\(-\)\s?\Z")
_BLANKS = re.compile(r"\s+")
_PAST_SECTIONS = frozenset({"past_history"})
_NOT_OF_NOW = _PAST_SECTIONS | {"family_history"}
_OTHER_HEADING = re.compile(r"\n[ \t]*\n|\n[ \t]*[A-Z][\w/&() -]{0,30}:")


class MentionContext(NamedTuple):
    """Polarity, temporality and experiencer of a mention."""

    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer


def context(text: str, sections: Sequence[Section], start: int, end: int) -> MentionContext:
    """Returns the context of the mention at `start`..`end` of a note's text.

    >>> text = "Mother had CHF. No cough, h/o gout"
    >>> [status for status in context(text, (), 11, 14)]
    [<Polarity.PRESENT: 'present'>, <Temporality.CURRENT: 'current'>, <Experiencer.FAMILY: 'family'>]
    """
    sentence, after = _sentence(text, start), _after(text, end)
    section, words = current_section(text, sections, start), _since_turn(sentence)
    return MentionContext(
        _polarity(words, sentence, after),
        _temporality(section, words, sentence, after),
        experiencer(section, sentence, after),
    )


def section_at(sections: Sequence[Section], position: int) -> str | None:
    """Returns the name of the section at a position."""
    return next((s.name for s in reversed(sections) if s.start <= position < s.end), None)


def current_section(text: str, sections: Sequence[Section], position: int) -> str | None:
    """Like `section_at`, but past and family history end at an empty line or at an unknown heading.

    A section reaches to the next known heading: `PMH: COPD.` followed by `Kidneys: creatinine 3.4` once made all that
    followed historical.
    """
    name = section_at(sections, position)
    if name not in _NOT_OF_NOW:
        return name
    start = max(s.start for s in sections if s.start <= position)
    return None if _OTHER_HEADING.search(text, start, position) else name


def temporality(section: str | None, sentence: str, after: str = "") -> Temporality:
    """Returns the temporality of a mention in a section, between these words of its sentence."""
    return _temporality(section, _since_turn(sentence), sentence, after)


def _polarity(words: str, sentence: str, after: str) -> Polarity:
    planned = _last("planned_before", words)
    doubts = [m.span() for m in triggers()["uncertain_before"].finditer(words) if m.end() > planned]
    denials = [match.start() for match in triggers()["denied_before"].finditer(words)]
    if triggers()["uncertain_after"].match(after):
        return Polarity.UNCERTAIN
    if any(not any(low <= denial < high for low, high in doubts) for denial in denials):
        return Polarity.ABSENT
    if _MINUS.search(sentence) or triggers()["denied_after"].match(after):
        return Polarity.ABSENT
    return Polarity.UNCERTAIN if doubts or words.endswith("?") else Polarity.PRESENT


def _temporality(section: str | None, words: str, sentence: str, after: str) -> Temporality:
    planned, doubted = (_last(kind, words) for kind in ("planned_before", "uncertain_before"))
    if planned > doubted or triggers()["warned_before"].search(sentence):
        return Temporality.HYPOTHETICAL
    if triggers()["so_now"].match(after):
        words = words.rpartition(",")[2]
    past = section in _PAST_SECTIONS or _last("past_before", words) >= 0 or triggers()["past_after"].match(after)
    return Temporality.HISTORICAL if past else Temporality.CURRENT


def experiencer(section: str | None, sentence: str, after: str = "") -> Experiencer:
    """Returns whether the finding is the patient's or a relative's."""
    family = section == "family_history" or _of_relative(sentence) or triggers()["family_after"].match(after)
    return Experiencer.FAMILY if family else Experiencer.PATIENT


def _of_relative(sentence: str) -> bool:
    words = sentence[_last("patient_turns", sentence, "breaks") :]
    if triggers()["family_before"].search(words):
        return True
    for match in reversed(list(triggers()["relatives"].finditer(words))):
        reports = triggers()["tells"].match(words, match.end())
        company = triggers()["company"].search(words[: match.start()])
        described = re.match(r",? wh(?:o|ose)\b", words[match.end() :])
        if not reports and (described or not company):
            return triggers()["patient"].search(words, match.end()) is None
    return False


def _since_turn(sentence: str) -> str:
    return sentence[_last("turns", sentence, "breaks", "onsets") :]


def _last(kind: str, words: str, *others: str) -> int:
    """Returns the end of the last match of these kinds; without a match -1, or 0 if `others` are given."""
    ends = [match.end() for name in (kind, *others) for match in triggers()[name].finditer(words)]
    return max(ends, default=0 if others else -1)


def _sentence(text: str, position: int) -> str:
    """Returns the words of the same sentence before `position`."""
    for farthest in _FARTHEST_BEFORE:
        start = max(0, position - farthest)
        borders = [match.end() for match in _SENTENCE.finditer(text, start, position)]
        if borders:
            break
    return _BLANKS.sub(" ", text[borders[-1] if borders else start : position])


def _after(text: str, position: int) -> str:
    """Returns the words after `position` up to the end of the sentence or its next part."""
    piece = text[position : position + _FARTHEST_AFTER]
    border = _SENTENCE.search(piece)
    words = _BLANKS.sub(" ", piece[: border.start()] if border else piece)
    turns = [match.start() for name in ("turns", "breaks") if (match := triggers()[name].search(words))]
    return words[: min(turns, default=len(words))]
