"""Status, class and place at the prediction time, not those of the day the data were read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_mapping import FeatureVector, PatientRecord, StayClass
from tests.fhir_mapping.record.test_cases import PATIENT

Resource = dict[str, Any]
AT = datetime(2025, 3, 12, 10, tzinfo=UTC)
SUBJECT = {"subject": {"reference": "Patient/p"}}
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
INPATIENT, EMERGENCY = {"system": ACT, "code": "IMP"}, {"system": ACT, "code": "EMER"}
WARFARIN = {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "11289"}]}
STAY: Resource = {
    "resourceType": "Encounter", "id": "s", "status": "finished", "class": INPATIENT, **SUBJECT,
    "period": {"start": "2025-03-10T06:00:00Z", "end": "2025-03-20T10:00:00Z"},
}  # fmt: skip


def record(*resources: Resource, at: datetime = AT, **options: Any) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, *resources], "p", at, **options)


def answer(vector: FeatureVector, name: str) -> Any:
    found = vector.values.get(name)
    return vector.unknown[name] if found is None else found.value


def order(**more: Any) -> Resource:
    return {
        "resourceType": "MedicationRequest", "id": "m", "status": "completed", "intent": "order", **SUBJECT,
        "authoredOn": "2025-03-10T09:00:00Z", "medicationCodeableConcept": WARFARIN, **more,
    }  # fmt: skip


def statement(**more: Any) -> Resource:
    return {
        "resourceType": "MedicationStatement", "id": "t", "status": "completed", **SUBJECT,
        "medicationCodeableConcept": WARFARIN, **more,
    }  # fmt: skip


def valid_until(end: str) -> Resource:
    return {"dispenseRequest": {"validityPeriod": {"start": "2024-11-10", "end": end}}}


def dosed(*repeats: Resource) -> Resource:
    return {"dosageInstruction": [{"timing": {"repeat": repeat}} for repeat in repeats]}


UNTIL_11, UNTIL_15 = {"boundsPeriod": {"end": "2025-03-11"}}, {"boundsPeriod": {"end": "2025-03-15"}}
IN_STAY = {"encounter": {"reference": "Encounter/s"}}
OLD_STAY = STAY | {"id": "old", "period": {"start": "2025-01-10T06:00:00Z", "end": "2025-01-20T10:00:00Z"}}
UNKNOWN = "status-of-later"
COURSES: list[tuple[str, Resource, Any]] = [
    ("active", order(status="active"), 1.0),
    ("completed, dispensed until later", order(**valid_until("2025-03-19T09:00:00Z")), 1.0),
    ("stopped, dispensed until later", order(status="stopped", **valid_until("2025-03-19T09:00:00Z")), 1.0),
    ("completed, dispensed until earlier", order(**valid_until("2025-03-11T09:00:00Z")), 0.0),
    ("active, dispensed until earlier", order(status="active", authoredOn="2024-11-10", **valid_until("2025-02-10")), 1.0),
    ("completed, no dates", order(), UNKNOWN),
    ("stopped, no dates", order(status="stopped"), UNKNOWN),
    ("on hold today", order(status="on-hold"), UNKNOWN),
    ("completed, written two years ago", order(authoredOn="2023-01-10"), 0.0),
    ("completed, not changed since", order(meta={"lastUpdated": "2025-03-11T00:00:00Z"}), 0.0),
    ("completed, in de-identified data", order(meta={"lastUpdated": "2018-03-11T00:00:00Z"}), UNKNOWN),
    ("completed, changed later", order(meta={"lastUpdated": "2025-03-20T00:00:00Z"}), UNKNOWN),
    ("ordered in an earlier stay", order(authoredOn="2025-01-11", encounter={"reference": "Encounter/old"}), 0.0),
    ("ordered in this stay", order(**IN_STAY), UNKNOWN),
    ("dosage until later", order(**dosed(UNTIL_15)), 1.0),
    ("dosage until earlier", order(status="active", **dosed(UNTIL_11)), 0.0),
    ("two dosages, one until later", order(**dosed(UNTIL_11, UNTIL_15)), 1.0),
    ("two dosages, one open", order(status="active", **dosed(UNTIL_11, {})), 1.0),
    ("for five days", order(**dosed({"boundsDuration": {"value": 5, "code": "d"}})), 1.0),
    ("for one day", order(status="active", **dosed({"boundsDuration": {"value": 1, "unit": "d"}})), 0.0),
    ("R5, stopped later", order(status="stopped", statusChanged="2025-03-14T08:00:00Z"), 1.0),
    ("R5, stopped before", order(status="stopped", statusChanged="2025-03-11T08:00:00Z"), 0.0),
    ("statement, taken until later", statement(effectivePeriod={"start": "2025-03-10", "end": "2025-03-18"}), 1.0),
    ("statement, taken until earlier", statement(effectivePeriod={"start": "2025-03-10", "end": "2025-03-11"}), 0.0),
    ("statement, stopped, taken until later", statement(status="stopped", effectivePeriod={"end": "2025-03-18"}), 1.0),
    ("statement, until some time in March", statement(effectivePeriod={"start": "2025-03-10", "end": "2025-03"}), UNKNOWN),
    ("statement, on one day", statement(effectiveDateTime="2025-03-10"), UNKNOWN),
    ("statement, intended", statement(status="intended", effectivePeriod={"start": "2025-03-10", "end": "2025-03-18"}), 0.0),
    ("statement, active until later", statement(status="active", effectivePeriod={"end": "2025-03-18"}), 1.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("drug", "expected"),
    [
        *((order(status=status), 0.0) for status in ("completed", "stopped", "on-hold", "ended")),
        (order(status="active"), 1.0),
        (order(status="unknown"), UNKNOWN),
        (order(status="processed"), UNKNOWN),
        (statement(status="unknown"), UNKNOWN),
        (statement(status="unknown", effectivePeriod={"start": "2025-03-01", "end": "2025-03-09"}), 0.0),
    ],
)
def test_a_status_of_now_settles_whether_a_drug_is_in_use_unless_it_says_unknown(drug: Resource, expected: Any) -> None:
    found = record(STAY, drug, undated_known=True).features()
    assert answer(found, "medication.count") == expected
    assert answer(found, "medication_anticoagulant.last") == expected


NAMELESS = {"medicationReference": {"reference": "Medication/elsewhere"}}


@pytest.mark.parametrize(
    ("changes", "count", "drug_class"),
    [
        ({"status": "active"} | NAMELESS, "medication-not-found", "medication-not-found"),
        ({"status": "active", "medicationCodeableConcept": {}}, "medication-not-found", "no-code"),
        ({"status": "completed"} | NAMELESS, 0.0, 0.0),
        ({"status": "active"}, 1.0, 1.0),
    ],
)
def test_a_drug_in_use_that_says_no_name_is_not_none(changes: Resource, count: Any, drug_class: Any) -> None:
    drug = order(**changes)
    if "medicationReference" in changes:
        del drug["medicationCodeableConcept"]
    found = record(STAY, drug, undated_known=True).features()
    assert answer(found, "medication.count") == count
    assert answer(found, "medication_anticoagulant.last") == drug_class
    assert found.bounds("medication.count") == ((0.0, 1.0) if isinstance(count, str) else (count, count))


@pytest.mark.parametrize(("name", "drug", "expected"), COURSES, ids=[row[0] for row in COURSES])
def test_a_drug_is_in_use_by_its_own_dates(name: str, drug: Resource, expected: Any) -> None:
    """Of 30 running orders of the MIMIC-IV demo 0 counted in mid-stay: their status is that of after the stay."""
    found = record(STAY, OLD_STAY, drug).features()
    assert answer(found, "medication_anticoagulant.last") == expected
    assert answer(found, "medication.count") == expected
    assert answer(found, "medication_statin.last") == 0.0  # control: another class
    if expected == UNKNOWN:
        assert found.bounds("medication.count") == (0.0, 1.0)


def test_a_status_that_is_of_now_counts() -> None:
    for drug in (order(), order(status="stopped", **valid_until("2025-03-19T09:00:00Z"))):
        assert answer(record(STAY, drug, undated_known=True).features(), "medication.count") == 0.0
        newest = PatientRecord.from_resources([PATIENT, STAY, drug], "p")
        assert answer(newest.features(), "medication.count") == 0.0


def problem(status: str, **more: Any) -> Resource:
    code = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "J18.9", "display": "Pneumonia"}]}
    return {
        "resourceType": "Condition", "id": "c", "code": code, **SUBJECT, "recordedDate": "2025-03-10",
        "clinicalStatus": {"coding": [{"code": status}]}, **more,
    }  # fmt: skip


CONDITIONS: list[tuple[str, Resource, Any]] = [
    ("active", problem("active"), 1.0),
    ("resolved later", problem("resolved", abatementDateTime="2025-03-18"), 1.0),
    ("resolved before", problem("resolved", abatementDateTime="2025-03-11"), 0.0),
    ("active, abated before", problem("active", abatementDateTime="2025-03-11"), 0.0),
    ("resolved, when is unknown", problem("resolved"), UNKNOWN),
    ("inactive, local coding first", problem("x", clinicalStatus={"coding": [{"system": "urn:x", "code": "1"}, {"code": "inactive"}]}), UNKNOWN),
    ("resolved, at some age", problem("resolved", abatementAge={"value": 70}), UNKNOWN),
    ("resolved some time in March", problem("resolved", abatementDateTime="2025-03"), UNKNOWN),
    ("resolved, in de-identified data", problem("resolved", meta={"lastUpdated": "2018-03-11T00:00:00Z"}), UNKNOWN),
    ("resolved, not changed since", problem("resolved", meta={"lastUpdated": "2025-03-11T00:00:00Z"}), 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "condition", "expected"), CONDITIONS, ids=[row[0] for row in CONDITIONS])
def test_a_condition_is_active_by_its_own_dates(name: str, condition: Resource, expected: Any) -> None:
    found = record(STAY, condition).features()
    assert answer(found, "condition.count") == expected
    if expected == UNKNOWN:
        assert found.bounds("condition.count") == (0.0, 1.0)
        assert answer(record(STAY, condition, undated_known=True).features(), "condition.count") == 0.0


PERIODS: list[tuple[str, Resource, tuple[float, float]]] = [
    ("to the minute", {"start": "2025-03-10T10:00:00Z", "end": "2025-03-12T10:00:00Z"}, (2.0, 2.0)),
    ("dates", {"start": "2025-03-10", "end": "2025-03-12"}, (1.0, 3.0)),
    ("one date", {"start": "2025-03-10", "end": "2025-03-10"}, (0.0, 1.0)),
    ("a date and a time", {"start": "2025-03-10", "end": "2025-03-12T12:00:00Z"}, (1.5, 2.5)),
    ("a month", {"start": "2025-02", "end": "2025-03-12T00:00:00Z"}, (11.0, 39.0)),
    ("a year", {"start": "2025", "end": "2025-03-12T00:00:00Z"}, (0.0, 70.0)),
    ("running since a date", {"start": "2025-03-10"}, (4.0, 5.0)),
]


@pytest.mark.parametrize(("name", "period", "days"), PERIODS, ids=[row[0] for row in PERIODS])
def test_imprecise_periods_give_ranges(name: str, period: Resource, days: tuple[float, float]) -> None:
    """Two nights were 3.0 days, and a stay that began in a year was as long as that year so far."""
    status = "finished" if "end" in period else "in-progress"
    at = datetime(2025, 3, 15, tzinfo=UTC)
    found = record(STAY | {"period": period, "status": status}, at=at, encounter_id="s").features()
    assert found.bounds("length_of_stay.last") == pytest.approx(days, abs=1e-3)
    exact = days[0] == days[1]
    assert answer(found, "length_of_stay.last") == (days[0] if exact else "imprecise")
    low, high = found.bounds("hours_since_admission.last") or (0.0, 0.0)
    assert (low == high) is ("T" in period["start"])


def history(*entries: tuple[Any, str | None, str | None]) -> Resource:
    listed = [{"class": c, "period": {"start": s} | ({"end": e} if e else {})} for c, s, e in entries]
    return {"classHistory": listed, "status": "in-progress", "period": {"start": "2025-03-10T06:00:00Z"}}


SIX, SIX_PM = "2025-03-10T06:00:00Z", "2025-03-10T18:00:00Z"
HISTORIES = [
    ("both listed", history((EMERGENCY, SIX, SIX_PM), (INPATIENT, SIX_PM, None))),
    ("newest first", history((INPATIENT, SIX_PM, None), (EMERGENCY, SIX, SIX_PM))),
    ("only the earlier one listed", history((EMERGENCY, SIX, SIX_PM))),
]


@pytest.mark.parametrize(("name", "change"), HISTORIES, ids=[row[0] for row in HISTORIES])
def test_the_class_is_that_of_the_time(name: str, change: Resource) -> None:
    """A later class leaked back in time, and afterwards the emergency beginning was forgotten."""
    before = record(STAY | change, at=datetime(2025, 3, 10, 10, tzinfo=UTC))
    assert [stay.stay_class for stay in before.stays] == [StayClass.EMERGENCY]
    assert before.current_stay is None
    after = record(STAY | change)
    assert [stay.stay_class for stay in after.stays] == [StayClass.EMERGENCY, StayClass.INPATIENT]
    assert after.current_stay is not None
    assert after.current_stay.start == datetime(2025, 3, 10, 18, tzinfo=UTC)
    assert after.current_stay.acute is True
    assert after.features().number("emergency_visit.count_365d") == 0.0


def test_a_class_that_changed_on_a_date_began_on_that_day() -> None:
    change = history((EMERGENCY, "2025-03-10", "2025-03-10"), (INPATIENT, "2025-03-10", None))
    found = record(STAY | change).features()
    assert found.bounds("hours_since_admission.last") == pytest.approx((34.0, 52.0))
    assert record(STAY | change, at=datetime(2025, 3, 10, 20, tzinfo=UTC)).current_stay is None
    # An open history that contradicts the class is left alone.
    assert record(STAY | history((EMERGENCY, SIX, None))).current_stay is not None


UNDATED: list[tuple[str, Resource, str, tuple[float, float]]] = [
    ("running", {"status": "in-progress"}, "no-start", (0.0, 1.0)),
    ("an end only", {"period": {"end": "2025-03-20"}}, "no-stay", (0.0, 1.0)),
    (
        "a sentinel as its start",
        {"status": "in-progress", "period": {"start": "0001-01-01T00:00:00Z"}},
        "no-start",
        (0.0, 1.0),
    ),
    (
        "running, of a vendor's class",
        {"status": "in-progress", "class": {"system": "urn:x", "code": "1"}},
        "no-start",
        (0.0, 1.0),
    ),
    ("running, an emergency visit", {"status": "in-progress", "class": EMERGENCY}, "no-stay", (0.0, 0.0)),
    ("cancelled", {"status": "cancelled"}, "no-stay", (0.0, 0.0)),
]


@pytest.mark.parametrize(("name", "change", "reason", "stays"), UNDATED, ids=[row[0] for row in UNDATED])
def test_an_encounter_without_a_start_may_be_a_stay(
    name: str, change: Resource, reason: str, stays: tuple[float, float]
) -> None:
    """It was refused and then counted as no stay: nothing refused the count, and the hook answered without a card."""
    undated = {key: value for key, value in (STAY | change).items() if key != "period" or key in change}
    found = record(undated)
    assert found.no_stay == reason
    assert found.features().bounds("inpatient_stay.count_365d") == stays
    # Control: beside a stay that is known, it is another one.
    both = record(STAY | {"id": "t"}, undated)
    assert both.current_stay is not None
    assert both.features().bounds("inpatient_stay.count_365d") == stays


def test_a_history_that_says_nothing_is_left_alone() -> None:
    for listed in (
        [],
        [{}],
        [{"class": INPATIENT}],
        [{"class": {"system": "urn:x", "code": "1"}, "period": {"start": SIX}}],
    ):
        found = record(STAY | {"classHistory": listed})
        assert [(stay.stay_class, stay.start.hour) for stay in found.stays] == [(StayClass.INPATIENT, 6)]


ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


def ward(identifier: str, system: str, code: str) -> Resource:
    return {"resourceType": "Location", "id": identifier, "type": [{"coding": [{"system": system, "code": code}]}]}


PLACES = [
    ward("w", ROLE, "HU"), ward("i", ROLE, "ICU"), ward("l", "urn:local", "ICU"),
    ward("h", "https://www.cdc.gov/nhsn/cdaportal/terminology/codesystem/hsloc.html", "1027-2"),
]  # fmt: skip
SINCE = {"period": {"start": "2025-03-10T06:00:00Z"}}
LOCATIONS: list[tuple[str, list[tuple[str, Resource]], Any]] = [
    ("ward", [("w", SINCE)], 0.0),
    ("intensive care", [("w", SINCE), ("i", SINCE)], 1.0),
    ("by an NHSN code", [("h", SINCE)], 1.0),
    ("planned", [("w", SINCE), ("i", {"status": "planned"})], 0.0),
    ("reserved", [("w", SINCE), ("i", {"status": "reserved"} | SINCE)], 0.0),
    ("later", [("w", SINCE), ("i", {"period": {"start": "2025-03-13T06:00:00Z"}})], 0.0),
    ("without a period", [("w", SINCE), ("i", {})], "no-time"),
    ("some time this month", [("w", SINCE), ("i", {"period": {"start": "2025-03"}})], "no-time"),
    ("left before", [("i", {"period": {"end": "2025-03-11T06:00:00Z"}})], 1.0),
    ("a local code", [("w", SINCE), ("l", SINCE)], "code-not-understood"),
    ("none", [], "not-coded"),
]


@pytest.mark.parametrize(("name", "places", "expected"), LOCATIONS, ids=[row[0] for row in LOCATIONS])
def test_intensive_care_is_where_the_patient_is(name: str, places: list[tuple[str, Resource]], expected: Any) -> None:
    listed = [{"location": {"reference": f"Location/{identifier}"}, **more} for identifier, more in places]
    found = record(STAY | {"location": listed}, *PLACES).features()
    assert answer(found, "intensive_care.last") == expected
    if expected == "no-time":  # the same data read at the prediction time, or after the stay
        assert (
            answer(record(STAY | {"location": listed}, *PLACES, undated_known=True).features(), "intensive_care.last")
            == 1.0
        )
        over = datetime(2025, 3, 21, tzinfo=UTC)
        assert (
            record(STAY | {"location": listed}, *PLACES, at=over, encounter_id="s")
            .features()
            .number("intensive_care.last")
            == 1.0
        )


def visit(code: str, start: str = "2025-03-11T05:00:00Z", **more: Any) -> Resource:
    return {
        "resourceType": "Encounter", "id": "v", "status": "finished", "class": {"system": ACT, "code": code}, **SUBJECT,
        "period": {"start": start, "end": "2025-03-11T05:30:00Z"}, **more,
    }  # fmt: skip


def pulse(identifier: str, value: int, at: str, **more: Any) -> Resource:
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    return {
        "resourceType": "Observation", "id": identifier, "status": "final", "code": code, **SUBJECT, "effectiveDateTime": at,
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}, **more,
    }  # fmt: skip


NAMED = {"encounter": {"reference": "Encounter/v"}}
VISITS: list[tuple[str, Resource, Resource, bool]] = [
    ("a clinic during the stay", visit("AMB"), NAMED, False),
    ("another emergency department", visit("EMER"), NAMED, False),
    ("part of the stay", visit("AMB", partOf={"reference": "Encounter/s"}), NAMED, True),
    ("remote monitoring", visit("VR"), NAMED, True),
    ("home health", visit("HH"), NAMED, True),
    ("a class that is not understood", visit("SS"), NAMED, True),
    ("it began before the stay", visit("AMB", "2025-03-10T05:00:00Z"), NAMED, True),
    ("the emergency visit that led to the stay", visit("EMER", "2025-03-10T05:00:00Z"), NAMED, True),
    ("a monitor, no encounter", visit("AMB"), {}, True),
    ("a device", visit("AMB"), NAMED | {"device": {"reference": "Device/d"}}, True),
    ("an encounter that is not in the data", visit("AMB"), {"encounter": {"reference": "Encounter/x"}}, True),
]


@pytest.mark.parametrize(("name", "other", "link", "counts"), VISITS, ids=[row[0] for row in VISITS])
def test_values_of_another_visit_are_not_the_stay_s(name: str, other: Resource, link: Resource, counts: bool) -> None:
    """A pulse of 72 in a clinic hid the 131 of the ward."""
    ours = pulse("in", 131, "2025-03-11T04:00:00Z", encounter={"reference": "Encounter/s"})
    theirs = pulse("out", 72, "2025-03-11T05:10:00Z", **link)
    found = record(STAY, other, ours, theirs)
    assert found.features().number("heart_rate.last") == (72.0 if counts else 131.0)
    assert [(r.source, r.reason, r.detail) for r in found.refused if r.reason == "other-encounter"] == (
        [] if counts else [("Observation/out", "other-encounter", "heart_rate")]
    )
    procedure = {
        "resourceType": "Procedure", "id": "x", "status": "completed", "code": {"text": "x"}, **SUBJECT,
        "performedDateTime": "2025-03-11T05:10:00Z", **{k: v for k, v in link.items() if k == "encounter"},
    }  # fmt: skip
    expected = 1.0 if counts or "device" in link else 0.0
    if "device" not in link:
        assert record(STAY, other, procedure).features().number("procedure.count") == expected


def test_a_death_without_a_time_is_not_known_while_an_encounter_goes_on() -> None:
    dead = {"deceasedBoolean": True}
    during = PatientRecord.from_resources([PATIENT | dead, STAY], "p", AT)
    assert not during.demographics.perhaps_deceased
    assert "death-without-time" in {r.reason for r in during.refused}
    for options in ({"undated_known": True}, {}):
        at = AT if options else datetime(2025, 3, 21, tzinfo=UTC)
        assert PatientRecord.from_resources([PATIENT | dead, STAY], "p", at, **options).demographics.perhaps_deceased


def test_undated_facts_reach_meds_with_the_end_of_their_stay() -> None:
    """MEDS reads an event without a time as known at birth, so it would enter every prediction."""
    undated = {k: v for k, v in problem("active", **IN_STAY).items() if k != "recordedDate"}
    ward_stay = STAY | {"id": "part", "partOf": {"reference": "Encounter/s"}}
    of_part = undated | {"id": "c2", "encounter": {"reference": "Encounter/part"}}
    drug = statement(status="active", id="t9", **IN_STAY)
    at = datetime(2025, 4, 1, tzinfo=UTC)
    rows = record(STAY, ward_stay, undated, of_part, drug, at=at).to_meds()
    times = {row["time"] for row in rows if row["code"].startswith(("ICD10CM", "RxNorm"))}
    assert times == {"2025-03-20T10:00:00+00:00"}
    assert {row["code"].partition("//")[0] for row in rows if row["time"] is None} <= {"GENDER"}
