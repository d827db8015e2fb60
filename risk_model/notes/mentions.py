"""Mentions of the vocabulary in a text: values, grades and states, before their context is considered.

No concept is special except the three with a notation of their own: coma scale, blood pressure, blood gases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fhir_mapping.terminology import definitions, note_phrases
from knowledge_index import Temporality
from risk_model.notes.asides import aside
from risk_model.notes.fluids import other_fluids
from risk_model.notes.lexicon import WORD, Phrase, adjective_at, adjective_before, lexicon, part_of_another_name
from risk_model.notes.numbers import (
    EARLIER,
    LATER,
    MOST_NUMBERS,
    NEXT_NUMBER,
    NOW,
    PAST,
    PAST_AFTER,
    Number,
    number_before,
    numbers,
)

# The words before a name in a list of what is eaten: `renal diet (low potassium, low sodium)`.
_DIET = re.compile(r"\bdiets?\s?[:(-]\s?[^.;:\n()]{0,50}\Z", re.I)
_BETWEEN = re.compile(
    r"(?:\s*(?:[:=|,-]|\b(?:levels?|count|function|is|was|were|are|remains?|remained|now|still|has been|have been|"
    r"stays?|again|only|persistently|currently|a bit|quite)\b))*\s*",
    re.I,
)
_ATTRIBUTE = re.compile(r"(?:\s+(?:serum|blood|arterial|total|venous|his|her|the))*\s*\Z", re.I)
_COLON = re.compile(r"\s*[:=]?\s*")
_COMA = re.compile(r"(?<![A-Za-z0-9])E\s?([1-4])\s*,?\s*V\s?([1-5T])t?\s*,?\s*M\s?([1-6])(?!\d)", re.I)
# The three parts in order, eyes, verbal, motor: `GCS 3-4-5`, `GCS (3+4+5)`.
_PARTS = re.compile(r"\s*[:=]?\s*\(?([1-4])\s?[-+/]\s?([1-5])\s?[-+/]\s?([1-6])(?![\d.])\)?")
_FEET = re.compile(
    r"(?P<feet>[3-7])\s?(?:['’′](?!')|(?:ft\.?|feet|foot)(?!\d))(?:\s?(?P<inches>\d{1,2}(?:\.\d+)?)\s?(?:\"|''|”|″|in(?:ches|\.)?\b)?)?",
    re.I,
)
_JOINED = re.compile(r"\s?(?:/|&|,?\s?and\b)\s?", re.I)
_LINK = r"(?:\s|[:=~|-]|\b(?:was|is|at|of|now|stable|initial|repeat|on|showed|shows|currently|latest)\b)*"
_PRESSURE_LINK = (
    r"(?P<link>(?:\s+|[:=~|(-]|\b(?:was|is|at|of|now|stable|initial(?:ly)?|repeat|on|showed|shows|currently|latest|today|from|to|"
    r"then|down|up|dropped|fell|rose|improved|baseline|usual|previously|prior|arrival|admission|subsequently|later|only|low|"
    r"high|soft|as|recheck(?:ed)?|manual|about|around|running|in|the|his|her|it|went)\b){0,12}+)"
)
_PRESSURE = re.compile(rf"{_PRESSURE_LINK}(\d{{2,3}})\s?/\s?(\d{{2,3}})(?![\d/])", re.I)
_LEAST_SYSTOLIC = 40
"""A pair below it that follows another is a date, a score or a visual acuity: `150/92, vision 20/40`."""
# What stands between two pairs of pressures beside what stands between other values: `82/40, improved to 104/60`.
_NEXT_PRESSURE = re.compile(
    r"(?:[,;]|\n)?\s*(?:\b(?:and|but|is|was|has|now|then|with|after|following|post|fluids?|iv|ivf|bolus|nitro\w*|pressors?|improv(?:ed|ing)|"
    r"respond(?:ed|ing)|increas(?:ed|ing)|decreas(?:ed|ing)|dropp(?:ed|ing)|drifted|came|went|repeat(?:ed)?|recheck(?:ed)?|later|"
    r"subsequently|to|up|down|left|right|arm|sitting|standing|supine|lying)\b,?\s*){0,8}(?=\d{2,3}\s?/\s?\d{2,3}(?![\d/]))",
    re.I,
)
_TWO = re.compile(
    rf"{_LINK}(\d+(?:\.\d+)?)%?\s?(?:/|&|,?\s?and\b)\s?(\d*\.?\d+)(?!\.?\d|/|\s?%|\s?(?!(?:from|on|at|today|now|yesterday|and|with|this|in|up|down|to)\b)[A-Za-z])",
    re.I,
)
_GAS = re.compile(
    rf"{_LINK}(\d\.\d{{1,2}})\s?[/,]\s?(\d{{2,3}})\s?[/,]\s?(\d{{2,3}})(?:\s?[/,]\s?(\d{{1,2}})(?!\d))?", re.I
)
# After a pH, plain CO2 and O2 are pressures: `pH 7.21, CO2 60, O2 88`, `pH of 7.21 with a CO2 of 60`.
_BESIDE_PH = re.compile(
    r"(?:[\s,;/|(-]|\b(?:and|with|an?|the|his|her)\b)*(?P<name>(?P<co2>p?a?\s?co2|carbon dioxide)|p?a?\s?o2|oxygen)\b"
    rf"{_LINK}(?P<value>\d{{1,3}}(?:\.\d+)?)(?!\s?(?:%|l\b|lit)|[\d/])(?P<kpa>\s?kpa\b)?(?:\s?mm\s?hg\b)?",
    re.I,
)


@dataclass(frozen=True, slots=True)
class NoteMention:
    """A mention before its context is considered."""

    concept: str
    start: int
    end: int
    value: float | None = None
    unit: str | None = None
    grade: int | None = None
    assumed: bool = False
    earlier: bool = False
    when: Temporality | None = None
    """Set if the mention itself gives its time; otherwise the words before it decide."""


def mentions(text: str) -> Iterator[NoteMention]:
    """Returns the mentions in reading order, none inside another."""
    free = 0
    fluids = other_fluids(text)
    for word in WORD.finditer(text):
        if word.start() < free:
            continue
        phrase, end = _longest(text, word)
        if phrase is not None and phrase.kind == "name" and fluids.hold(phrase.concept, word.start()):
            free = end
        elif phrase is not None:
            found = list(_of_phrase(text, phrase, word.start(), end))
            if not found and phrase.kind == "name":
                found = list(_stated_before(text, phrase.concept, word.start(), end, free))
            free = max([end, *(said.end for said in found)])
            yield from (said for said in found if not fluids.hold(said.concept, said.start))
        elif word.group()[0] in "Ee" and (coma := _COMA.match(text, word.start())):
            free = coma.end()
            yield _coma(word.start(), coma)


def measured_at(text: str, number: int, concept: str) -> NoteMention | None:
    """Returns the measured concept's value whose number is at `number`; None if it cannot be of that concept."""
    pressures = _tuple(number, _PRESSURE.match(text, number), ("systolic_bp", "diastolic_bp"))
    said = next((pressure for pressure in pressures if pressure.concept == concept), None)
    words = note_phrases().concepts.get(concept)
    found = None if words is None else next(numbers(text, number, words), None)
    if said is not None or found is None or words is None:
        return said
    unit, when = words.definition.unit, _own_time(found)
    return NoteMention(concept, number, found.end, found.value, unit, None, found.unit_assumed, found.earlier, when)


def _longest(text: str, word: re.Match[str]) -> tuple[Phrase | None, int]:
    """Returns the longest phrase that begins with this word, and its end."""
    longest: tuple[Phrase, int] | None = None
    for phrase in lexicon().get(word.group().lower(), ()):
        match = phrase.pattern.match(text, word.start())
        if match is None:
            continue
        if phrase.kind == "name" and any(_paired(text, phrase.concept, word.start(), match.end())):
            return phrase, match.end()  # `PaO2/FiO2 88/0.5` are two values, whatever both names together mean
        if longest is None and not part_of_another_name(text, phrase, word.start(), match.end()):
            longest = phrase, match.end()
    return longest or (None, word.end())


def _of_phrase(text: str, phrase: Phrase, start: int, end: int) -> Iterator[NoteMention]:
    if phrase.kind == "grade":
        yield NoteMention(phrase.concept, start, end, grade=phrase.value)
    elif phrase.kind == "state":
        yield NoteMention(phrase.concept, start, end, value=float(phrase.value or 0))
    elif phrase.kind == "pressures":
        yield from _pressures(text, start, end)
    elif phrase.kind == "blood_gases" or (phrase.concept == "ph" and _GAS.match(text, end)):
        yield from _tuple(start, _GAS.match(text, end), ("ph", "paco2", "pao2", "bicarbonate"))
    else:
        found = list(_paired(text, phrase.concept, start, end)) or list(_measured(text, phrase.concept, start, end))
        yield from found
        if phrase.concept == "ph" and found:
            yield from _beside_ph(text, found[-1].end)


def _pressures(text: str, start: int, end: int) -> Iterator[NoteMention]:
    """Returns a pair of pressures and those that follow it: `150/90, now 88/45`, `150/90 -> 120/80 -> 85/40`."""
    found: list[tuple[re.Match[str], str]] = []
    lead = aside(text, _COLON.match(text, end).end())  # type: ignore[union-attr]
    match, joined = _PRESSURE.match(text, lead.end if text[lead.end - 1] in ")]" else aside(text, end).end), ""
    while match is not None and len(found) < MOST_NUMBERS:
        if found and int(match[2]) < _LEAST_SYSTOLIC:
            break
        found.append((match, joined + match["link"]))
        place = aside(text, match.end()).end
        step = _NEXT_PRESSURE.match(text, place) or NEXT_NUMBER.match(text, place)
        joined = "" if step is None else step.group()
        match = None if step is None else _PRESSURE.match(text, step.end())
    for place, (pair, link) in enumerate(found):
        overtaken = any(LATER.search(later) and not PAST.search(later) for _, later in found[place + 1 :])
        earlier = overtaken or (EARLIER.search(link) is not None and LATER.search(link) is None)
        past = PAST.search(link) or PAST_AFTER.match(text, pair.end())
        when = Temporality.HISTORICAL if past else Temporality.CURRENT if NOW.search(link) else None
        for said in _tuple(start, pair, ("systolic_bp", "diastolic_bp")):
            yield replace(said, earlier=earlier, when=when)


def _beside_ph(text: str, end: int) -> Iterator[NoteMention]:
    """Returns the pressures that follow a pH."""
    while match := _BESIDE_PH.match(text, end):
        definition = definitions().concepts["paco2" if match["co2"] else "pao2"]
        value = definition.convert(float(match["value"]), "kPa" if match["kpa"] else definition.unit)
        if value is None or not definition.low <= value <= definition.high:
            return
        yield NoteMention(
            definition.name,
            match.start("name"),
            match.end(),
            round(value, 6),
            definition.unit,
            assumed=not match["kpa"],
        )
        end = match.end()


def _paired(text: str, concept: str, start: int, end: int) -> Iterator[NoteMention]:
    """Two names and two values in the same order: `BUN/Cr 45/3.4`, `ALT and AST of 92 and 85`."""
    joined = _JOINED.match(text, end)
    word = None if joined is None else WORD.match(text, joined.end())
    for phrase in () if word is None else lexicon().get(word.group().lower(), ()):
        second = phrase.pattern.match(text, word.start()) if word is not None and phrase.kind == "name" else None
        values = None if second is None else _TWO.match(text, second.end())
        if values is None:
            continue
        named = [note_phrases().concepts[name] for name in (concept, phrase.concept)]
        numbers_said = [float(raw) for raw in values.groups()]
        fitting = [
            words.definition.convert(n, "1") if "1" in words.definition.conversions and n <= 1 else n
            for words, n in zip(named, numbers_said, strict=True)
        ]
        if all(
            v is not None and w.without_unit[0] <= v <= w.without_unit[1] for w, v in zip(named, fitting, strict=True)
        ):
            for words, value in zip(named, fitting, strict=True):
                yield NoteMention(
                    words.definition.name, start, values.end(), value, words.definition.unit, assumed=True
                )
        return


def _stated_before(text: str, concept: str, start: int, end: int, free: int) -> Iterator[NoteMention]:
    """A value before its name, `20 cc/hr of urine`; values before `free` belong to an earlier mention."""
    words = note_phrases().concepts[concept]
    found = number_before(text, start, words)
    if found is not None and found[1] >= free:
        yield NoteMention(concept, found[1], end, found[0], words.definition.unit)


def _measured(text: str, concept: str, start: int, end: int) -> Iterator[NoteMention]:
    words = note_phrases().concepts[concept]
    unit = words.definition.unit
    feet = _FEET.match(text, _BETWEEN.match(text, end).end()) if concept == "height" else None  # type: ignore[union-attr]
    if feet is not None:
        inches = 12 * int(feet["feet"]) + float(feet["inches"] or 0)
        yield NoteMention(concept, start, feet.end(), round(2.54 * inches, 6), unit)
        return
    coma = _COMA.match(text, _BETWEEN.match(text, end).end()) if concept == "gcs" else None  # type: ignore[union-attr]
    parts = _PARTS.match(text, end) if concept == "gcs" else None
    if coma is not None or parts is not None:
        yield _coma(start, coma or parts)  # type: ignore[arg-type]
        return
    found = [
        NoteMention(concept, start, n.end, n.value, unit, None, n.unit_assumed, n.earlier, _own_time(n))
        for n in numbers(text, end, words)
    ]
    if found:
        components = _COMA.search(text, found[-1].end, found[-1].end + 20) if concept == "gcs" else None
        yield from found[:-1]
        yield found[-1] if components is None else replace(found[-1], end=components.end())
        return
    graded = _graded(text, start, end)
    if graded is not None:
        yield NoteMention(concept, graded[0], graded[1], grade=graded[2])


def _own_time(number: Number) -> Temporality | None:
    return number.temporality if number.now or number.temporality is not Temporality.CURRENT else None


def _graded(text: str, start: int, end: int) -> tuple[int, int, int] | None:
    """Returns an adjective right after or before a name: (start, end, grade)."""
    after = _BETWEEN.match(text, end)
    place = after.end() if after else end
    said = adjective_at(text, place)
    if said is not None:
        return start, said[0], said[1]
    if _DIET.search(text, max(0, start - 60), start):
        return None
    attribute = _ATTRIBUTE.search(text, max(0, start - 30), start)
    edge = attribute.start() if attribute else start
    said = adjective_before(text, edge)
    if said is not None:
        return said[0], end, said[1]
    return None


def _coma(start: int, match: re.Match[str]) -> NoteMention:
    """Returns the sum of eyes, verbal and motor; the verbal response of an intubated patient counts one, as is usual in
    charts."""
    eyes, verbal, motor = match.groups()
    total = int(eyes) + (1 if verbal in "Tt" else int(verbal)) + int(motor)
    return NoteMention("gcs", start, match.end(), float(total), definitions().concepts["gcs"].unit)


def _tuple(start: int, match: re.Match[str] | None, concepts: Sequence[str]) -> Iterator[NoteMention]:
    """Returns values written in a row, `120/80` or `7.32/35/88/18`, without implausible ones."""
    if match is None:
        return
    for concept, raw in zip(concepts, match.groups()[-len(concepts) :], strict=False):
        definition = definitions().concepts[concept]
        if raw is not None and definition.low <= float(raw) <= definition.high:
            yield NoteMention(concept, start, match.end(), float(raw), definition.unit, assumed=True)
