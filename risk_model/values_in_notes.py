"""Values that notes state: measured numbers, graded statements and states, each anchored in the note's own words.

    ValueReader().read(note.text, note.sections) -> NoteValue ...

`Cr 3.4 mg/dL`, `GCS 8 (E2V2M4)`, `ABG 7.32/35/88`, `oliguric`, `no lactataemia`, `bilirubin within normal limits`,
`intubated and ventilated`. Driven by the names, units and phrases of `fhir_mapping.definitions`: nothing here knows a
concept by name but the three written in a form of their own (coma scale, pressures, blood gases). Goals, baselines,
relatives' values and bounds are told apart; what is not said stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from fhir_mapping import Note, Section
from fhir_mapping.definitions import definitions
from fhir_mapping.definitions.note_words import NoteConcept, note_words
from risk_model.note_context import current_section, experiencer, temporality
from risk_model.note_numbers import PAST_AFTER, Number, number_before, numbers
from risk_model.values import NoteValue, Polarity, Temporality

NOTE = "note."
NUMERIC = ("last", "first", "min", "max")
GRADED = ("grade", "grade_min", "grade_max")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9&+]*")
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
_BETWEEN = re.compile(
    r"(?:\s*(?:[:=|,-]|\b(?:levels?|count|function|is|was|were|are|remains?|remained|now|still|has been|have been|"
    r"stays?|again|only|persistently|currently|a bit|quite)\b))*\s*",
    re.I,
)
_ATTRIBUTE = re.compile(r"(?:\s+(?:serum|blood|arterial|total|venous|his|her|the))*\s*\Z", re.I)
_COMA = re.compile(r"(?<![A-Za-z0-9])E\s?([1-4])\s*,?\s*V\s?([1-5T])t?\s*,?\s*M\s?([1-6])(?!\d)", re.I)
# The three parts in a row, eyes, verbal, motor: `GCS 3-4-5`, `GCS (3+4+5)`.
_PARTS = re.compile(r"\s*[:=]?\s*\(?([1-4])\s?[-+/]\s?([1-5])\s?[-+/]\s?([1-6])(?![\d.])\)?")
_JOINED = re.compile(r"\s?(?:/|&|,?\s?and\b)\s?", re.I)
_LINK = r"(?:\s|[:=~|-]|\b(?:was|is|at|of|now|stable|initial|repeat|on|showed|shows|currently|latest)\b)*"
_PRESSURE = re.compile(rf"{_LINK}(\d{{2,3}})\s?/\s?(\d{{2,3}})(?![\d/])", re.I)
_TWO = re.compile(rf"{_LINK}(\d+(?:\.\d+)?)%?\s?(?:/|&|,?\s?and\b)\s?(\d*\.?\d+)(?![\d/]|\s?(?:%|[A-Za-z]))", re.I)
_GAS = re.compile(
    rf"{_LINK}(\d\.\d{{1,2}})\s?[/,]\s?(\d{{2,3}})\s?[/,]\s?(\d{{2,3}})(?:\s?[/,]\s?(\d{{1,2}})(?!\d))?", re.I
)


# Beside a pH, plain CO2 and O2 are pressures: `pH 7.21, CO2 60, O2 88`, `pH of 7.21 with a CO2 of 60`.
_BESIDE_PH = re.compile(
    r"(?:[\s,;/|(-]|\b(?:and|with|an?|the|his|her)\b)*(?P<name>(?P<co2>p?a?\s?co2|carbon dioxide)|p?a?\s?o2|oxygen)\b"
    rf"{_LINK}(?P<value>\d{{1,3}}(?:\.\d+)?)(?!\s?(?:%|l\b|lit)|[\d/])(?P<kpa>\s?kpa\b)?(?:\s?mm\s?hg\b)?",
    re.I,
)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A name or a phrase of the vocabulary; `value` is a grade or a state's 1 or 0, None for a measured name."""

    pattern: re.Pattern[str]
    length: int
    kind: str
    concept: str
    value: int | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """What a mention says before its context is looked at."""

    concept: str
    start: int
    end: int
    value: float | None = None
    unit: str | None = None
    grade: int | None = None
    assumed: bool = False
    earlier: bool = False
    when: Temporality | None = None
    """Where the mention's own words say it; else the words before it decide."""


class ValueReader:
    """Reads the values of a text; holds nothing, the same answer every time."""

    name = "values-1"

    def read(self, text: str, sections: Sequence[Section] = (), source: str = "") -> Iterator[NoteValue]:
        """In reading order. Bounds (`>10`), values outside the plausible range and with another quantity's unit are
        left out. `time` is filled in by `timed`."""
        for said in _said(text):
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
    words = note_words().concepts.get(concept)
    owners = {s.concept for s in _said(text[start:end]) if s.start <= number - start < s.end}
    if words is None or (owners and concept not in owners):
        return None
    pressures = _tuple(number, _PRESSURE.match(text, number), ("systolic_bp", "diastolic_bp"))
    said = next((pressure for pressure in pressures if pressure.concept == concept), None)
    found = next(numbers(text, number, words), None)
    if said is None and found is not None:
        unit = words.definition.unit
        said = _Said(
            concept, number, found.end, found.value, unit, None, found.unit_assumed, found.earlier, _own_time(found)
        )
    # The words before the number count, those of the quote among them: `baseline 1.2`.
    value = None if said is None else _in_context(said, text, sections, "")
    return None if value is None else replace(value, start=start, quote=text[start : value.end])


def _in_context(said: _Said, text: str, sections: Sequence[Section], source: str) -> NoteValue | None:
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


def note_inputs(values: Iterable[NoteValue]) -> dict[str, float]:
    """`note.<concept>.last|first|min|max` of numbers, `note.<concept>.grade|grade_min|grade_max` of statements.

    Only what is said of this patient now; a concept that is not mentioned has no entry: unknown is never normal.
    """
    by_concept: dict[str, list[NoteValue]] = {}
    for value in values:
        if value.counts and value.polarity is not Polarity.UNCERTAIN:
            by_concept.setdefault(value.concept, []).append(value)
    found: dict[str, float] = {}
    for concept, items in by_concept.items():
        items.sort(key=lambda item: (item.time or _LONG_AGO, not item.earlier, item.note_source, item.start))
        said = [item.value for item in items if item.value is not None]
        if said:
            summary = (said[-1], said[0], min(said), max(said))
            found |= {f"{NOTE}{concept}.{name}": float(v) for name, v in zip(NUMERIC, summary, strict=True)}
        grades = [item.grade for item in items if item.grade is not None]
        if grades:
            graded = (grades[-1], min(grades), max(grades))
            found |= {f"{NOTE}{concept}.{name}": float(v) for name, v in zip(GRADED, graded, strict=True)}
    return found


def _said(text: str) -> Iterator[_Said]:
    free = 0
    for word in _WORD.finditer(text):
        if word.start() < free:
            continue
        phrase, end = _longest(text, word)
        if phrase is not None:
            found = list(_of_phrase(text, phrase, word.start(), end))
            if not found and phrase.kind == "name":
                found = list(_stated_before(text, phrase.concept, word.start(), end, free))
            free = max([end, *(said.end for said in found)])
            yield from found
        elif word.group()[0] in "Ee" and (coma := _COMA.match(text, word.start())):
            free = coma.end()
            yield _coma(word.start(), coma)


def _longest(text: str, word: re.Match[str]) -> tuple[_Phrase | None, int]:
    """The longest phrase that begins with this word, and where it ends."""
    for phrase in _lexicon().get(word.group().lower(), ()):
        match = phrase.pattern.match(text, word.start())
        if match is None:
            continue
        paired = phrase.kind == "name" and any(_paired(text, phrase.concept, word.start(), match.end()))
        if paired or not _something_else(text, phrase, word.start(), match.end()):
            return phrase, match.end()
    return None, word.end()


def _of_phrase(text: str, phrase: _Phrase, start: int, end: int) -> Iterator[_Said]:
    if phrase.kind == "grade":
        yield _Said(phrase.concept, start, end, grade=phrase.value)
    elif phrase.kind == "state":
        yield _Said(phrase.concept, start, end, value=float(phrase.value or 0))
    elif phrase.kind == "pressures":
        yield from _tuple(start, _PRESSURE.match(text, end), ("systolic_bp", "diastolic_bp"))
    elif phrase.kind == "blood_gases" or (phrase.concept == "ph" and _GAS.match(text, end)):
        yield from _tuple(start, _GAS.match(text, end), ("ph", "paco2", "pao2", "bicarbonate"))
    else:
        found = list(_paired(text, phrase.concept, start, end)) or list(_measured(text, phrase.concept, start, end))
        yield from found
        if phrase.concept == "ph" and found:
            yield from _beside_ph(text, found[-1].end)


def _beside_ph(text: str, end: int) -> Iterator[_Said]:
    """The pressures that follow a pH; each is read where it stands."""
    while match := _BESIDE_PH.match(text, end):
        definition = definitions().concepts["paco2" if match["co2"] else "pao2"]
        value = definition.convert(float(match["value"]), "kPa" if match["kpa"] else definition.unit)
        if value is None or not definition.low <= value <= definition.high:
            return
        yield _Said(
            definition.name,
            match.start("name"),
            match.end(),
            round(value, 6),
            definition.unit,
            assumed=not match["kpa"],
        )
        end = match.end()


def _paired(text: str, concept: str, start: int, end: int) -> Iterator[_Said]:
    """Two names and two values in the same order: `BUN/Cr 45/3.4`, `ALT and AST of 92 and 85`."""
    joined = _JOINED.match(text, end)
    word = None if joined is None else _WORD.match(text, joined.end())
    for phrase in () if word is None else _lexicon().get(word.group().lower(), ()):
        second = phrase.pattern.match(text, word.start()) if word is not None and phrase.kind == "name" else None
        values = None if second is None else _TWO.match(text, second.end())
        if values is None:
            continue
        named = [note_words().concepts[name] for name in (concept, phrase.concept)]
        numbers_said = [float(raw) for raw in values.groups()]
        fitting = [
            words.definition.convert(n, "1") if "1" in words.definition.conversions and n <= 1 else n
            for words, n in zip(named, numbers_said, strict=True)
        ]
        if all(
            v is not None and w.without_unit[0] <= v <= w.without_unit[1] for w, v in zip(named, fitting, strict=True)
        ):
            for words, value in zip(named, fitting, strict=True):
                yield _Said(words.definition.name, start, values.end(), value, words.definition.unit, assumed=True)
        return


def _stated_before(text: str, concept: str, start: int, end: int, free: int) -> Iterator[_Said]:
    """`20 cc/hr of urine`; what an earlier mention has read already, before `free`, is not read again."""
    words = note_words().concepts[concept]
    found = number_before(text, start, words)
    if found is not None and found[1] >= free:
        yield _Said(concept, found[1], end, found[0], words.definition.unit)


def _measured(text: str, concept: str, start: int, end: int) -> Iterator[_Said]:
    words = note_words().concepts[concept]
    unit = words.definition.unit
    coma = _COMA.match(text, _BETWEEN.match(text, end).end()) if concept == "gcs" else None  # type: ignore[union-attr]
    parts = _PARTS.match(text, end) if concept == "gcs" else None
    if coma is not None or parts is not None:
        yield _coma(start, coma or parts)  # type: ignore[arg-type]
        return
    found = [
        _Said(concept, start, n.end, n.value, unit, None, n.unit_assumed, n.earlier, _own_time(n))
        for n in numbers(text, end, words)
    ]
    if found:
        components = _COMA.search(text, found[-1].end, found[-1].end + 20) if concept == "gcs" else None
        yield from found[:-1]
        yield found[-1] if components is None else replace(found[-1], end=components.end())
        return
    graded = _graded(text, start, end)
    if graded is not None:
        yield _Said(concept, graded[0], graded[1], grade=graded[2])


def _own_time(number: Number) -> Temporality | None:
    return number.temporality if number.now or number.temporality is not Temporality.CURRENT else None


def _graded(text: str, start: int, end: int) -> tuple[int, int, int] | None:
    """An adjective right after or before a name: (start, end, grade)."""
    after = _BETWEEN.match(text, end)
    place = after.end() if after else end
    for adjective, grade in _adjectives():
        match = adjective.match(text, place)
        if match is not None:
            return start, match.end(), grade
    attribute = _ATTRIBUTE.search(text, max(0, start - 30), start)
    edge = attribute.start() if attribute else start
    for adjective, grade in _adjectives():
        for match in adjective.finditer(text, max(0, edge - 30), edge):
            if match.end() == edge:
                return match.start(), end, grade
    return None


def _coma(start: int, match: re.Match[str]) -> _Said:
    """Eyes, verbal and motor added up; an intubated patient's verbal response counts one, as it is charted."""
    eyes, verbal, motor = match.groups()
    total = int(eyes) + (1 if verbal in "Tt" else int(verbal)) + int(motor)
    return _Said("gcs", start, match.end(), float(total), definitions().concepts["gcs"].unit)


def _tuple(start: int, match: re.Match[str] | None, concepts: Sequence[str]) -> Iterator[_Said]:
    """Values written in a row, `120/80` or `7.32/35/88/18`; implausible ones left out."""
    if match is None:
        return
    for concept, raw in zip(concepts, match.groups(), strict=False):
        definition = definitions().concepts[concept]
        if raw is not None and definition.low <= float(raw) <= definition.high:
            yield _Said(concept, start, match.end(), float(raw), definition.unit, assumed=True)


def _something_else(text: str, phrase: _Phrase, start: int, end: int) -> bool:
    """`urine creatinine`, `lactate dehydrogenase`, `K/uL`: the name in the name of something else."""
    if phrase.kind != "name":
        return False
    words = note_words().concepts[phrase.concept]
    ahead = re.compile(r"[\s-]*([A-Za-z]+)").match(text, end)
    behind = re.compile(r"([A-Za-z]+)[\s-]*\Z").search(text, max(0, start - 30), start)
    previous = behind[1].lower() if behind else ""
    following = ahead[1].lower() if ahead else ""
    unit = re.compile(r"/[A-Za-z]").match(text, end) is not None or text[max(0, start - 1) : start] == "/"
    return unit or previous in words.not_after or following in words.not_before or _other_specimen(words, previous)


def _other_specimen(words: NoteConcept, previous: str) -> bool:
    if words.definition.specimen not in {"blood", "arterial"} or not previous:
        return False
    others = (specimen for specimen in definitions().specimens if specimen.name in {"urine", "csf", "other"})
    return any(previous.startswith(word) for specimen in others for word in specimen.words)


def _when(section: str | None, clause: str) -> Temporality:
    if _PLANNED.search(clause):
        return Temporality.HYPOTHETICAL
    if _FORMER.search(clause):
        return Temporality.HISTORICAL
    return temporality(section, clause)


def _denied(text: str, said: _Said, clause: str) -> bool:
    return bool(_NEGATED.search(clause)) or bool(_GONE.match(text, said.end))


def _back_to(border: re.Pattern[str], text: str, position: int) -> str:
    """The words before `position` back to the last border, at most 100 characters."""
    start = max(0, position - 100)
    piece = text[start:position]
    borders = [match.end() for match in border.finditer(piece)]
    return piece[borders[-1] :] if borders else piece


@cache
def _adjectives() -> tuple[tuple[re.Pattern[str], int], ...]:
    known = sorted(note_words().adjectives.items(), key=lambda item: -len(item[0]))
    return tuple((re.compile(rf"\b{_spaced(word)}\b", re.I), grade) for word, grade in known)


@cache
def _lexicon() -> Mapping[str, tuple[_Phrase, ...]]:
    """First word in lower case -> phrases that begin with it, longest first."""
    found: dict[str, list[_Phrase]] = {}
    for text, kind, concept, value in _vocabulary():
        first = _WORD.match(text)
        if first is not None:
            exact = any(letter.isupper() for letter in text)
            plural = "s?" if kind == "name" and not exact and len(text) > 3 else ""
            pattern = re.compile(rf"{_spaced(text)}{plural}(?![A-Za-z0-9])", re.NOFLAG if exact else re.I)
            for word in {first.group().lower(), first.group().lower() + plural.removesuffix("?")}:
                found.setdefault(word, []).append(_Phrase(pattern, len(text), kind, concept, value))
    return {word: tuple(sorted(phrases, key=lambda phrase: -phrase.length)) for word, phrases in found.items()}


def _vocabulary() -> Iterator[tuple[str, str, str, int | None]]:
    words = note_words()
    for name, concept in words.concepts.items():
        yield from ((text, "name", name, None) for text in concept.names)
        yield from ((text, "grade", name, grade) for text, grade in concept.grades.items())
    for state in words.states.values():
        yield from ((text, "state", state.name, 1) for text in state.present)
        yield from ((text, "state", state.name, 0) for text in state.absent)
    yield from ((text, "pressures", "", None) for text in words.pressures)
    yield from ((text, "blood_gases", "", None) for text in words.blood_gases)


def _spaced(text: str) -> str:
    """A pattern in which a blank may be any white space or a hyphen."""
    return re.escape(text).replace(r"\ ", r"[\s-]+").replace(r"\-", r"[\s-]?")
