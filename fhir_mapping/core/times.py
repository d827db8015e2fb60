"""FHIR dates and times to `Instant`: imprecise where they enter, never read in the server's own zone.

FHIR R4 datatypes date, dateTime and instant (https://hl7.org/fhir/R4/datatypes.html#dateTime).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from fhir_mapping.core.values import Instant

DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?\Z")
_LEAP_SECOND = re.compile(r"(T\d{2}:\d{2}):60")
# A time of day without a zone may be anywhere between UTC-12 and UTC+14.
_WEST, _EAST = timedelta(hours=12), timedelta(hours=14)
_LONGEST = 64  # a dateTime with nanoseconds and zone has 35 characters
_LAST_MOMENT = timedelta(microseconds=1)
# Outside these years a date is a sentinel (0001-01-01, 9999-12-31), not a time: an end in 9999 is no end at all.
# De-identified records move to 2100-2200, and births of the very old to 1800.
FIRST_YEAR, LAST_YEAR = 1800, 2500


def parse_instant(text: Any) -> Instant | None:
    """The instant a FHIR date, dateTime or instant means, or None when it is not one.

    >>> parse_instant("2024-05-01T10:00:00+02:00").latest.isoformat()
    '2024-05-01T08:00:00+00:00'
    >>> day = parse_instant("2024-05-01")
    >>> day.earliest.isoformat(), day.latest.isoformat()
    ('2024-05-01T00:00:00+00:00', '2024-05-01T23:59:59.999999+00:00')
    >>> parse_instant("2024-05-01T02:30:00").zone_assumed
    True
    >>> parse_instant("yesterday") is None
    True
    """
    return _parse(text) if isinstance(text, str) and len(text) <= _LONGEST else None


@lru_cache(maxsize=8192)
def _parse(text: str) -> Instant | None:
    """One visit dates dozens of resources with the same text."""
    if len(text) < 16:
        found = _DATE.match(text)
        return _span(found) if found else None
    if text[10] not in "Tt":
        return None
    try:
        # A leap second is legal in FHIR and unknown to Python.
        moment = datetime.fromisoformat(_LEAP_SECOND.sub(r"\g<1>:59", text) if ":60" in text else text)
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            return None
        if moment.tzinfo is None:
            assumed = moment.replace(tzinfo=UTC)
            return Instant(assumed - _EAST, assumed + _WEST, zone_assumed=True)
        exact = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Instant(exact, exact)


def _span(found: re.Match[str]) -> Instant | None:
    year, month, day = (int(part) if part else None for part in found.groups())
    if not FIRST_YEAR <= (year or 0) <= LAST_YEAR:
        return None
    try:
        first = date(year or 0, month or 1, day or 1)
        if day:
            after = first + timedelta(days=1)
        elif month:
            after = (first + timedelta(days=31)).replace(day=1)
        else:
            after = first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    return Instant(start, datetime(after.year, after.month, after.day, tzinfo=UTC) - _LAST_MOMENT)


def moment(instant: Instant) -> datetime:
    """The moment that stands for an instant in sequences and windows: its end, or the time as written without a zone.

    >>> moment(parse_instant("2024-05-01T02:30:00")).isoformat()
    '2024-05-01T02:30:00+00:00'
    """
    return instant.latest - _WEST if instant.zone_assumed else instant.latest


def reachable(instant: Instant, prediction_time: datetime) -> bool:
    """Whether the whole of `instant` lies at or before `prediction_time`: what might be later is not known yet."""
    return instant.latest <= prediction_time


def age_range(birth: Instant, at: datetime) -> tuple[int, int] | None:
    """The youngest and the oldest age in completed years that `birth` allows, or None when it lies after `at`.

    >>> from datetime import UTC, datetime
    >>> age_range(parse_instant("1950"), datetime(2024, 5, 3, tzinfo=UTC))
    (73, 74)
    """
    youngest, oldest = _years(birth.latest, at), _years(birth.earliest, at)
    return None if oldest < 0 else (max(0, youngest), oldest)


def whole_years(birth: Instant, at: datetime) -> float | None:
    """Age in completed years, or None where the birth date is too imprecise to settle it, or later than `at`."""
    ages = age_range(birth, at)
    return float(ages[0]) if ages is not None and ages[0] == ages[1] else None


def _years(born: datetime, at: datetime) -> int:
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


def absent(resource: dict[str, Any], name: str) -> bool:
    """Whether a primitive element carries a data-absent-reason (`_birthDate.extension`).

    >>> absent({"_birthDate": {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}}, "birthDate")
    True
    """
    beside = resource.get(f"_{name}")
    extensions = beside.get("extension") if isinstance(beside, dict) else None
    return isinstance(extensions, list) and any(isinstance(e, dict) and e.get("url") == DATA_ABSENT for e in extensions)
