"""Values that notes state: measured numbers, graded statements and states, each anchored in the note's own words.

    ValueReader().read(note.text, note.sections) -> NoteValue ...

`Cr 3.4 mg/dL`, `GCS 8 (E2V2M4)`, `ABG 7.32/35/88`, `oliguric`, `no lactataemia`, `bilirubin within normal limits`,
`intubated and ventilated`. Driven by the names, units and phrases of `fhir_mapping.terminology.concepts`:
`note_lexicon` has the vocabulary, `note_mentions` what a text says of it; here is what the words around make of that.
Goals, baselines, relatives' values and bounds are told apart; what is not said stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fhir_mapping import Note, Section
from risk_model.core.values import NoteValue, Polarity, Temporality
from risk_model.notes.context import current_section, experiencer, temporality
from risk_model.notes.mentions import NoteMention, measured_at, mentions
from risk_model.notes.numbers import PAST_AFTER

_SENTENCE = re.compile(r"[;!?\n]|\.(?!\d)")
_CLAUSE = re.compile(r"[,;!?\n]|\.(?!\d)|\b(?:but|although|however|now|currently)\b", re.I)
_NEGATED = re.compile(
    r"\b(?:no|not|non|denies|denied|without|never|neither|nor|no longer|ruled out|negative for|free of|absence of)\b"
    r"(?:\s+(?:\w+[- ]){0,3}|\s*-\s*|\s*)\Z",
    re.I,
)
_GONE = re.compile(r"\s*(?:has |have |is |was |now |been )*(?:resolved|excluded|absent|ruled out|cleared)\b", re.I)
_PLANNED = re.compile(
    r"\b(?:goals?|targets?|keep|maintain|aim(?:ing)?|titrat\w+|until|transfuse|hold|call|notify|alert|replete|would|"
    r"wish\w*|wants?|may|might|could|consider|avoid|plan(?:ned|s)? (?:to|for)|threshold|unless|when|"
    r"discuss\w*|expected)\b",
    re.I,
)
_FORMER = re.compile(
    r"\b(?:baseline|b/l|usual|premorbid|pre-?admission|outpatient|last (?:year|month|week|admission)|"
    r"(?:days?|weeks?|months?|years?) (?:ago|prior|earlier)|in (?:19|20)\d\d)\b",
    re.I,
)
_EARLIER = re.compile(r"\b(?:on arrival|on admission|admission|yesterday|initial(?:ly)?|peak|overnight)\b", re.I)


class ValueReader:
    """Reads the values of a text; holds nothing, the same answer every time."""

    name = "values-1"

    def read(self, text: str, sections: Sequence[Section] = (), source: str = "") -> Iterator[NoteValue]:
        """In reading order. Bounds (`>10`), values outside the plausible range and with another quantity's unit are
        left out. `time` is filled in by `timed`."""
        for said in mentions(text):
            value = _in_context(said, text, sections, source)
            if value is not None:
                yield value


def value_at(
    text: str, place: tuple[int, int], number: int, concept: str, sections: Sequence[Section] = ()
) -> NoteValue | None:
    """What somebody else read at `place` of the text: the value of a measured concept whose number stands at `number`.

    Number and unit are the note's own. None where they cannot be that concept's: implausible, another quantity's
    unit, a bound; or where the words of the place make it another concept's.
    """
    start, end = place
    owners = {s.concept for s in mentions(text[start:end]) if s.start <= number - start < s.end}
    if owners and concept not in owners:
        return None
    said = measured_at(text, number, concept)
    # The words before the number count, those of the quote among them: `baseline 1.2`.
    value = None if said is None else _in_context(said, text, sections, "")
    return None if value is None else replace(value, start=start, quote=text[start : value.end])


def _in_context(said: NoteMention, text: str, sections: Sequence[Section], source: str) -> NoteValue | None:
    """What the words around a mention make of it."""
    clause = _back_to(_CLAUSE, text, said.start)
    section = current_section(text, sections, said.start)
    polarity = Polarity.PRESENT
    if said.unit is None and _denied(text, said, clause):
        polarity = Polarity.ABSENT
        if said.value == 0.0 or said.grade == 0:
            return None  # `not on room air`, `not alert`: what is so instead is not said
    past = PAST_AFTER.match(text, said.end)
    when = Temporality.HISTORICAL if past else said.when or _when(section, clause)
    absent = polarity is Polarity.ABSENT
    return NoteValue(
        concept=said.concept,
        value=0.0 if absent and said.value is not None else said.value,
        unit=said.unit,
        grade=0 if absent and said.grade is not None else said.grade,
        polarity=polarity,
        temporality=when,
        experiencer=experiencer(section, _back_to(_SENTENCE, text, said.start)),
        time=None,
        earlier=said.earlier or bool(_EARLIER.search(clause)),
        note_source=source,
        quote=text[said.start : said.end],
        start=said.start,
        end=said.end,
        section=section,
        unit_assumed=said.assumed,
    )


def timed(values: Iterable[NoteValue], notes: Sequence[Note]) -> tuple[NoteValue, ...]:
    """Each value with the time of the note that first said it; a copied one that its first note said too goes."""
    by_source = {note.source: note for note in notes}
    listed = list(values)
    said = {(value.note_source, value.concept, value.quote) for value in listed}
    kept = []
    for value in listed:
        note = by_source[value.note_source]
        origin = note.copied_from(value.start)
        if (origin, value.concept, value.quote) in said:
            continue
        first = note if origin is None else by_source.get(origin)
        kept.append(replace(value, time=None if first is None else first.time))
    return tuple(kept)


def _when(section: str | None, clause: str) -> Temporality:
    if _PLANNED.search(clause):
        return Temporality.HYPOTHETICAL
    if _FORMER.search(clause):
        return Temporality.HISTORICAL
    return temporality(section, clause)


def _denied(text: str, said: NoteMention, clause: str) -> bool:
    return bool(_NEGATED.search(clause)) or bool(_GONE.match(text, said.end))


def _back_to(border: re.Pattern[str], text: str, position: int) -> str:
    """The words before `position` back to the last border, at most 100 characters."""
    start = max(0, position - 100)
    piece = text[start:position]
    borders = [match.end() for match in border.finditer(piece)]
    return piece[borders[-1] :] if borders else piece
