"""References, Bundles, statuses and stays in real data: the patient of a resource, its validity, its stay."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fhir_mapping import ForeignPatientError, PatientNotFoundError, PatientRecord, StayClass
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, Resource, observation, record

BASE = "https://ehr.example/fhir"


def read(*entries: Resource, **more: Any) -> PatientRecord:
    bundle = {"resourceType": "Bundle", "entry": list(entries), **more}
    return PatientRecord.from_json(orjson.dumps(bundle), "p", AT)


def entry(resource: Resource, url: str | None = None, **more: Any) -> Resource:
    return {"resource": resource, **({"fullUrl": url} if url else {}), **more}


HOME = entry(PATIENT, f"{BASE}/Patient/p")
OURS: list[tuple[str, Resource, Resource]] = [
    ("relative", entry(PATIENT), entry(observation())),
    ("a version of it", entry(PATIENT), entry(observation(subject={"reference": "Patient/p/_history/2"}))),
    ("absolute, same server", HOME, entry(observation(subject={"reference": f"{BASE}/Patient/p"}))),
    ("http for https", HOME, entry(observation(subject={"reference": "http://ehr.example/fhir/Patient/p"}))),
    ("the port that https implies", HOME, entry(observation(subject={"reference": "https://ehr.example:443/fhir/Patient/p"}))),
    ("scheme and host in capitals", HOME, entry(observation(subject={"reference": "HTTPS://EHR.example/fhir/Patient/p"}))),
    ("a urn of an OID", entry(PATIENT, "urn:oid:1.2.3"), entry(observation(subject={"reference": "urn:oid:1.2.3"}))),
    ("a urn", entry(PATIENT, "urn:uuid:1"), entry(observation(subject={"reference": "urn:uuid:1"}))),
    ("a batch response", HOME, entry({"resourceType": "Bundle", "type": "searchset", "entry": [entry(observation())]})),
    ("the patient included", entry(PATIENT, search={"mode": "include"}), entry(observation(), search={"mode": "match"})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patient", "result"), OURS, ids=[row[0] for row in OURS])
def test_resources_proven_to_be_the_patients_are_used(name: str, patient: Resource, result: Resource) -> None:
    assert read(patient, result).features().number("sodium.last") == 140


DROPPED: list[tuple[str, Resource, str]] = [
    ("a display", entry(observation(subject={"display": "P"})), "subject-unprovable"),
    ("contained", entry(observation(subject={"reference": "#p"}, contained=[PATIENT])), "subject-unprovable"),
    ("a urn without its entry", entry(observation(subject={"reference": "urn:uuid:9"})), "subject-unprovable"),
    ("no subject", entry({k: v for k, v in observation().items() if k != "subject"}), "subject-unprovable"),
    ("relative on another server", entry(observation(), "https://b.example/Observation/o"), "subject-unprovable"),
    ("a group", entry(observation(subject={"reference": f"{BASE}/Group/g"})), "subject-not-a-patient"),
    ("a device", entry(observation(subject={"reference": "Device/d"})), "subject-not-a-patient"),
    ("about the baby", entry(observation(focus=[{"reference": "Patient/b"}])), "focus-is-somebody-else"),
    ("an entry with a modifier", entry(observation(), modifierExtension=[{"url": "x"}]), "modifier-extension"),
    ("a failed part of a batch", {"response": {"status": "404"}}, "operation-outcome"),
]


@pytest.mark.parametrize(("name", "result", "reason"), DROPPED, ids=[row[0] for row in DROPPED])
def test_unprovable_subjects_are_refused(name: str, result: Resource, reason: str) -> None:
    found = read(HOME, result)
    assert found.features().number("sodium.last") is None
    assert reason in {refusal.reason for refusal in found.refused}


@pytest.mark.parametrize(
    "result",
    [
        observation(subject={"reference": "Patient/q"}),
        observation(subject={"reference": "https://other.example/fhir/Patient/p"}),
        {"resourceType": "AllergyIntolerance", "id": "a", "patient": {"reference": "Patient/q"}},
    ],
)
def test_a_clinical_resource_of_another_patient_is_an_error(result: Resource) -> None:
    with pytest.raises(ForeignPatientError):
        read(HOME, entry(result))


def test_the_same_id_on_two_servers_is_an_error() -> None:
    with pytest.raises(PatientNotFoundError):
        read(HOME, entry(PATIENT, "https://other.example/fhir/Patient/p"))


def problem(text: str, **more: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": "c",
        "code": {"text": text},
        "subject": {"reference": "Patient/p"},
        **more,
    }


def coded(system: str, code: str) -> Resource:
    return problem("x", code={"coding": [{"system": system, "code": code}]})


NO_PROBLEM = [
    (problem("Family history of diabetes"), "family-history"),
    (problem("Rule out sepsis"), "not-confirmed"),
    (problem("Suspected COVID-19"), "not-confirmed"),
    (problem("Diabetes mellitus (family history)"), "family-history"),
    (problem("No family hx of stroke"), "family-history"),
    (problem("Mother with diabetes"), "family-history"),
    (problem("Brother: myocardial infarction"), "family-history"),
    (problem("Sepsis, ruled out"), "not-confirmed"),
    (problem("Pneumonia (suspected)"), "not-confirmed"),
    (problem("Pulmonary embolism unlikely"), "not-confirmed"),
    (problem("? pneumonia"), "not-confirmed"),
    (problem("Likely pneumonia"), "not-confirmed"),
    (problem("Presumed sepsis"), "not-confirmed"),
    (problem("Suspicion of malignancy"), "not-confirmed"),
    (problem("Concern for sepsis"), "not-confirmed"),
    (problem("Evaluation for acute coronary syndrome"), "not-confirmed"),
    (problem("DDx: pulmonary embolism"), "not-confirmed"),
    (problem("Working diagnosis: pulmonary embolism"), "not-confirmed"),
    (problem("Pulmonary embolism vs pneumonia"), "not-confirmed"),
    (problem("Without sepsis"), "not-confirmed"),
    (problem("Sepsis not present"), "not-confirmed"),
    (problem("Contact with tuberculosis"), "not-confirmed"),
    (problem("Diabetes - mother"), "family-history"),
    (problem("Coronary artery disease in father"), "family-history"),
    (coded("http://hl7.org/fhir/sid/icd-9-cm", "V16.3"), "family-history"),
    (coded("http://hl7.org/fhir/sid/icd-9-cm", "V7109"), "not-confirmed"),
    (coded("http://hl7.org/fhir/sid/icd-10-cm", "Z20.1"), "not-confirmed"),
    (coded("http://hl7.org/fhir/sid/icd-10-cm", "Z1211"), "not-confirmed"),
    (problem("Pneumonia?"), "not-confirmed"),
    (problem("Sepsis", verificationStatus="refuted"), "verification-refuted"),
    (problem("Sepsis", verificationStatus={"coding": [{"code": "local"}, {"code": "provisional"}]}), "verification-provisional"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "reason"), NO_PROBLEM)
def test_family_history_and_unconfirmed_conditions_are_refused(condition: Resource, reason: str) -> None:
    found = record(condition)
    assert found.conditions == ()
    assert reason in {refusal.reason for refusal in found.refused}


PROBLEMS = [
    "Graft versus host disease", "Diabetes mellitus without complication", "Familial hypercholesterolaemia",
    "Contact dermatitis", "History of stroke", "Risky drinking", "Vesicovaginal fistula", "Sonographic finding",
]  # fmt: skip


@pytest.mark.parametrize("text", PROBLEMS)
def test_similar_texts_are_problems(text: str) -> None:
    assert [condition.text for condition in record(problem(text)).conditions] == [text]


def stay(**more: Any) -> Resource:
    return STAY | {"status": "finished"} | more


def test_an_ended_stay_without_a_usable_end_has_no_length() -> None:
    for period, reason in (
        ({"start": "2024-05-01T08:00:00Z"}, "no-end"),
        ({"start": "2024-05-01", "end": "2024-04-01"}, "period-reversed"),
    ):
        found = PatientRecord.from_resources([PATIENT, stay(period=period)], prediction_time=AT)
        assert found.current_stay is None
        assert [s.stay_class for s in found.stays] == [StayClass.INPATIENT]
        asked = PatientRecord.from_resources([PATIENT, stay(period=period)], prediction_time=AT, encounter_id="stay")
        assert asked.features().unknown["length_of_stay.last"] == reason


def test_a_transfer_between_hospitals_is_one_stay() -> None:
    moved = {"dischargeDisposition": {"coding": [{"code": "other-hcf"}]}}
    closed = {"start": "2024-04-29T08:00:00Z", "end": "2024-05-01T06:00:00Z"}
    assert len(record(stay(id="a", period=closed, hospitalization=moved)).stays) == 1
    assert len(record(stay(id="a", period=closed)).stays) == 2


WHOLE = {"partOf": {"reference": "Encounter/a"}}


def test_a_readmission_linked_by_part_of_is_a_separate_stay() -> None:
    """clinosim links readmissions so: the later stay was merged into the earlier one and got its length."""
    closed = {"start": "2024-04-01T08:00:00Z", "end": "2024-04-04T08:00:00Z"}
    found = PatientRecord.from_resources([PATIENT, stay(id="a", period=closed), STAY | WHOLE], prediction_time=AT)
    assert [one.source for one in found.stays] == ["Encounter/a", "Encounter/stay"]
    assert found.current_stay is not None
    assert found.current_stay.source == "Encounter/stay"
    assert found.features().number("inpatient_stay.count_180d") == 1


def test_an_adjoining_part_extends_the_stay() -> None:
    closed = {"start": "2024-04-28T08:00:00Z", "end": "2024-05-01T08:00:00Z"}
    found = PatientRecord.from_resources([PATIENT, stay(id="a", period=closed), STAY | WHOLE], prediction_time=AT)
    assert [(one.source, one.running) for one in found.stays] == [("Encounter/a", True)]


def test_parts_in_a_loop_are_one_stay() -> None:
    loop = [STAY | {"id": a, "partOf": {"reference": f"Encounter/{b}"}} for a, b in ("ab", "bc", "ca")]
    found = PatientRecord.from_resources([PATIENT, *loop], prediction_time=AT)
    assert [s.source for s in found.stays] == ["Encounter/a"]


def test_the_emergency_visit_of_a_stay_is_not_a_previous_visit() -> None:
    visit = stay(id="e", period={"start": "2024-05-01T02:00:00Z", "end": "2024-05-01T08:00:00Z"}) | {
        "class": {"code": "EMER"}
    }
    assert record(visit).features().number("emergency_visit.count_180d") == 0
    earlier = visit | {"period": {"start": "2024-04-01T02:00:00Z", "end": "2024-04-01T08:00:00Z"}}
    assert record(earlier).features().number("emergency_visit.count_180d") == 1


def test_a_procedure_on_the_day_of_admission_is_in_the_stay() -> None:
    done = {"resourceType": "Procedure", "id": "x", "status": "completed", "code": {"text": "X"}}
    done |= {"subject": {"reference": "Patient/p"}, "performedDateTime": "2024-05-01"}
    assert record(done).features().number("procedure.count") == 1
