"""The second resource, patient and stay: what a test with one of each does not show."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from fhir_mapping import ForeignPatientError, PatientNotFoundError, PatientRecord
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, observation, record

Resource = dict[str, Any]
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SNOMED = "http://snomed.info/sct"
ADMIT = "http://terminology.hl7.org/CodeSystem/admit-source"
DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
OTHERS = [
    {"reference": "Patient/q"},
    {"reference": "Patient/unheard-of"},
    {"reference": "Group/g"},
    {"display": "somebody"},
    {"identifier": {"system": "urn:mrn", "value": "7"}},
]


def ndjson(*resources: Resource) -> bytes:
    return b"\n".join(orjson.dumps(resource) for resource in resources)


@pytest.mark.parametrize("subject", OTHERS)
def test_the_second_resource_of_another_subject_is_no_more_the_patients_than_the_first(subject: Resource) -> None:
    """Ownership is remembered by the bytes of the subject: of the patient's own subject only."""
    others = [observation(id=f"q{n}", value=110 + n, subject=subject) for n in range(3)]
    other = PATIENT | {"id": "q", "gender": "male"}
    own = observation(id="own", value=141)
    for listed in ([own, *others], [*others, own], [others[0], own, *others[1:]]):
        found = PatientRecord.from_json(ndjson(PATIENT, other, STAY, *listed), patient_id="p", prediction_time=AT)
        assert [m.value for m in found.measurements if m.concept == "sodium"] == [141], listed


def test_a_second_foreign_resource_of_one_patient_still_refuses_the_whole_answer() -> None:
    foreign = [observation(id=f"q{n}", subject={"reference": "Patient/q"}) for n in range(2)]
    for listed in (foreign[:1], foreign, [observation(id="own"), *foreign]):
        with pytest.raises(ForeignPatientError):
            record(*listed)


@pytest.mark.parametrize("element", ["patient", "subject"])
def test_an_unmapped_resource_of_another_patient_refuses_the_answer_too(element: str) -> None:
    allergy = {"resourceType": "AllergyIntolerance", "id": "a", element: {"reference": "Patient/q"}}
    own = allergy | {element: {"reference": "Patient/p"}}
    assert record(own).subject_id == "p"
    with pytest.raises(ForeignPatientError):
        record(own, allergy | {"id": "b"})
    with pytest.raises(ForeignPatientError):
        PatientRecord.from_json(orjson.dumps([PATIENT, STAY, own, allergy | {"id": "b"}]), prediction_time=AT)


def test_patients_of_one_id_from_two_servers_are_not_one_patient() -> None:
    def bundle(*hosts: str) -> bytes:
        entries = [{"fullUrl": f"https://{host}/fhir/Patient/p", "resource": PATIENT} for host in hosts]
        return orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})

    assert PatientRecord.from_json(bundle("a.example"), prediction_time=AT).subject_id == "p"
    with pytest.raises(PatientNotFoundError, match="several servers"):
        PatientRecord.from_json(bundle("a.example", "b.example"), prediction_time=AT)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (observation(id="o2", effectiveDateTime="2024-06-01T00:00:00Z"), datetime(2024, 6, 1, tzinfo=UTC)),
        (observation(id="o2", effectiveDateTime="2024-06-01T00:00:00Z", status="entered-in-error"), None),
        (STAY | {"id": "next", "status": "planned", "period": {"start": "2024-06-01T00:00:00Z"}}, None),
        ({"resourceType": "Procedure", "id": "op", "status": "not-done", "subject": {"reference": "Patient/p"},
          "code": {"text": "x"}, "performedDateTime": "2024-06-01T00:00:00Z"}, None),
        ({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}, "code": {"text": "x"},
          "verificationStatus": {"coding": [{"code": "entered-in-error"}]}, "recordedDate": "2024-06-01T00:00:00Z"}, None),
    ],
)  # fmt: skip
def test_without_a_time_given_it_is_the_last_that_happened(later: Resource, expected: datetime | None) -> None:
    whole = [copy.deepcopy(r) for r in (PATIENT, STAY, observation(), later)]
    found = PatientRecord.from_json(ndjson(*whole)).prediction_time
    assert found == (expected or datetime(2024, 5, 2, 6, tzinfo=UTC))


# Levels of consciousness


LOINC_ANSWERS = {
    "LA9340-6": "alert", "LA17108-4": "voice", "LA17107-6": "pain", "LA9343-0": "unresponsive", "LA6560-2": "confusion",
}  # fmt: skip
SNOMED_FINDINGS = {
    "248234008": "alert", "300202002": "voice", "450847001": "pain", "422768004": "unresponsive",
    "130987000": "confusion", "40917007": "confusion",
}  # fmt: skip


def consciousness(answer: Resource) -> PatientRecord:
    seen = observation("67775-7") | {"valueCodeableConcept": answer}
    del seen["valueQuantity"]
    return record(seen)


@pytest.mark.parametrize(
    ("system", "code", "level"),
    [("http://loinc.org", *pair) for pair in LOINC_ANSWERS.items()] + [(SNOMED, *pair) for pair in SNOMED_FINDINGS.items()],
)  # fmt: skip
def test_each_coded_level_of_consciousness(system: str, code: str, level: str) -> None:
    """Answers of LOINC 67775-7 and 80288-4 and SNOMED CT findings; the words beside the code do not decide."""
    coding = {"system": system, "code": code, "display": "seen by the nurse"}
    found = consciousness({"coding": [{"system": "urn:local", "code": "?"}, coding], "text": "drowsy"}).consciousness
    assert found is not None
    assert found[0] == level
    other = consciousness({"coding": [coding | {"system": "urn:local"}]}).consciousness
    assert other is None


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [("LA9340-6", "LA9340-6", None), ("LA9340-6", "LA9343-0", "codes-disagree")],
)
def test_two_codes_of_consciousness(first: str, second: str, reason: str | None) -> None:
    both = [{"system": "http://loinc.org", "code": code} for code in (first, second)]
    found = consciousness({"coding": both})
    assert (found.consciousness is None) == (reason is not None)
    assert reason is None or reason in {refusal.reason for refusal in found.refused}


# Stays


def encounter(name: str, start: str, end: str | None, kind: str = "IMP", **more: Any) -> Resource:
    period = {"start": f"2024-{start}:00Z"} | ({"end": f"2024-{end}:00Z"} if end else {})
    return {
        "resourceType": "Encounter", "id": name, "status": "finished" if end else "in-progress",
        "class": {"system": ACT, "code": kind}, "subject": {"reference": "Patient/p"}, "period": period, **more,
    }  # fmt: skip


def stays(*encounters: Resource, **more: Any) -> list[tuple[str, str, str | None]]:
    """(key, start, end) of the inpatient stays, in order."""
    found = PatientRecord.from_resources(
        [copy.deepcopy(r) for r in (PATIENT, *encounters)], prediction_time=AT, **more
    ).stays
    return [
        (s.source.partition("/")[2], f"{s.start:%m-%dT%H:%M}", None if s.end is None else f"{s.end:%m-%dT%H:%M}")
        for s in found
        if s.stay_class == "inpatient"
    ]


WARD, INTENSIVE = "225746001", "309904001"  # SNOMED CT: ward; intensive care unit


@pytest.mark.parametrize(
    ("codes", "expected"), [([WARD], 0), ([INTENSIVE], 1), ([WARD, INTENSIVE], 1), ([INTENSIVE, WARD], 1), ([], None)]
)
def test_a_coded_ward_is_not_intensive_care(codes: list[str], expected: int | None) -> None:
    wards: list[Resource] = [
        {"resourceType": "Location", "id": f"l{n}", "type": [{"coding": [{"system": SNOMED, "code": code}]}]}
        for n, code in enumerate(codes)
    ]
    entered = {"start": "2024-05-01T09:00:00Z"}
    listed = [{"location": {"reference": f"Location/{ward['id']}"}, "period": entered} for ward in wards]
    stay = STAY | ({"location": listed} if listed else {})
    vector = PatientRecord.from_resources([PATIENT, stay, *wards], prediction_time=AT).features()
    assert vector.number("intensive_care.last") == expected


def test_parts_are_folded_into_their_stay() -> None:
    """A stay in two wards, each an Encounter `partOf` it, is one stay; so is what is part of a part."""
    whole = encounter("whole", "04-01T08:00", "04-10T12:00")
    first = encounter("first", "04-01T08:00", "04-03T12:00", partOf={"reference": "Encounter/whole"})
    second = encounter("second", "04-04T20:00", "04-06T12:00", partOf={"reference": "Encounter/whole"})
    third = encounter("third", "04-05T20:00", "04-06T10:00", partOf={"reference": "Encounter/second"})
    expected = [("whole", "04-01T08:00", "04-10T12:00")]
    assert stays(whole, first, second, third) == expected
    assert stays(third, second, first, whole) == expected
    orphan = encounter("second", "04-14T20:00", "04-16T12:00", partOf={"reference": "Encounter/elsewhere"})
    assert stays(whole, orphan) == [*expected, ("second", "04-14T20:00", "04-16T12:00")]
    readmitted = encounter("again", "04-12T08:00", "04-13T12:00", partOf={"reference": "Encounter/whole"})
    assert stays(whole, readmitted) == [*expected, ("again", "04-12T08:00", "04-13T12:00")]


def left(code: str) -> Resource:
    return {"hospitalization": {"dischargeDisposition": {"coding": [{"system": DISPOSITION, "code": code}]}}}


def came(code: str, element: str = "hospitalization") -> Resource:
    return {element: {"admitSource": {"coding": [{"system": ADMIT, "code": code}]}}}


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ({}, {}, False),
        (left("home"), {}, False),
        (left("other-hcf"), {}, True),
        ({}, came("hosp-trans"), True),
        ({}, came("hosp-trans", "admission"), True),
        ({}, came("gp"), False),
    ],
)
def test_an_arrival_by_transfer_within_six_hours_is_the_same_stay(
    first: Resource, second: Resource, joined: bool
) -> None:
    """Coded at either side, and in R5, where `hospitalization` is `admission`."""
    for hours, close in ((5, True), (7, False)):
        one = encounter("one", "04-01T08:00", "04-03T10:00", **first)
        two = encounter("two", f"04-03T{10 + hours}:00", "04-08T10:00", **second)
        apart = [("one", "04-01T08:00", "04-03T10:00"), ("two", f"04-03T{10 + hours}:00", "04-08T10:00")]
        assert stays(one, two) == ([("one", "04-01T08:00", "04-08T10:00")] if joined and close else apart)


def test_a_running_and_a_closed_stay_that_overlap_are_one_running_stay() -> None:
    running = encounter("running", "05-01T08:00", None)
    ward = encounter("ward", "05-01T09:00", "05-02T12:00")
    expected = [("running", "05-01T08:00", None)]
    assert stays(running, ward) == stays(ward, running) == expected
    emergency_bed = encounter("bed", "05-01T07:00", "05-01T09:00")
    assert stays(emergency_bed, running) == [("bed", "05-01T07:00", None)]


def test_the_later_end_is_the_end_of_two_closed_stays_that_overlap() -> None:
    long = encounter("long", "04-01T08:00", "04-10T12:00", **left("home"))
    inside = encounter("inside", "04-02T08:00", "04-03T12:00", **left("exp"))
    beyond = encounter("beyond", "04-09T08:00", "04-12T12:00", **left("other-hcf"))
    assert stays(long, inside) == stays(inside, long) == [("long", "04-01T08:00", "04-10T12:00")]
    assert stays(long, inside, beyond) == [("long", "04-01T08:00", "04-12T12:00")]
    found = PatientRecord.from_resources([PATIENT, long, inside], prediction_time=AT).stays
    assert [s.discharge_disposition for s in found] == ["home"]


# Ages


@pytest.mark.parametrize(
    ("born", "age"),
    [("2024-05-03", 0), ("2024-01-20", 0), ("2023-05-04", 0), ("2023-05-03", 1), ("2022-05-03", 2), ("2024", 0), ("2023", 0), ("2006", None),
     ("2025-01-01", None)],
)  # fmt: skip
def test_infants_have_an_age(born: str, age: int | None) -> None:
    infant = PATIENT | {"birthDate": born}
    vector = PatientRecord.from_resources([infant, STAY], prediction_time=AT).features()
    assert vector.number("age.last") == age
