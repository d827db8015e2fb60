"""The context of mentions in a text: negated, historical, planned, uncertain, or about a relative.

Rules of the NegEx and ConText kind (Chapman 2001, Harkema 2009): a trigger before or after the mention, within the same
part of the same sentence. A part ends where the sentence changes direction: `no fever, has a cough`, `h/o MI, known
CKD`. The triggers of a text are found once, each kind in one pass when it is first asked for; a mention then costs a
few look-ups and the patterns that match at its end, whatever the length of its sentence.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

from knowledge_index.context.assertion import Experiencer, MentionContext, Polarity, Temporality
from knowledge_index.context.meanings import meanings
from knowledge_index.context.plain_text import PlainText
from knowledge_index.context.triggers import LANGUAGES, triggers

_FARTHEST_BEFORE = 600
_FARTHEST_AFTER = 80
_NEAR = 60
"""Characters before a mention that are searched for `company` and for triggers that end at the mention."""
_MOST_DENIALS = 8
"""Maximum number of denials before a mention that are considered: no ordinary sentence has more."""
# A minus sign attached to a word negates it, but at the start of a line it is a bullet.
_MINUS = re.compile(r"(?<=[,;/(])\s*[-\u2212]\Z|\(-\)\s?\Z")
# A question mark right before the mention, `?pneumonia`, `CXR: ? pneumonia`, that is not the end of a question.
_ASKED = re.compile(r"(?:\A|(?<!\w))\?[ \n]?\Z|\?\Z")
_OLD = re.compile(r"(?:old|prior|previous|remote) ", re.I)  # within the mention itself
_DESCRIBED = re.compile(r",? wh(?:o|ose)\b")
_OF_ONE = {"not_denied_before": re.compile(r"\bn?or\b"), "one_denied_before": re.compile(r"\b(?:n?or|and)\b")}
"""Kinds of denials of one thing, and the words that close a list of them."""


@dataclass(frozen=True, slots=True)
class _Places:
    """The matches of one kind of trigger, in order."""

    starts: list[int]
    ends: list[int]

    def last_end(self, low: int, high: int) -> int:
        """Returns the end of the last match within low..high, or -1."""
        last = bisect_right(self.ends, high) - 1
        return self.ends[last] if last >= 0 and self.starts[last] >= low else -1

    def first_start(self, low: int, high: int) -> int:
        """Returns the start of the first match that begins within low..high, or `high`."""
        first = bisect_left(self.starts, low)
        return min(self.starts[first], high) if first < len(self.starts) else high


@dataclass(frozen=True, slots=True)
class _Denial:
    start: int
    end: int
    until: int
    """Where it ends whatever follows: `without bleeding, gout` denies one thing."""


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """A mention's sentence (`low`), its part of it (`turn`), the mention, and the words `after` it."""

    low: int
    turn: int
    start: int
    end: int
    after: str


class TextContext:
    """TextContext(text, language).of(start, end) -> MentionContext of the mention at these offsets

    >>> text = "Mother had CHF. No cough, h/o gout"
    >>> [str(said) for said in TextContext(text).of(11, 14)], TextContext(text).polarity(19, 24).value
    (['present', 'current', 'family'], 'absent')
    """

    def __init__(self, text: str, language: str = LANGUAGES[0]) -> None:
        self._triggers = triggers(language)
        self._plain = PlainText(text)
        self._words = self._plain.words
        self._found: dict[str, _Places] = {}
        self._last: tuple[tuple[int, int, int], _Surroundings] | None = None

    def of(self, start: int, end: int) -> MentionContext:
        return MentionContext(self.polarity(start, end), self.temporality(start, end), self.experiencer(start, end))

    def polarity(self, start: int, end: int) -> Polarity:
        around, known = self._around(start, end), self._triggers
        answered = known["answered"].match(self._words, around.end, around.end + _FARTHEST_AFTER)
        if answered is not None:
            return Polarity.ABSENT if answered["no"] else Polarity.PRESENT
        if known["uncertain_after"].match(around.after):
            return Polarity.UNCERTAIN
        if self._denied(around) or _MINUS.search(self._words, around.low, around.start):
            return Polarity.ABSENT
        if known["denied_after"].match(around.after):
            return Polarity.ABSENT
        planned = self._places("planned_before").last_end(around.turn, around.start)
        doubted = self._places("uncertain_before").last_end(around.turn, around.start) > planned
        asked = _ASKED.search(self._words, max(0, around.start - 3), around.start) is not None
        return Polarity.UNCERTAIN if doubted or asked else Polarity.PRESENT

    def temporality(self, start: int, end: int, since: int = 0, *, past: bool = False) -> Temporality:
        """Returns the temporality of a mention. `past`: its section is about the past; words before `since` do not
        count."""
        around, known = self._around(start, end, since), self._triggers
        planned, doubted = (
            self._places(kind).last_end(around.turn, around.start) for kind in ("planned_before", "uncertain_before")
        )
        near = max(around.turn, around.start - _NEAR)
        if known["planned_just_before"].search(self._words, near, around.start):
            planned = around.start
        warned = self._places("warned_before").last_end(around.low, around.start) >= 0
        if planned > doubted or warned or known["planned_after"].match(around.after):
            return Temporality.HYPOTHETICAL
        turn = around.turn
        if known["so_now"].match(around.after):
            turn = max(turn, self._words.rfind(",", turn, around.start) + 1)
        before = self._places("past_before").last_end(turn, around.start) >= 0 or _OLD.match(self._words, around.start)
        return (
            Temporality.HISTORICAL if past or before or known["past_after"].match(around.after) else Temporality.CURRENT
        )

    def experiencer(self, start: int, end: int) -> Experiencer:
        around = self._around(start, end)
        family = self._of_relative(around) or self._triggers["family_after"].match(around.after)
        return Experiencer.FAMILY if family else Experiencer.PATIENT

    def _around(self, start: int, end: int, since: int = 0) -> _Surroundings:
        key = (start, end, since)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._looked_up(start, end, since))
        return self._last[1]

    def _looked_up(self, start: int, end: int, since: int) -> _Surroundings:
        at, stop = self._plain.at(start), self._plain.at(end)
        low = max(self._plain.sentence_start(at), at - _FARTHEST_BEFORE, self._plain.at(since))
        turn = max(low, *(self._places(kind).last_end(low, at) for kind in ("turns", "breaks", "onsets")))
        border = min(self._plain.sentence_end(stop), stop + _FARTHEST_AFTER)
        for kind in ("turns", "breaks"):
            border = self._places(kind).first_start(stop, border)
        return _Surroundings(low, turn, at, stop, self._words[stop:border])

    def _places(self, kind: str) -> _Places:
        found = self._found.get(kind)
        if found is None:
            spans = [match.span() for match in self._triggers[kind].finditer(self._words)]
            found = self._found[kind] = _Places([start for start, _ in spans], [end for _, end in spans])
        return found

    # Denials ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _denials(self) -> tuple[list[_Denial], list[int]]:
        """The denials in order, without those within a doubt (`cannot exclude`), and their ends."""
        found = [_Denial(start, end, len(self._words)) for start, end in self._spans("denied_before")]
        for kind, goes_on in _OF_ONE.items():
            found += [_Denial(start, end, self._one_item(end, goes_on)) for start, end in self._spans(kind)]
        doubts = self._places("uncertain_before")
        kept = sorted((denial for denial in found if not _within(denial.start, doubts)), key=lambda denial: denial.end)
        return kept, [denial.end for denial in kept]

    def _spans(self, kind: str) -> list[tuple[int, int]]:
        places = self._places(kind)
        return list(zip(places.starts, places.ends, strict=True))

    def _one_item(self, end: int, goes_on: re.Pattern[str]) -> int:
        """Returns where a denial of one thing ends: at the first comma, unless a list follows that such a word
        closes."""
        border = min(self._plain.sentence_end(end), end + 3 * _FARTHEST_AFTER)
        for kind in ("turns", "breaks", "onsets"):
            border = self._places(kind).first_start(end, border)
        comma = self._words.find(",", end, border)
        if comma < 0 or goes_on.search(self._words, comma, border):
            return border
        return comma

    def _denied(self, around: _Surroundings) -> bool:
        denials, ends = self._denials
        last = bisect_right(ends, around.start)
        for denial in reversed(denials[max(0, last - _MOST_DENIALS) : last]):
            if denial.end < around.turn or denial.start < around.low:
                return False
            if around.start <= denial.until:
                listed = "," in self._words[denial.end : around.start]
                return not (listed and self._triggers["affirmed_after"].match(around.after))
        return False

    # Relatives -------------------------------------------------------------------------------------------------------

    @cached_property
    def _bearers(self) -> _Places:
        """The relatives who have what follows, without those who report it or only accompany the patient."""
        places = self._places("relatives")
        starts, ends = [], []
        for start, end in zip(places.starts, places.ends, strict=True):
            reports = self._triggers["tells"].match(self._words, end)
            company = self._triggers["company"].search(self._words, max(0, start - _NEAR), start)
            if not reports and (_DESCRIBED.match(self._words, end) or not company):
                starts.append(start)
                ends.append(end)
        return _Places(starts, ends)

    def _of_relative(self, around: _Surroundings) -> bool:
        turn = max(
            around.low, *(self._places(kind).last_end(around.low, around.start) for kind in ("patient_turns", "breaks"))
        )
        if self._places("family_before").last_end(turn, around.start) >= 0:
            return True
        bearer = self._bearers.last_end(turn, around.start)
        return bearer >= 0 and self._places("patient").last_end(bearer, around.start) < 0

    def of_patient(self, start: int, end: int) -> bool:
        """Whether the words before a mention in its sentence name the patient, and no relative after that."""
        around = self._around(start, end)
        named = self._places("patient").last_end(around.low, around.start)
        return named >= 0 and self._places("relatives").last_end(named, around.start) < 0

    # Other meanings --------------------------------------------------------------------------------------------------

    def names_something_else(self, start: int, end: int) -> bool:
        """Whether the words there name something other than a finding: `DVT prophylaxis`, `stroke protocol`, `SpO2 97 %
        RA`, an empty box of a form."""
        at, stop, known = self._plain.at(start), self._plain.at(end), self._triggers
        if known["no_finding_after"].match(self._words, stop, stop + _FARTHEST_AFTER):
            return True
        low = max(0, at - _NEAR)
        if known["no_finding_before"].search(self._words, low, at):
            return True
        rule = meanings().get(self._words[at:stop])
        return rule is not None and rule.other(self._words, low, at, stop)


def _within(position: int, places: _Places) -> bool:
    last = bisect_right(places.starts, position) - 1
    return last >= 0 and position < places.ends[last]
