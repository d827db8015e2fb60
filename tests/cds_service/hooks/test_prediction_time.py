"""The prediction time of each hook, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cds_service.hooks.prediction_time import prediction_time

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
ROWS = [
    ("no encounter", "patient-view", None, None, "2026-11-21T06"),
    ("running", "patient-view", "2026-11-19T06", None, "2026-11-21T06"),
    ("ended", "patient-view", "2024-01-01T06", "2024-01-09T06", "2024-01-09T06"),
    ("discharge of an ended stay", "encounter-discharge", "2024-01-01T06", "2024-01-09T06", "2024-01-09T06"),
    ("discharge of a running stay", "encounter-discharge", "2026-11-19T06", None, "2026-11-21T06"),
    ("start, a day ago and more", "encounter-start", "2026-11-19T06", None, "2026-11-20T06"),
    ("start, hours ago", "encounter-start", "2026-11-21T02", None, "2026-11-21T06"),
    ("start of a stay of long ago", "encounter-start", "2024-01-01T06", "2024-01-09T06", "2024-01-02T06"),
    ("start of a stay of half a day", "encounter-start", "2024-01-01T06", "2024-01-01T18", "2024-01-01T18"),
    ("de-identified, far ahead", "encounter-discharge", "2150-01-01T06", "2150-01-09T06", "2150-01-09T06"),
    ("de-identified start", "encounter-start", "2150-01-01T06", "2150-01-09T06", "2150-01-02T06"),
    ("end planned for tomorrow", "encounter-discharge", "2026-11-19T06", "2026-11-22T06", "2026-11-21T06"),
]


@pytest.mark.parametrize(("name", "hook", "start", "end", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_prediction_time_of_each_hook(name: str, hook: str, start: str | None, end: str | None, expected: str) -> None:
    period = {key: f"{value}:00:00Z" for key, value in (("start", start), ("end", end)) if value}
    encounter = {"resourceType": "Encounter", "id": "e", "period": period} if period else None
    assert prediction_time(hook, encounter, NOW) == datetime.fromisoformat(f"{expected}:00:00+00:00")
