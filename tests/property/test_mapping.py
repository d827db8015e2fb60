"""Properties of the mapping: order, duplicates, zones and errors change nothing; later data are not reachable."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import PatientRecord
from tests.fhir_mapping.record.test_cases import PATIENT, STAY, observation

START = datetime(2024, 5, 1, 8, tzinfo=UTC)
CODES = [("2951-2", "mmol/L", 120, 150), ("8867-4", "/min", 40, 160), ("2160-0", "mg/dL", 1, 5)]


@st.composite
def charts(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Observations within ten days of the admission, some after the prediction time."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        code, unit, low, high = draw(st.sampled_from(CODES))
        at = START + timedelta(minutes=draw(st.integers(0, 14_400)))
        zone = timedelta(hours=draw(st.integers(-12, 14)))
        text = (at + zone).replace(tzinfo=None).isoformat() + _offset(zone)
        value = draw(st.integers(low, high))
        found.append(observation(code, value, unit, id=f"o{number}", effectiveDateTime=text))
    return found


def _offset(zone: timedelta) -> str:
    minutes = int(zone.total_seconds() // 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def features(resources: list[dict[str, Any]], at: datetime) -> dict[str, Any]:
    vector = PatientRecord.from_resources(copy.deepcopy(resources), prediction_time=at).features()
    return {name: (value.value, value.unit, value.time) for name, value in vector.values.items()}


MOMENTS = st.integers(0, 14_400).map(lambda minutes: START + timedelta(minutes=minutes))


@settings(max_examples=60, deadline=None)
@given(charts(), MOMENTS, st.randoms())
def test_order_duplicates_and_errors_change_nothing(chart: list[dict[str, Any]], at: datetime, random: Any) -> None:
    resources = [PATIENT, STAY, *chart]
    expected = features(resources, at)
    wrong = [r | {"id": f"{r['id']}-wrong", "status": "entered-in-error"} for r in chart]
    shuffled = [*resources, *chart, *wrong]
    random.shuffle(shuffled)
    assert features(shuffled, at) == expected


@settings(max_examples=60, deadline=None)
@given(charts(), MOMENTS)
def test_later_data_change_no_feature(chart: list[dict[str, Any]], at: datetime) -> None:
    ended = STAY | {"status": "finished", "period": STAY["period"] | {"end": "2024-05-30T08:00:00Z"}}
    whole = PatientRecord.from_resources([PATIENT, ended, *chart], prediction_time=at)
    known = [r for r in chart if datetime.fromisoformat(r["effectiveDateTime"]) <= at]
    cut = PatientRecord.from_resources([PATIENT, STAY, *known], prediction_time=at)
    assert whole.features().values == cut.features().values
    assert whole.to_markdown() == cut.to_markdown()
    assert whole.to_codes() == cut.to_codes()
    assert whole.to_meds() == cut.to_meds()
    assert "2024-05-30" not in str(whole)


@settings(max_examples=60, deadline=None)
@given(charts(), MOMENTS)
def test_windows_agree_with_a_plain_loop(chart: list[dict[str, Any]], at: datetime) -> None:
    vector = PatientRecord.from_resources([PATIENT, STAY, *chart], prediction_time=at).features()
    seen: dict[datetime, list[float]] = {}
    for resource in chart:
        when = datetime.fromisoformat(resource["effectiveDateTime"])
        if resource["code"]["coding"][0]["code"] == "2951-2" and at - timedelta(hours=24) <= when <= at:
            seen.setdefault(when, []).append(resource["valueQuantity"]["value"])
    if all(len(set(values)) == 1 for values in seen.values()):
        values = [found[0] for found in seen.values()]
        assert vector.number("sodium.max_24h") == (max(values) if values else None)
        assert vector.number("sodium.count_24h") == (len(values) if values else None)
