"""Reads the items of a rubric from a record: numbers, or None if the record does not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from fhir_mapping import Availability, Coding, PatientRecord, StayClass
from risk_model.labels.predicates import CodeSet
from risk_model.labels.schema import TaskField, code_set

AGGREGATES = ("last", "first", "min", "max", "mean", "count")
_RESOURCES = {
    "conditions": ("Condition",),
    "medications": ("MedicationRequest", "MedicationStatement", "MedicationAdministration"),
    "procedures": ("Procedure",),
}


@dataclass(frozen=True, slots=True)
class ItemValue:
    """A number, or None if it is unknown."""

    number: float | None


UNKNOWN = ItemValue(None)


class ItemReader(Protocol):
    """A way to read an item from a record."""

    def of(self, record: PatientRecord, present: frozenset[str] | None) -> ItemValue: ...


@dataclass(frozen=True, slots=True)
class MeasuredItem:
    """A measured concept in its canonical unit, or age in years."""

    concept: str
    aggregate: str
    within: timedelta | None

    def of(self, record: PatientRecord, present: frozenset[str] | None) -> ItemValue:
        if self.concept == "age":
            return ItemValue(record.features().number("age.last"))
        values = [
            item.value
            for item in record.measurements
            if item.concept == self.concept and _inside(item.time, record.prediction_time, self.within)
        ]
        if self.aggregate == "count":
            return ItemValue(float(len(values))) if _asked_for(record, ("Observation",)) else UNKNOWN
        return ItemValue(_aggregated(values, self.aggregate)) if values else UNKNOWN


def _aggregated(values: Sequence[float], aggregate: str) -> float:
    if aggregate in {"last", "first"}:
        return values[-1 if aggregate == "last" else 0]
    return sum(values) / len(values) if aggregate == "mean" else (min if aggregate == "min" else max)(values)


@dataclass(frozen=True, slots=True)
class CodedCount:
    """The number of different conditions, medications or procedures that match by words of their text or by codes.

    With a time window, matches without a date make the count unknown.
    """

    kind: str
    words: re.Pattern[str] | None
    codes: tuple[CodeSet, ...]
    active: bool
    within: timedelta | None

    def of(self, record: PatientRecord, present: frozenset[str] | None) -> ItemValue:
        if not _asked_for(record, _RESOURCES[self.kind]):
            return UNKNOWN
        inside: set[str] = set()
        unclear = False
        for text, codings, when, active in self._entries(record):
            if not self._matches(text, codings) or (self.active and active is False):
                continue
            if (self.within is not None and when is None) or (self.active and active is None):
                unclear = True
            elif when is None or _inside(when, record.prediction_time, self.within):
                inside.add(text.casefold())
        return UNKNOWN if unclear and not inside else ItemValue(float(len(inside)))

    def _entries(self, record: PatientRecord) -> Iterable[tuple[str, tuple[Coding, ...], datetime | None, bool | None]]:
        if self.kind == "conditions":
            return ((c.text, c.codings, c.recorded or c.onset, c.active) for c in record.conditions)
        if self.kind == "medications":
            return ((m.text, m.codings, m.start, m.active) for m in record.medications)
        return ((p.text, p.codings, p.performed, True) for p in record.procedures)

    def _matches(self, text: str, codings: tuple[Coding, ...]) -> bool:
        if self.words is not None and self.words.search(text):
            return True
        return any(group.holds(coding.system, coding.code) for group in self.codes for coding in codings)


def coded(field: TaskField, kind: str, within: timedelta | None) -> CodedCount:
    """Reads `{words: [...], codes: [...], active: true}`, or `any: true` for all. Words match from the start of a word
    of the text, ignoring case."""
    allowed = {"words", "codes", "any"} | ({"active"} if kind != "procedures" else set())
    values = field.mapping(allowed)
    everything = "any" in values and field.at("any").flag()
    if everything == bool({"words", "codes"} & set(values)):
        field.fail("needs words or codes, or any: true alone")
    words = [item.text() for item in field.at("words").items()] if "words" in values else []
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})", re.IGNORECASE) if words else None
    pattern = re.compile("") if everything else pattern
    sets = tuple(code_set(item) for item in field.at("codes").items()) if "codes" in values else ()
    return CodedCount(kind, pattern, sets, field.at("active").flag() if "active" in values else False, within)


@dataclass(frozen=True, slots=True)
class Stays:
    """The number of encounters of these classes that began in the window and are over; the current one does not
    count."""

    classes: frozenset[StayClass]
    within: timedelta | None

    def of(self, record: PatientRecord, present: frozenset[str] | None) -> ItemValue:
        if not _asked_for(record, ("Encounter",)):
            return UNKNOWN
        current = record.current_stay
        earlier = [stay for stay in record.stays if current is None or stay.source != current.source]
        inside = [s for s in earlier if _inside(s.start, record.prediction_time, self.within) and not s.running]
        if self.classes != frozenset(StayClass) and any(stay.class_unknown for stay in inside):
            return UNKNOWN
        return ItemValue(float(sum(stay.stay_class in self.classes for stay in inside)))


@dataclass(frozen=True, slots=True)
class InNotes:
    """The number of these names that a note reader found present in the patient now, ignoring case."""

    names: frozenset[str]

    def of(self, record: PatientRecord, present: frozenset[str] | None) -> ItemValue:
        return UNKNOWN if present is None else ItemValue(float(len(self.names & {name.casefold() for name in present})))


def _inside(when: datetime, at: datetime, within: timedelta | None) -> bool:
    return when <= at and (within is None or when > at - within)


def _asked_for(record: PatientRecord, types: Sequence[str]) -> bool:
    """Whether finding none means that there is none: at least one of the types was fetched."""
    return any(record.availability(kind) is not Availability.NOT_FETCHED for kind in types)
