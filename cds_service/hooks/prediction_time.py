"""The prediction time of a hook: now, the end of an ended encounter, or 24 hours after start for encounter-start.

Sandboxes and replays have stays that ended long ago, and de-identified data has stays far in the future. So the period
of the encounter decides, and the clock only limits an encounter that has begun and not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.core import parse_instant
from fhir_mapping.resources import starts_stay

FIRST_DAY = timedelta(hours=24)


def prediction_time(hook: str, encounter: Mapping[str, Any] | None, now: datetime) -> datetime:
    """The time as of which the record is read; later data is left out."""
    if encounter is None:
        return now
    start, end = starts_stay(dict(encounter)), _end(encounter)
    if start is not None and hook == "encounter-start":
        first_day = start.earliest + FIRST_DAY
        running = end is None and start.earliest <= now
        return min(moment for moment in (first_day, end, now if running else None) if moment is not None)
    if end is not None:
        return end if end <= now or (start is not None and start.earliest > now) else now
    return now if start is None or start.earliest <= now else start.earliest + FIRST_DAY


def _end(encounter: Mapping[str, Any]) -> datetime | None:
    period = encounter.get("period") or encounter.get("actualPeriod")
    instant = parse_instant(period.get("end")) if isinstance(period, dict) else None
    return None if instant is None else instant.latest
