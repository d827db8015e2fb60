"""The class and period of an Encounter: what it is, what it was before (`classHistory`), and why it is unknown.

A class of another code system than those of `encounter_codes.yaml` is legal (the binding is extensible), and what it
means is not known here: it is never taken for "no inpatient stay".

FHIR R4 Encounter.class and classHistory (https://hl7.org/fhir/R4/encounter-definitions.html#Encounter.classHistory).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_mapping.core.times import parse_instant, reachable
from fhir_mapping.core.values import Coding, Instant, StayClass
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.terminology.codes import coding, codings
from fhir_mapping.terminology.encounter_codes import meanings

_REMOTE = "remote"
_WRITTEN_CODE = re.compile(r"[A-Za-z0-9._:/\-]{1,80}\Z")
# An emergency visit that becomes an admission may carry both classes.
_ADMITTED_THROUGH_EMERGENCY = frozenset({"inpatient", "emergency"})


class EncounterClass(NamedTuple):
    """The class; `unknown` has the reason code if it is not understood, `written` the codes as sent."""

    stay_class: StayClass
    unknown: str | None = None
    written: str | None = None
    remote: bool = False


class ClassPeriod(NamedTuple):
    """A time in which an Encounter had one class; `start` is None for the start of the Encounter."""

    encounter_class: EncounterClass
    start: Instant | None


def period_of(resource: Resource) -> tuple[Instant | None, Instant | None]:
    """Returns start and end: `period` in R4, `actualPeriod` in R5."""
    period = resource.get("period") or resource.get("actualPeriod")
    if not isinstance(period, dict):
        return None, None
    return parse_instant(period.get("start")), parse_instant(period.get("end"))


def class_of(raw: Any) -> EncounterClass:
    """Returns the class of all codings, whatever their order. R4 has one Coding, R5 a list of CodeableConcepts, some
    servers one of these, a list of Codings, or a word.

    >>> class_of({"code": "IMP"}).stay_class, class_of("inpatient").stay_class
    (<StayClass.INPATIENT: 'inpatient'>, <StayClass.INPATIENT: 'inpatient'>)
    >>> class_of({"system": "urn:local", "code": "4"})[1:3], class_of(None).unknown
    (('class-not-understood', '4 of urn:local'), 'no-class')
    """
    found = tuple(c for item in (raw if isinstance(raw, list) else [raw]) for c in _class_codings(item))
    if not found:
        return EncounterClass(StayClass.OTHER, "class-not-understood" if _stated(raw) else "no-class")
    return _class_of(found)


@lru_cache(maxsize=1024)  # a chart repeats the same few classes
def _class_of(found: tuple[Coding, ...]) -> EncounterClass:
    understood = meanings("classes", found)
    if understood >= _ADMITTED_THROUGH_EMERGENCY:
        understood -= {"emergency"}
    kinds = {"outpatient" if name == _REMOTE else name for name in understood}
    if len(kinds) != 1:
        written = ", ".join(sorted(filter(None, map(_written, found)))) or None
        return EncounterClass(StayClass.OTHER, "codes-disagree" if kinds else "class-not-understood", written)
    return EncounterClass(StayClass(kinds.pop()), remote=understood == {_REMOTE})


def class_periods(resource: Resource, prediction_time: datetime) -> list[ClassPeriod]:
    """Returns the classes of an Encounter up to `prediction_time`, oldest first; at least one.

    `classHistory` lists earlier classes with their periods, and the present one or not. A class that began later than
    `prediction_time` was not known then::

        classHistory:  EMER 06:00-18:00, IMP 18:00-    class: IMP
        at 10:00       [EMER]
        at 20:00       [EMER from the start, IMP from 18:00]
    """
    now = class_of(resource.get("class"))
    history = sorted(_history(resource), key=lambda item: (item[1].latest, item[1].earliest))
    changed = bool(history) and now.unknown != "no-class" and now.stay_class is not history[-1][0].stay_class
    if not history or (changed and history[-1][2] is None):  # no history, or one that contradicts the class
        return [ClassPeriod(now, None)]
    periods = [ClassPeriod(kind, start) for kind, start, _ in history]
    if changed:
        periods.append(ClassPeriod(now, history[-1][2]))
    begun = [period for period in periods if period.start is None or reachable(period.start, prediction_time)]
    found: list[ClassPeriod] = []
    for period in begun or periods[:1]:
        if not found or period.encounter_class.stay_class is not found[-1].encounter_class.stay_class:
            found.append(period)
    return [ClassPeriod(found[0].encounter_class, None), *found[1:]]


def _history(resource: Resource) -> Iterator[tuple[EncounterClass, Instant, Instant | None]]:
    """Yields class, start and end of each entry of `classHistory` that has a start."""
    listed = resource.get("classHistory")
    for item in listed if isinstance(listed, list) else ():
        period = item.get("period") if isinstance(item, dict) else None
        if not isinstance(period, dict):
            continue
        start, end = parse_instant(period.get("start")), parse_instant(period.get("end"))
        kind = class_of(item.get("class"))
        if start is not None and kind.unknown is None:
            yield kind, start, end


def _class_codings(raw: Any) -> tuple[Coding, ...]:
    if isinstance(raw, str) and raw.strip():
        return (Coding(None, raw.strip()),)
    return coding(raw) or codings(raw)


def _stated(raw: Any) -> bool:
    """Whether an element says something, if only as text."""
    return bool(raw) and not (isinstance(raw, dict) and set(raw) <= {"extension", "id"})


def _written(found: Coding) -> str | None:
    """Returns code and system as written; None if the code may be free text."""
    if not _WRITTEN_CODE.match(found.code):
        return None
    system = found.system if found.system and _WRITTEN_CODE.match(found.system) else "no code system"
    return f"{found.code} of {system}"
