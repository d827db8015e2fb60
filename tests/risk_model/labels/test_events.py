"""Events that are read on demand are those that are read at once, and so are the labels made of them."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from risk_model.labels.events import EVENT_TYPES
from risk_model.labels.labelling import label
from risk_model.labels.task_definitions import shipped_definitions
from risk_model.labels.timeline import PatientTimeline
from tests.risk_model.cohorts.test_meds_source import whole_chart

Resource = dict[str, Any]


def lab(name: str, at: str | None, value: float, code: str = "2951-2", **more: Any) -> Resource:
    return {
        "resourceType": "Observation", "id": name, "status": "final", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "unit": "mmol/L", "code": "mmol/L", "system": "http://unitsofmeasure.org"},
        **({"effectiveDateTime": at} if at else {}), **more,
    }  # fmt: skip


CHARTS = {
    "nested stays": whole_chart("p", nested=True),
    "a death": whole_chart("p", nested=False, deceasedDateTime="2024-01-22"),
    "results after the last stay": [
        *whole_chart("p", nested=True),
        lab("late", "2024-03-01T00:00:00Z", 120),
        lab("later-not-read", "2024-04-01T00:00:00Z", 1, code="00000-0"),
        lab("undated", None, 3),
        lab("another-zone", "2024-03-01T01:00:00+05:00", 122),
    ],
    "many later results that are not read": [
        *whole_chart("p", nested=False),
        *(lab(f"n{n}", f"2024-05-01T00:{n:02}:00Z", 1, code="00000-0") for n in range(50)),
        lab("read", "2024-04-01T00:00:00Z", 131),
    ],
    "a date that is no time": [
        *whole_chart("p", nested=False),
        lab("day", "2024-02-30", 1),
        lab("d", "2024-02-03", 130),
    ],
    "a date without a time": [*whole_chart("p", nested=False), lab("d", "2024-02-03", 130)],
    "nobody but the patient": whole_chart("p", nested=False)[:1],
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS.keys())
def test_events_on_demand_are_those_read_at_once(chart: list[Resource]) -> None:
    whole = PatientTimeline.of(chart, "p")
    for kinds in ([kind] for kind in EVENT_TYPES):
        assert PatientTimeline.of(chart, "p", well_formed=True).events_of(*kinds) == whole.events_of(*kinds)
    lazy = PatientTimeline.of(chart, "p", well_formed=True)
    assert lazy.last == whole.last
    assert lazy.stays == whole.stays
    assert lazy.events == whole.events
    assert lazy.last == whole.last


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS.keys())
def test_every_shipped_definition_labels_alike(chart: list[Resource]) -> None:
    whole = PatientTimeline.of(chart, "p")
    for definition in shipped_definitions().values():
        lazy = PatientTimeline.of(chart, "p", well_formed=True)
        assert list(label(definition, lazy, UTC)) == list(label(definition, whole, UTC)), definition.id
