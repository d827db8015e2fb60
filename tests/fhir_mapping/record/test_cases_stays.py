"""Stays, problems and orders in real data: R4 and R5, parts and transfers, status at the prediction time."""

from __future__ import annotations

import pytest

from fhir_mapping import PatientRecord, StayClass
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, Resource, record

ENCOUNTERS: list[tuple[str, Resource, StayClass | None]] = [
    ("R4 class", STAY, StayClass.INPATIENT),
    ("R5 class", STAY | {"class": [{"coding": [{"code": "IMP"}]}], "status": "in-progress"}, StayClass.INPATIENT),
    ("R5 period", {k: v for k, v in STAY.items() if k != "period"} | {"actualPeriod": STAY["period"]}, StayClass.INPATIENT),
    ("class as one CodeableConcept", STAY | {"class": {"coding": [{"code": "IMP"}]}}, StayClass.INPATIENT),
    ("R4 class as a list", STAY | {"class": [{"code": "IMP"}]}, StayClass.INPATIENT),
    ("class a word", STAY | {"class": "inpatient"}, StayClass.INPATIENT),
    ("emergency", STAY | {"class": {"code": "EMER"}}, StayClass.EMERGENCY),
    ("observation", STAY | {"class": {"code": "OBSENC"}}, StayClass.OBSERVATION),
    ("class of another system", STAY | {"class": {"system": "local", "code": "IMP"}}, StayClass.OTHER),
    ("hospitalization empty", STAY | {"hospitalization": {}}, StayClass.INPATIENT),
    ("planned", STAY | {"status": "planned"}, None),
    ("no start", STAY | {"period": {}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "encounter", "kind"), ENCOUNTERS, ids=[row[0] for row in ENCOUNTERS])
def test_encounters_in_both_versions(name: str, encounter: Resource, kind: StayClass | None) -> None:
    found = PatientRecord.from_resources([PATIENT, encounter], prediction_time=AT)
    assert [stay.stay_class for stay in found.stays] == ([kind] if kind else [])
    assert (found.current_stay is not None) is (kind is StayClass.INPATIENT)


def test_a_running_stay_hides_its_end_and_disposition() -> None:
    disposition = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
    ended = STAY | {"status": "finished", "hospitalization": disposition}
    ended["period"] = {"start": "2024-05-01T08:00:00Z", "end": "2024-05-09T08:00:00Z"}
    during, after = (PatientRecord.from_resources([PATIENT, ended], prediction_time=t) for t in (AT, "2024-05-10"))
    assert during.current_stay is not None
    assert during.current_stay.end is None
    assert during.current_stay.discharge_disposition is None
    assert after.current_stay is None
    assert after.stays[0].discharge_disposition == "exp"


def test_transfers_parts_and_admissions_from_emergency() -> None:
    closed = {"start": "2024-05-01T08:00:00Z", "end": "2024-05-02T08:00:00Z"}
    first = STAY | {"id": "a", "status": "finished", "period": closed}
    second = STAY | {"id": "b", "period": {"start": "2024-05-02T08:00:00Z"}}
    icu_type = [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}]
    part = STAY | {"id": "c", "partOf": {"reference": "Encounter/b"}, "type": icu_type}
    found = PatientRecord.from_resources([PATIENT, first, second, part], prediction_time=AT, encounter_id="c")
    assert len(found.stays) == 1
    assert found.current_stay is not None
    assert found.current_stay.intensive_care is True
    visit = STAY | {"id": "ed", "class": {"code": "EMER"}, "status": "finished"}
    visit["period"] = {"start": "2024-05-01T02:00:00Z", "end": "2024-05-01T08:00:00Z"}
    admitted = STAY | {"partOf": {"reference": "Encounter/ed"}}
    found = PatientRecord.from_resources([PATIENT, visit, admitted], prediction_time=AT)
    assert found.current_stay is not None
    assert found.current_stay.acute is True


STATUSES: list[tuple[str, Resource, bool]] = [
    ("active", {}, True),
    ("resolved", {"clinicalStatus": {"coding": [{"code": "resolved"}]}}, False),
    ("refuted", {"verificationStatus": {"coding": [{"code": "refuted"}]}}, False),
    ("provisional", {"verificationStatus": {"coding": [{"code": "provisional"}]}}, False),
    ("started later", {"onsetDateTime": "2024-06-01"}, False),
    ("recorded later", {"recordedDate": "2024-06-01"}, False),
    ("over before", {"abatementDateTime": "2024-01-01"}, False),
    ("over later", {"abatementDateTime": "2024-06-01", "clinicalStatus": {"coding": [{"code": "resolved"}]}}, True),
]


@pytest.mark.parametrize(("name", "change", "active"), STATUSES, ids=[row[0] for row in STATUSES])
def test_conditions_as_known_at_the_prediction_time(name: str, change: Resource, active: bool) -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "code": {"text": "Heart failure"},
        "subject": {"reference": "Patient/p"},
        **change,
    }
    assert any(c.active for c in record(condition).conditions) is active


@pytest.mark.parametrize(
    ("change", "active"),
    [
        ({}, True),
        ({"status": "stopped"}, False),
        ({"intent": "plan"}, False),
        ({"doNotPerform": True}, False),
        ({"doNotPerform": "true"}, False),
        ({"adherence": {"code": {"coding": [{"code": "taking"}]}}}, True),
        ({"adherence": {"code": {"coding": [{"code": "not-taking-as-directed"}]}}}, False),
        ({"adherence": {"code": {"coding": [{"code": "stopped-own-behest"}]}}}, False),
        ({"adherence": {"code": {"coding": [{"code": "on-hold-as-directed"}]}}}, False),
    ],
)
def test_void_orders_are_not_active(change: Resource, active: bool) -> None:
    order = {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": "Furosemide"},
        "subject": {"reference": "Patient/p"},
        "authoredOn": "2024-05-01",
        **change,
    }
    assert any(m.active for m in record(order).medications) is active


def test_a_medication_entered_in_error_is_refused() -> None:
    drug = {"resourceType": "Medication", "id": "w", "status": "entered-in-error", "code": {"text": "Warfarin"}}
    order = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order"}
    order |= {"subject": {"reference": "Patient/p"}, "medicationReference": {"reference": "Medication/w"}}
    found = record(order, drug)
    assert found.medications == ()
    assert ("MedicationRequest/m", "status-entered-in-error") in {(r.source, r.reason) for r in found.refused}


ICD = "http://hl7.org/fhir/sid/icd-10-cm"
REASONS: list[tuple[str, Resource, bool, bool]] = [
    ("a disease", {"coding": [{"system": ICD, "code": "I50.9", "display": "Heart failure"}]}, True, True),
    (
        "a relative's, by its code",
        {"coding": [{"system": ICD, "code": "Z82.4"}, {"system": ICD, "code": "I50.9"}]},
        True,
        False,
    ),
    (
        "a relative's, by its text",
        {"coding": [{"system": ICD, "code": "I50.9"}], "text": "Family history of heart failure"},
        True,
        False,
    ),
    ("a suspected one", {"coding": [{"system": ICD, "code": "I50.9"}], "text": "Rule out heart failure"}, True, False),
]


@pytest.mark.parametrize(("name", "concept", "shown", "counts"), REASONS, ids=[row[0] for row in REASONS])
def test_a_reason_counts_as_a_problem_of_the_patient(name: str, concept: Resource, shown: bool, counts: bool) -> None:
    """A reason such as "family history of heart failure" put the patient into the group of heart failure."""
    subject = {"subject": {"reference": "Patient/p"}}
    condition = {"resourceType": "Condition", "id": "r", "code": concept, **subject, "recordedDate": "2024-05-01"}
    for reasons in ({"reasonCode": [concept]}, {"reasonReference": [{"reference": "Condition/r"}]}):
        record = PatientRecord.from_resources([PATIENT, STAY | reasons, condition], prediction_time=AT)
        assert record.current_stay is not None
        assert bool(record.current_stay.reason_texts) is shown
        assert record.features().number("comorbidity_charlson_heart_failure.last") == float(counts)
    refuted = condition | {"verificationStatus": {"coding": [{"code": "refuted"}]}}
    reference = {"reasonReference": [{"reference": "Condition/r"}]}
    found = PatientRecord.from_resources([PATIENT, STAY | reference, refuted], prediction_time=AT)
    assert found.current_stay is not None
    assert found.current_stay.reason_texts == ()
