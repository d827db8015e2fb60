"""Bundles in real data: references in every form, versions, deletions, pages, and types not fetched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_mapping import Availability, ForeignPatientError, PatientNotFoundError, PatientRecord
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, Resource, observation, record

FOREIGN = [
    observation(subject={"reference": "Patient/other"}),
    observation(subject={"reference": "https://elsewhere.example/fhir/Patient/p"}),
]


def test_another_patients_resource_is_an_error() -> None:
    with pytest.raises(ForeignPatientError):
        record(FOREIGN[0])


def test_the_same_id_on_another_server_is_another_patient() -> None:
    base = "https://ehr.example/fhir"
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"fullUrl": f"{base}/Patient/p", "resource": PATIENT},
            {"fullUrl": f"{base}/Observation/o", "resource": FOREIGN[1]},
        ],
    }
    import orjson

    with pytest.raises(ForeignPatientError):
        PatientRecord.from_json(orjson.dumps(bundle), prediction_time=AT)


@pytest.mark.parametrize(
    "reference", ["Patient/p", "Patient/p/_history/2", "urn:uuid:1", "https://e.example/fhir/Patient/p"]
)
def test_references_in_every_form_resolve(reference: str) -> None:
    import orjson

    entries = [
        {
            "fullUrl": "urn:uuid:1" if reference == "urn:uuid:1" else "https://e.example/fhir/Patient/p",
            "resource": PATIENT,
        },
        {"resource": observation(subject={"reference": reference})},
    ]
    found = PatientRecord.from_json(orjson.dumps({"resourceType": "Bundle", "entry": entries}), prediction_time=AT)
    assert found.features().number("sodium.last") == 140


def test_several_patients_and_none_are_errors() -> None:
    with pytest.raises(PatientNotFoundError):
        PatientRecord.from_resources([PATIENT, PATIENT | {"id": "q"}], prediction_time=AT)
    with pytest.raises(PatientNotFoundError):
        PatientRecord.from_resources([STAY], prediction_time=AT)


def test_the_same_resource_twice_is_used_once_in_its_newest_version() -> None:
    old = observation(value=130, meta={"lastUpdated": "2024-05-02T07:00:00Z"})
    new = observation(value=139, meta={"lastUpdated": "2024-05-02T09:00:00Z"})
    for order in ([old, new], [new, old], [new, old, new]):
        features = record(*order).features()
        assert features.number("sodium.last") == 139
        assert features.number("sodium.count") == 1


def test_a_final_value_wins_over_a_preliminary_one_of_the_same_time() -> None:
    early = observation(value=120, status="preliminary", id="z")
    final = observation(value=139, id="a")
    assert record(early, final).features().number("sodium.last") == 139


EXPECTED = {"patient": "Patient", "encounters": "Encounter", "labs": "Observation"}


def bundle(*resources: Resource, **more: Any) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources], **more}


PREFETCH: list[tuple[str, Any, Availability, str | None]] = [
    ("searchset", bundle(observation()), Availability.FETCHED, None),
    ("empty searchset", bundle(), Availability.ABSENT, "none-found"),
    ("null", None, Availability.NOT_FETCHED, "not-fetched"),
    ("empty object", {}, Availability.NOT_FETCHED, "not-fetched"),
    ("outcome", {"resourceType": "OperationOutcome"}, Availability.NOT_FETCHED, "not-fetched"),
    ("outcome entry", bundle({"resourceType": "OperationOutcome"}), Availability.NOT_FETCHED, "not-fetched"),
    ("more pages", bundle(link=[{"relation": "next", "url": "x"}]), Availability.NOT_FETCHED, "not-fetched"),
    ("truncated", bundle(total=500), Availability.NOT_FETCHED, "not-fetched"),
    (
        "an include is no match",
        {"resourceType": "Bundle", "entry": [{"resource": observation(), "search": {"mode": "include"}}]},
        Availability.ABSENT,
        "none-found",
    ),
]


@pytest.mark.parametrize(("name", "value", "availability", "reason"), PREFETCH, ids=[row[0] for row in PREFETCH])
def test_not_fetched_none_found_and_refused_are_distinct(
    name: str, value: Any, availability: Availability, reason: str | None
) -> None:
    found = PatientRecord.from_prefetch(
        {"patient": PATIENT, "encounters": bundle(STAY), "labs": value},
        patient_id="p",
        prediction_time=AT,
        expected=EXPECTED,
    )
    assert found.availability("Observation") is availability
    assert found.features().unknown.get("sodium.last") == reason


def test_visit_counts_are_unknown_without_encounters() -> None:
    found = PatientRecord.from_prefetch(
        {"patient": PATIENT}, patient_id="p", prediction_time=AT, expected=EXPECTED
    ).features()
    assert found.unknown["inpatient_stay.count_365d"] == "not-fetched"


NEWER, OLDER = {"lastUpdated": "2024-05-02T09:00:00Z"}, {"lastUpdated": "2024-05-02T07:00:00Z"}
DELETED: Resource = {
    "request": {"method": "DELETE", "url": "Observation/o"},
    "response": {"status": "204", "lastModified": "2024-05-02T08:00:00Z"},
}
UNDATED: Resource = {"request": {"method": "DELETE", "url": "https://ehr.example/fhir/Observation/o"}}
HISTORIES: list[tuple[str, list[Resource], float | None]] = [
    ("deleted last", [DELETED, {"resource": observation()}], None),
    ("deleted last, listed last", [{"resource": observation(meta=OLDER)}, DELETED], None),
    ("deleted without a time", [UNDATED, {"resource": observation()}], None),
    (
        "named by its fullUrl",
        [{"fullUrl": "urn:x/Observation/o", "request": {"method": "DELETE"}}, {"resource": observation()}],
        None,
    ),
    (
        "written again",
        [{"resource": observation(value=141, meta=NEWER)}, DELETED, {"resource": observation(meta=OLDER)}],
        141,
    ),
    ("written again, no times", [{"resource": observation(value=141)}, UNDATED, {"resource": observation()}], 141),
    (
        "another one was deleted",
        [DELETED | {"request": {"method": "DELETE", "url": "Observation/x"}}, {"resource": observation()}],
        140,
    ),
    ("changed, the newest first", [{"resource": observation()}, {"resource": observation(value=150)}], 140),
    (
        "changed, both dated, the oldest first",
        [{"resource": observation(meta=OLDER)}, {"resource": observation(value=150, meta=NEWER)}],
        150,
    ),
    (
        "changed, both numbered",
        [
            {"resource": observation(meta={"versionId": "9"})},
            {"resource": observation(value=150, meta={"versionId": "10"})},
        ],
        150,
    ),
    ("put", [{"resource": observation(), "request": {"method": "PUT", "url": "Observation/o"}}], 140),
]


@pytest.mark.parametrize(("name", "entries_of_history", "value"), HISTORIES, ids=[row[0] for row in HISTORIES])
def test_the_newest_version_of_a_history_is_used(
    name: str, entries_of_history: list[Resource], value: float | None
) -> None:
    history = {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [{"resource": PATIENT}, {"resource": STAY}, *entries_of_history],
    }
    found = PatientRecord.from_json(json.dumps(history), prediction_time=AT)
    assert found.features().number("sodium.last") == value
    assert ("deleted" in {refusal.reason for refusal in found.refused}) == any(
        entry.get("request", {}).get("method") == "DELETE" for entry in entries_of_history
    )
