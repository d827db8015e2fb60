"""Values stated in notes: measured numbers, graded statements and states, each with its quote.

    ValueReader().read(note.text, note.sections) -> NoteValue ...

`Cr 3.4 mg/dL`, `GCS 8 (E2V2M4)`, `ABG 7.32/35/88`, `oliguric`, `no lactataemia`, `bilirubin within normal limits`,
`intubated and ventilated`. Names, units and phrases come from `fhir_mapping.terminology`: `lexicon` holds the
vocabulary, `mentions` finds it in a text, and this module adds the context. Goals, baselines, relatives' values and
bounds are separated; what is not stated stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fhir_mapping import Note, Section
from knowledge_index import Polarity, Temporality
from risk_model.core.values import NoteValue
from risk_model.notes.asides import masked
from risk_model.notes.context import NoteContext
from risk_model.notes.mentions import NoteMention, measured_at, mentions
from risk_model.notes.numbers import PAST_AFTER

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
    r"\b(?:baseline|b/l|usual|dry|ideal|premorbid|pre-?admission|outpatient|last (?:year|month|week|admission)|"
    r"(?:days?|weeks?|months?|years?) (?:ago|prior|earlier)|in (?:19|20)\d\d)\b",
    re.I,
)
_EARLIER = re.compile(r"\b(?:on arrival|on admission|admission|yesterday|initial(?:ly)?|peak|overnight)\b", re.I)


class ValueReader:
    """Reads the values of a text; stateless and deterministic."""

    name = "values-2"

    def read(
        self, text: str, sections: Sequence[Section] = (), source: str = "", around: NoteContext | None = None
    ) -> Iterator[NoteValue]:
        """Yields the values in reading order, without bounds (`>10`), implausible values and values with another
        quantity's unit. `timed` fills in `time`; `around` is the text's context, if the caller has it."""
        around = around or NoteContext(text, sections)
        for said in mentions(masked(text)):
            value = _in_context(said, around, source)
            if value is not None:
                yield value


def value_at(
    text: str, place: tuple[int, int], number: int, concept: str, sections: Sequence[Section] = ()
) -> NoteValue | None:
    """Returns the value that a language model read at `place` of the text: the measured concept's number at `number`.

    Number and unit are the note's own. None if they do not fit the concept (implausible, another quantity's unit, a
    bound), or if the words of the place belong to another concept.
    """
    start, end = place
    owners = {s.concept for s in mentions(text[start:end]) if s.start <= number - start < s.end}
    if owners and concept not in owners:
        return None
    said = measured_at(text, number, concept)
    # The words before the number count, also those within the quote: `baseline 1.2`.
    value = None if said is None else _in_context(said, NoteContext(text, sections), "")
    return None if value is None else replace(value, start=start, quote=text[start : value.end])


def _in_context(said: NoteMention, around: NoteContext, source: str) -> NoteValue | None:
    """Returns the value of a mention in its context, or None."""
    text = around.text
    clause = _back_to(_CLAUSE, text, said.start)
    section = around.current_section(said.start)
    polarity = Polarity.PRESENT
    if said.unit is None and _denied(text, said, clause):
        polarity = Polarity.ABSENT
        if said.value == 0.0 or said.grade == 0:
            return None  # `not on room air`, `not alert`: the actual state is not stated
    past = PAST_AFTER.match(text, said.end)
    when = Temporality.HISTORICAL if past else said.when or _when(said, around, section, clause)
    absent = polarity is Polarity.ABSENT
    return NoteValue(
        concept=said.concept,
        value=0.0 if absent and said.value is not None else said.value,
        unit=said.unit,
        grade=0 if absent and said.grade is not None else said.grade,
        polarity=polarity,
        temporality=when,
        experiencer=around.experiencer(said.start, said.end, section),
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
    """Returns the values with the time of the first note that states each; copies of an earlier statement are
    dropped."""
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


def _when(said: NoteMention, around: NoteContext, section: str | None, clause: str) -> Temporality:
    if _PLANNED.search(clause):
        return Temporality.HYPOTHETICAL
    if _FORMER.search(clause):
        return Temporality.HISTORICAL
    return around.temporality(said.start, said.end, said.start - len(clause), section)


def _denied(text: str, said: NoteMention, clause: str) -> bool:
    return bool(_NEGATED.search(clause)) or bool(_GONE.match(text, said.end))


def _back_to(border: re.Pattern[str], text: str, position: int) -> str:
    """Returns the words before `position` back to the last border, at most 100 characters."""
    start = max(0, position - 100)
    piece = text[start:position]
    borders = [match.end() for match in border.finditer(piece)]
    return piece[borders[-1] :] if borders else piece
