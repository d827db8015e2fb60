"""The events of a MEDS subject, and the visits that they begin and end."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from risk_model.cohorts.meds_encounters import EncounterPairs

_CLASSES = {
    "IMP": "inpatient stay",
    "EMER": "emergency visit",
    "OBSENC": "observation visit",
    "AMB": "outpatient visit",
}

_OF_VISITS = ("ENCOUNTER", "VISIT", "ADMISSION_", "HOSPITAL_", "ED_", "ICU_")


@dataclass(frozen=True, slots=True)
class SubjectEvent:
    """One row of MEDS data; `time` has no zone, as in MEDS, and is None for what never changes."""

    time: datetime | None
    code: str
    number: float | None
    unit: str | None = None
    text: str | None = None
    encounter: str | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit; `end` is None if none is recorded. `key` is the dataset's id of the encounter, if it has one."""

    start: datetime
    end: datetime | None
    kind: str
    key: str | None

    def ended(self, at: datetime) -> bool:
        """Whether the end is known at that time: of a running visit nothing may show how long it will last."""
        return self.end is not None and self.end <= at


def visits_of(events: Iterable[SubjectEvent]) -> tuple[Visit, ...]:
    """Returns the visits, oldest first. Intensive care and the parts of a stay count as visits of their own."""
    made: list[dict[str, Any]] = []

    def new(kind: str, content: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        resource = {"resourceType": kind, "id": str(len(made)), "key": key, **content}
        made.append(resource)
        return resource

    pairs = EncounterPairs(new, Counter())
    for event in events:
        if not event.code.upper().startswith(_OF_VISITS):
            continue
        head, *rest = event.code.split("//" if "//" in event.code else "/")
        row = {"time": event.time, "end": event.end, "encounter": event.encounter, "text_value": event.text}
        pairs.read(head, tuple(rest), row)
    pairs.finish()
    found = [visit for resource in made if (visit := _visit(resource)) is not None]
    return tuple(sorted(found, key=lambda visit: visit.start))


def visit_of_each(events: Sequence[SubjectEvent], visits: Sequence[Visit]) -> list[Visit | None]:
    """Returns the visit of every event: by its id; else the one that was running then, the latest begun.

    It does not depend on when one looks: a visit that is over by then holds what happened until its end, and one that
    is not holds everything since its start.
    """
    starts = [visit.start for visit in visits]
    by_key = {visit.key: visit for visit in reversed(visits) if visit.key is not None}
    latest_end = list(accumulate((visit.end or datetime.max for visit in visits), max))  # noqa: DTZ901 - as in MEDS

    def of(event: SubjectEvent) -> Visit | None:
        if event.encounter is not None and event.encounter in by_key:
            return by_key[event.encounter]
        place = -1 if event.time is None else bisect_right(starts, event.time) - 1
        while place >= 0 and event.time is not None and latest_end[place] >= event.time:
            end = visits[place].end
            if end is None or event.time <= end:
                return visits[place]
            place -= 1
        return None

    return [of(event) for event in events]


def _visit(resource: dict[str, Any]) -> Visit | None:
    period = resource["period"]
    if not period.get("start"):
        return None
    start, end = (_bare(period.get(name)) for name in ("start", "end"))
    assert start is not None
    kind = "intensive care stay" if resource.get("type") else _CLASSES.get(resource["class"]["code"], "visit")
    return Visit(start, end, kind, resource["key"])


def _bare(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
