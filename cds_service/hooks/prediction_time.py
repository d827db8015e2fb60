"""When a hook's question is asked: now; the encounter's end where it has ended; a day after start at encounter-start.

Sandboxes and replays hold stays that ended long ago, and de-identified data stays a century ahead: an encounter that
has a period is judged by it, and the wall clock only bounds an encounter that is running and has begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.core import parse_instant
from fhir_mapping.resources import starts_stay

FIRST_DAY = timedelta(hours=24)


def prediction_time(hook: str, encounter: Mapping[str, Any] | None, now: datetime) -> datetime:
    """The moment as of which the record is read."""
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
