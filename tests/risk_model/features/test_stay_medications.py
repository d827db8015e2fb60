"""The drugs of a stay are inputs at its end, though no order is active any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fhir_mapping import PatientRecord
from risk_model.features.inputs import can_be_computed, label_of, row, sources
from risk_model.features.stay_medications import STAY_MEDICATIONS, stay_medications

Resource = dict[str, Any]
ME = {"subject": {"reference": "Patient/p"}}
CHART: list[Resource] = [
    {"resourceType": "Patient", "id": "p"},
    {
        "resourceType": "Encounter", "id": "e", "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "period": {"start": "2024-01-10T00:00:00Z", "end": "2024-01-20T00:00:00Z"}, **ME,
    },
]  # fmt: skip
AT = "2024-01-20T00:00:00Z"


def order(
    text: str, start: str | None = "2024-01-12T00:00:00Z", end: str | None = "2024-01-14", **more: Any
) -> Resource:
    bounds = {"dosageInstruction": [{"timing": {"repeat": {"boundsPeriod": {"start": start, "end": end}}}}]}
    return {
        "resourceType": "MedicationRequest", "id": f"r-{text[:4].strip()}", "status": "completed", "intent": "order",
        "medicationCodeableConcept": {"text": text}, **({"authoredOn": start} if start else {}),
        **(bounds if end else {}), **ME, **more,
    }  # fmt: skip


def dose(text: str, at: str = "2024-01-12T00:00:00Z", **more: Any) -> Resource:
    return {
        "resourceType": "MedicationAdministration", "id": f"a-{text[:4].strip()}", "status": "completed",
        "effectiveDateTime": at, "medicationCodeableConcept": {"text": text}, **ME, **more,
    }  # fmt: skip


PERIOD = {"effectivePeriod": {"start": "2024-01-08T00:00:00Z", "end": "2024-01-11T00:00:00Z"}}
CASES: list[tuple[str, list[Resource], dict[str, float | None]]] = [
    ("ordered in the stay", [order("morphine 10 mg")], {"opioid": 1, "insulin": 0}),
    ("given in the stay", [dose("insulin lispro")], {"insulin": 1, "opioid": 0}),
    ("an infusion that began before", [dose("norepinephrine", effectiveDateTime=None, **PERIOD)], {"vasopressor": 1}),
    ("ordered and over before", [order("morphine 10 mg", "2023-12-01T00:00:00Z", "2023-12-05")], {"opioid": 0}),
    ("given before", [dose("morphine", "2024-01-08T00:00:00Z")], {"opioid": 0}),
    ("ordered after the prediction", [order("morphine", "2024-01-21T00:00:00Z", None)], {"opioid": 0}),
    ("a drug of no known class", [order("morphine 10 mg"), order("Solution")], {"opioid": 1, "insulin": None}),
    ("nothing", [], {"opioid": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "drugs", "expected"), CASES, ids=[case[0] for case in CASES])
def test_classes_of_the_stay(name: str, drugs: list[Resource], expected: dict[str, float | None]) -> None:
    kept = [{key: value for key, value in drug.items() if value is not None} for drug in drugs]
    record = PatientRecord.from_resources([*CHART, *kept], "p", AT)
    found = stay_medications(record)
    assert {kind: found.get(f"stay_medication_{kind}.last") for kind in expected} == expected
    values = dict(zip(STAY_MEDICATIONS, row(record, STAY_MEDICATIONS).tolist(), strict=True))
    for kind, value in expected.items():
        known = values[f"stay_medication_{kind}.last"]
        assert np.isnan(known) if value is None else known == value


def test_not_fetched_is_not_none() -> None:
    record = PatientRecord.from_resources(CHART, "p", AT, not_fetched=frozenset({"MedicationRequest"}))
    assert stay_medications(record) == {}


def test_without_a_stay_nothing_is_known() -> None:
    assert stay_medications(PatientRecord.from_resources([CHART[0], order("morphine")], "p", AT)) == {}


def test_inputs_are_named_and_traced() -> None:
    record = PatientRecord.from_resources([*CHART, order("morphine 10 mg"), dose("morphine")], "p", AT)
    name = "stay_medication_opioid.last"
    assert can_be_computed(name)
    assert label_of("stay_medication_opioid") == "Opioid in this stay"
    assert sources(record, name, record.features()) == ("MedicationRequest/r-morp", "MedicationAdministration/a-morp")
