"""FHIR in real data: one row per case with the expected result. Unknown is never normal."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_mapping import PatientRecord

AT = datetime(2024, 5, 3, 12, tzinfo=UTC)
Resource = dict[str, Any]
PATIENT: Resource = {"resourceType": "Patient", "id": "p", "birthDate": "1950-02-03", "gender": "female"}
STAY: Resource = {
    "resourceType": "Encounter",
    "id": "stay",
    "status": "in-progress",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    "subject": {"reference": "Patient/p"},
    "period": {"start": "2024-05-01T08:00:00Z"},
}
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"


def observation(code: str = "2951-2", value: Any = 140, unit: str | None = "mmol/L", **more: Any) -> Resource:
    quantity: Resource = {"value": value}
    if unit is not None:
        quantity |= {"unit": unit, "system": UCUM, "code": unit}
    return {
        "resourceType": "Observation",
        "id": more.pop("id", "o"),
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2024-05-02T06:00:00Z",
        "valueQuantity": quantity,
        **more,
    }


def record(*resources: Resource, at: datetime = AT, **more: Any) -> PatientRecord:
    listed = [copy.deepcopy(r) for r in (PATIENT, STAY, *resources)]
    return PatientRecord.from_resources(listed, prediction_time=at, **more)


def no_value(**more: Any) -> Resource:
    found = observation(**more)
    del found["valueQuantity"]
    return found


VALUES: list[tuple[str, Resource, str, float]] = [
    ("plain", observation(), "sodium.last", 140),
    ("meq/L of a single charge", observation(unit="meq/L"), "sodium.last", 140),
    ("creatinine umol/L", observation("2160-0", 88.4, "umol/L"), "creatinine.last", 1.0),
    ("glucose mmol/L", observation("2345-7", 5.5, "mmol/L"), "glucose.last", 99.0858),
    ("haemoglobin g/L", observation("718-7", 120, "g/L"), "hemoglobin.last", 12.0),
    ("calcium mmol/L", observation("17861-6", 2.5, "mmol/L"), "calcium.last", 10.0195),
    ("calcium meq/L is half the mmol", observation("17861-6", 5.0, "meq/L"), "calcium.last", 10.0195),
    ("K/uL is thousands", observation("6690-2", 8.1, "K/uL"), "wbc.last", 8.1),
    ("/uL", observation("6690-2", 8100, "/uL"), "wbc.last", 8.1),
    ("10*9/L", observation("777-3", 250, "10*9/L"), "platelets.last", 250),
    ("Fahrenheit", observation("8310-5", 98.6, "[degF]"), "temperature.last", 37.0),
    ("oxygen fraction as 1", observation("3150-6", 0.4, "1"), "fio2.last", 40),
    ("pounds", observation("29463-7", 200, "[lb_av]"), "weight.last", 90.718474),
    ("kPa", observation("2703-7", 10, "kPa"), "pao2.last", 75.0062),
    ("unitless score", observation("9269-2", 14, None), "gcs.last", 14),
    ("valueInteger", no_value(code="9269-2", valueInteger=13), "gcs.last", 13),
    ("strict string with unit", no_value(valueString="138 mmol/L"), "sodium.last", 138),
    (
        "LOINC after a local code",
        observation(code_="x") | {"code": {"coding": [{"system": "local", "code": "NA"}, {"system": LOINC, "code": "2951-2"}]}},
        "sodium.last",
        140,
    ),
    (
        "LOINC by its OID",
        observation() | {"code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "2951-2"}]}},
        "sodium.last",
        140,
    ),
    ("period end", {k: v for k, v in observation(effectivePeriod={"start": "2024-05-02", "end": "2024-05-02T07:00:00Z"}).items() if k != "effectiveDateTime"}, "sodium.last", 140),
    ("preliminary counts until a final comes", observation(status="preliminary"), "sodium.last", 140),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resource", "feature", "value"), VALUES, ids=[row[0] for row in VALUES])
def test_a_usable_value_is_converted(name: str, resource: Resource, feature: str, value: float) -> None:
    resource.pop("code_", None)
    assert record(resource).features().number(feature) == pytest.approx(value, rel=1e-4)


REFUSED: list[tuple[str, Resource, str, str]] = [
    ("below a bound", observation() | {"valueQuantity": {"value": 5, "comparator": "<", "unit": "mmol/L"}}, "sodium.last", "censored"),
    ("a word", no_value(valueString="normal"), "sodium.last", "value-not-a-number"),
    ("a bare number as string", no_value(valueString="138"), "sodium.last", "value-not-a-number"),
    ("absent with reason", no_value(dataAbsentReason={"text": "error"}), "sodium.last", "data-absent"),
    ("absent and a value", observation(dataAbsentReason={"text": "error"}), "sodium.last", "value-and-absent-reason"),
    ("no value", no_value(), "sodium.last", "no-value"),
    ("no unit", observation(unit=None), "sodium.last", "no-unit"),
    ("a unit of something else", observation(unit="kg"), "sodium.last", "unit-not-understood"),
    ("code against unit", observation("2160-0") | {"valueQuantity": {"value": 1, "unit": "mg/dL", "system": UCUM, "code": "umol/L"}}, "creatinine.last", "unit-conflict"),
    ("98.6 called Celsius", observation("8310-5", 98.6, "Cel"), "temperature.last", "implausible"),
    ("0.97 called per cent", observation("2708-6", 0.97, "%"), "spo2.last", "implausible"),
    ("sentinel", observation(value=9999999), "sodium.last", "sentinel"),
    ("a truth value", observation(value=True), "sodium.last", "value-not-a-number"),
    ("entered in error", observation(status="entered-in-error"), "sodium.last", "status-entered-in-error"),
    ("cancelled", observation(status="cancelled"), "sodium.last", "status-cancelled"),
    ("no status", {k: v for k, v in observation().items() if k != "status"}, "sodium.last", "no-status"),
    ("no time", {k: v for k, v in observation().items() if k != "effectiveDateTime"}, "sodium.last", "no-time"),
    ("unknown modifier", observation(modifierExtension=[{"url": "x"}]), "sodium.last", "modifier-extension"),
    ("subject a group", observation(subject={"reference": "Group/g"}), "sodium.last", "subject-not-a-patient"),
    ("subject by display", observation(subject={"display": "P"}), "sodium.last", "subject-unprovable"),
    ("about the baby", observation(focus=[{"reference": "Patient/baby"}]), "sodium.last", "focus-is-somebody-else"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resource", "feature", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_unreliable_values_are_unknown_with_a_reason(name: str, resource: Resource, feature: str, reason: str) -> None:
    found = record(resource)
    assert found.features().number(feature) is None
    assert feature in found.features().unknown
    assert reason in {refusal.reason for refusal in found.refused}


def test_local_codes_and_neighbours_are_not_guessed() -> None:
    local = observation() | {"code": {"coding": [{"system": "local", "code": "NA"}], "text": "Sodium"}}
    dehydrogenase = observation("2532-0", 250, "U/L", id="ldh")
    features = record(local, dehydrogenase).features()
    assert features.unknown["sodium.last"] == "none-found"
    assert features.unknown["lactate.last"] == "none-found"


def test_pressure_comes_from_components_and_inverted_pressure_is_unknown() -> None:
    def panel(systolic: float, diastolic: float) -> Resource:
        parts = [("8480-6", systolic), ("8462-4", diastolic)]
        return no_value(code="85354-9") | {
            "component": [
                {"code": {"coding": [{"system": LOINC, "code": c}]}, "valueQuantity": {"value": v, "unit": "mmHg"}}
                for c, v in parts
            ]
        }

    good, bad = record(panel(120, 80)).features(), record(panel(80, 120))
    assert (good.number("systolic_bp.last"), good.number("diastolic_bp.last")) == (120, 80)
    assert bad.features().number("systolic_bp.last") is None
    assert "pressure-inverted" in {refusal.reason for refusal in bad.refused}


TIMES: list[tuple[str, str, bool]] = [
    ("before", "2024-05-03T11:59:59Z", True),
    ("at the moment", "2024-05-03T12:00:00Z", True),
    ("the same instant elsewhere", "2024-05-03T14:00:00+02:00", True),
    ("a second later", "2024-05-03T12:00:01Z", False),
    ("only the day, which is not over", "2024-05-03", False),
    ("only the day before", "2024-05-02", True),
    ("no zone, perhaps later", "2024-05-03T11:00:00", False),
    ("no zone, long before", "2024-05-02T06:00:00", True),
    ("no time at all", "soon", False),
]


@pytest.mark.parametrize(("name", "when", "known"), TIMES, ids=[row[0] for row in TIMES])
def test_only_data_up_to_the_prediction_time_are_used(name: str, when: str, known: bool) -> None:
    found = record(observation(effectiveDateTime=when)).features()
    assert (found.number("sodium.last") is not None) is known


def test_a_result_is_known_when_it_is_issued() -> None:
    late = observation(effectiveDateTime="2024-05-03T08:00:00Z", issued="2024-05-03T13:00:00Z")
    assert record(late).features().number("sodium.last") is None


# At AT, 3 May 2024. Age bands of the scores: 16, 18, 40, 50, 60, 70, 75, 80.
AGES: list[tuple[str, float | None, str | None]] = [
    ("1950-02-03", 74.0, None),
    ("1950-02", 74.0, None),
    ("1950", 73.0, None),  # 73 or 74: the same band, the younger end
    ("1949", None, "imprecise"),  # 74 or 75: SAPS II gives them different points
    ("2006", None, "imprecise"),  # perhaps not adult
    ("2150-01-01", None, "implausible"),
    ("1870-01-01", None, "implausible"),
    ("0001-01-01", None, "time-not-understood"),
    ("x", None, "time-not-understood"),
]


@pytest.mark.parametrize(("birth", "age", "reason"), AGES)
def test_an_imprecise_birth_date_gives_an_age_only_within_one_band(
    birth: str, age: float | None, reason: str | None
) -> None:
    found = PatientRecord.from_resources([PATIENT | {"birthDate": birth}, STAY], prediction_time=AT).features()
    assert found.number("age.last") == age
    assert found.unknown.get("age.last") == reason


def test_an_imprecise_age_has_a_range() -> None:
    found = PatientRecord.from_resources([PATIENT | {"birthDate": "1949"}, STAY], prediction_time=AT).features()
    assert (found.number("age.min"), found.number("age.max")) == (74, 75)


ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


@pytest.mark.parametrize(
    ("patient", "reason"),
    [
        ({"resourceType": "Patient", "id": "p", "_birthDate": ABSENT}, "data-absent"),
        (PATIENT | {"_birthDate": ABSENT}, "value-and-absent-reason"),
        ({"resourceType": "Patient", "id": "p"}, "none-found"),
        (PATIENT | {"modifierExtension": [{"url": "x"}]}, "modifier-extension"),
        (PATIENT | {"implicitRules": "http://x"}, "implicit-rules"),
    ],
)
def test_a_missing_birth_date_has_a_reason(patient: Resource, reason: str) -> None:
    found = PatientRecord.from_resources([patient, STAY], prediction_time=AT)
    assert found.birth is None
    assert found.features().unknown["age.last"] == reason


DEATHS: list[tuple[str, Resource, bool, bool]] = [
    ("alive", {}, False, False),
    ("before", {"deceasedDateTime": "2024-05-03T11:00:00Z"}, True, False),
    ("the day before", {"deceasedDateTime": "2024-05-02"}, True, False),
    ("later", {"deceasedDateTime": "2024-06-01"}, False, False),
    ("that day, perhaps not yet", {"deceasedDateTime": "2024-05-03"}, False, True),
    ("dead, and not when", {"deceasedBoolean": True}, False, True),
    ("a date that is none", {"deceasedDateTime": "soon"}, False, True),
    ("not dead", {"deceasedBoolean": False}, False, False),
    ("dead, the truth value as text", {"deceasedBoolean": "true"}, False, True),
    ("not dead, the truth value as text", {"deceasedBoolean": "false"}, False, False),
]


@pytest.mark.parametrize(("name", "change", "dead", "perhaps"), DEATHS, ids=[row[0] for row in DEATHS])
def test_only_death_before_the_prediction_time_is_known(name: str, change: Resource, dead: bool, perhaps: bool) -> None:
    found = PatientRecord.from_resources([PATIENT | change, STAY], prediction_time=AT)
    assert (found.deceased is not None, found.demographics.perhaps_deceased) == (dead, perhaps)


def test_deidentified_years_in_the_future_are_valid() -> None:
    patient = PATIENT | {"birthDate": "2080-01-01"}
    stay = STAY | {"period": {"start": "2150-05-01T08:00:00Z"}}
    found = PatientRecord.from_resources([patient, stay], prediction_time="2150-05-02T08:00:00Z")
    assert found.features().number("age.last") == 70
    assert found.current_stay is not None
