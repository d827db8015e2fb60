"""Parses FHIR dates and times into `Instant`, which keeps how precise they are; local time zones are never assumed.

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
# A time without a zone may be anywhere between UTC-12 and UTC+14.
_UTC_MINUS_12, _UTC_PLUS_14 = timedelta(hours=12), timedelta(hours=14)
_MAX_CHARACTERS = 64  # a dateTime with nanoseconds and zone has 35 characters
_MICROSECOND = timedelta(microseconds=1)
# Outside these years a date is a sentinel (0001-01-01, 9999-12-31), not a time: an end in 9999 means no end.
# De-identified records are shifted to 2100-2200, and birth dates of the very old to 1800.
FIRST_YEAR, LAST_YEAR = 1800, 2500


def parse_instant(text: Any) -> Instant | None:
    """Returns the `Instant` of a FHIR date, dateTime or instant, or None for anything else.

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
    return _parse(text) if isinstance(text, str) and len(text) <= _MAX_CHARACTERS else None


@lru_cache(maxsize=8192)  # one visit dates dozens of resources with the same text
def _parse(text: str) -> Instant | None:
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
            return Instant(assumed - _UTC_PLUS_14, assumed + _UTC_MINUS_12, zone_assumed=True)
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
    return Instant(start, datetime(after.year, after.month, after.day, tzinfo=UTC) - _MICROSECOND)


def moment(instant: Instant) -> datetime:
    """Returns the UTC time used to order and window an instant: its latest, or, without a zone, the time as written.

    >>> moment(parse_instant("2024-05-01T02:30:00")).isoformat()
    '2024-05-01T02:30:00+00:00'
    """
    return instant.latest - _UTC_MINUS_12 if instant.zone_assumed else instant.latest


def reachable(instant: Instant, prediction_time: datetime) -> bool:
    """Whether all of `instant` is at or before `prediction_time`; what might be later counts as not known yet."""
    return instant.latest <= prediction_time


def age_range(birth: Instant, at: datetime) -> tuple[int, int] | None:
    """Returns the lowest and highest age in completed years that `birth` allows, or None if it is after `at`.

    >>> from datetime import UTC, datetime
    >>> age_range(parse_instant("1950"), datetime(2024, 5, 3, tzinfo=UTC))
    (73, 74)
    """
    youngest, oldest = _years(birth.latest, at), _years(birth.earliest, at)
    return None if oldest < 0 else (max(0, youngest), oldest)


def whole_years(birth: Instant, at: datetime) -> float | None:
    """Returns the age in completed years, or None if the birth date is after `at` or too imprecise for one age."""
    ages = age_range(birth, at)
    return float(ages[0]) if ages is not None and ages[0] == ages[1] else None


def _years(birth: datetime, at: datetime) -> int:
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))


def absent(resource: dict[str, Any], name: str) -> bool:
    """Whether a primitive element has a data-absent-reason extension (`_birthDate.extension`).

    >>> absent({"_birthDate": {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}}, "birthDate")
    True
    """
    sibling = resource.get(f"_{name}")
    extensions = sibling.get("extension") if isinstance(sibling, dict) else None
    return isinstance(extensions, list) and any(isinstance(e, dict) and e.get("url") == DATA_ABSENT for e in extensions)
