"""Values in real data: censored, text, absent, conflicting, converted, from the wrong specimen, with the same time."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.concepts import definitions
from tests.fhir_mapping.record.test_cases import ABSENT, LOINC, UCUM, Resource, no_value, observation, record

SNOMED = "http://snomed.info/sct"


def quantity(**parts: Any) -> Resource:
    return observation() | {"valueQuantity": parts}


def coded(*pairs: tuple[str | None, str], **more: Any) -> Resource:
    codings = [{"code": code} | ({"system": system} if system else {}) for system, code in pairs]
    return observation(**more) | {"code": {"coding": codings}}


def component(code: str, **parts: Any) -> Resource:
    return {"code": {"coding": [{"system": LOINC, "code": code}]}, **parts}


def pressure(*components: Resource, **more: Any) -> Resource:
    return no_value(code="85354-9", component=list(components), **more)


MMHG = {"unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
USABLE: list[tuple[str, Resource, str, float]] = [
    ("glucose g/L", observation("2345-7", 0.9, "g/L"), "glucose.last", 90),
    ("sodium mEq/L spelled by people", quantity(value=140, unit="mEq/L"), "sodium.last", 140),
    ("upper case", quantity(value=140, unit="MMOL/L"), "sodium.last", 140),
    ("spaces", quantity(value=140, unit=" mmol / L "), "sodium.last", 140),
    ("an annotation", quantity(value=140, unit="mmol/L{serum}"), "sodium.last", 140),
    ("UCUM under its OID", quantity(value=140, code="mmol/L", system="urn:oid:2.16.840.1.113883.6.8"), "sodium.last", 140),
    ("an unknown display unit", quantity(value=140, unit="milli", system=UCUM, code="mmol/L"), "sodium.last", 140),
    ("unit and code in two spellings", quantity(value=140, unit="mEq/L", system=UCUM, code="mmol/L"), "sodium.last", 140),
    ("calcium mEq/L spelled by people", observation("17861-6", 5, "mEq/L"), "calcium.last", 10.0195),
    ("magnesium mmol/L", observation("19123-9", 0.8, "mmol/L"), "magnesium.last", 1.9444),
    ("urea mmol/L as BUN", observation("22664-7", 5, "mmol/L"), "bun.last", 14.003),
    ("urea by mass is not urea nitrogen", observation("3091-6", 30, "mg/dL"), "bun.last", 13.9938),
    ("bilirubin umol/L", observation("1975-2", 17.1, "umol/L"), "bilirubin.last", 1.0),
    ("lactate mg/dL", observation("2524-7", 18, "mg/dL"), "lactate.last", 1.998),
    ("haemoglobin mmol/L", observation("718-7", 8, "mmol/L"), "hemoglobin.last", 12.891),
    ("thousands per cubic millimetre", observation("6690-2", 8.1, "K/mm3"), "wbc.last", 8.1),
    ("thousands in words", observation("6690-2", 8.1, "thou/mm3"), "wbc.last", 8.1),
    ("the Greek letter for micro", observation("2160-0", 88.4, "\u03bcmol/L"), "creatinine.last", 1.0),
    ("k/ul in lower case", observation("6690-2", 8.1, "k/ul"), "wbc.last", 8.1),
    ("giga per litre", observation("777-3", 250, "G/L"), "platelets.last", 250),
    ("degrees Fahrenheit by their sign", observation("8310-5", 98.6, "°F"), "temperature.last", 37),
    ("kelvin", observation("8310-5", 310.15, "K"), "temperature.last", 37),
    ("saturation as a fraction", observation("2708-6", 0.97, "1"), "spo2.last", 97),
    ("haematocrit as a fraction", observation("4544-3", 0.42, "L/L"), "hematocrit.last", 42),
    ("haematocrit in per cent", observation("4544-3", 42, "%"), "hematocrit.last", 42),
    ("oxygen in per cent", observation("3150-6", 40, "%"), "fio2.last", 40),
    ("pH without a unit", observation("2744-1", 7.4, None), "ph.last", 7.4),
    ("INR without a unit", observation("6301-6", 1.1, None), "inr.last", 1.1),
    ("a string without a space", no_value(code="2160-0", valueString="1.2mg/dL"), "creatinine.last", 1.2),
    ("a string with decimals", no_value(code="2160-0", valueString="1.20 mg/dL"), "creatinine.last", 1.2),
    ("an integer", observation(value=140), "sodium.last", 140),
    ("LOINC before a local code", coded((LOINC, "2951-2"), ("urn:local", "NA")), "sodium.last", 140),
    ("two LOINC codes of one concept", coded((LOINC, "2947-0"), (LOINC, "2951-2")), "sodium.last", 140),
    ("with a LOINC panel code", coded((LOINC, "24321-2"), (LOINC, "2951-2")), "sodium.last", 140),
    ("LOINC with a slash", coded(("http://loinc.org/", "2951-2")), "sodium.last", 140),
    ("LOINC over https", coded(("https://loinc.org", "2951-2")), "sodium.last", 140),
    ("LOINC with a version", coded(("http://loinc.org|2.72", "2951-2")), "sodium.last", 140),
    ("LOINC by bare OID", coded(("2.16.840.1.113883.6.1", "2951-2")), "sodium.last", 140),
    ("LOINC in capitals", coded(("HTTP://LOINC.ORG", "2951-2")), "sodium.last", 140),
    ("one component absent", pressure(component("8480-6", valueQuantity=MMHG | {"value": 120}), component("8462-4", dataAbsentReason={"text": "x"})), "systolic_bp.last", 120),
    ("systolic on its own", observation("8480-6", 120, "mm[Hg]"), "systolic_bp.last", 120),
    ("a component beside a foreign modifier", pressure(component("8480-6", valueQuantity=MMHG | {"value": 120}), component("8462-4", valueQuantity=MMHG | {"value": 70}, modifierExtension=[{"url": "x"}])), "systolic_bp.last", 120),
    ("serum from a blood specimen", observation(specimen={"display": "Blood specimen"}), "sodium.last", 140),
    ("amended", observation(status="amended"), "sodium.last", 140),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resource", "feature", "value"), USABLE, ids=[row[0] for row in USABLE])
def test_values_are_read_and_converted(name: str, resource: Resource, feature: str, value: float) -> None:
    assert record(resource).features().number(feature) == pytest.approx(value, rel=2e-4)


URINE = {"resourceType": "Specimen", "id": "s", "type": {"coding": [{"system": SNOMED, "code": "122575003"}]}}
UNKNOWN: list[tuple[str, Resource, str, str]] = [
    ("calcium of mmol/L called mg/dL", observation("17861-6", 2.5, "mg/dL"), "calcium.last", "implausible"),
    ("glucose of mmol/L called mg/dL", observation("2345-7", 5.5, "mg/dL"), "glucose.last", "implausible"),
    ("arterial oxygen of kPa called mmHg", observation("2703-7", 12, "mm[Hg]"), "pao2.last", "implausible"),
    ("arterial carbon dioxide of kPa called mmHg", observation("2019-8", 5.3, "mm[Hg]"), "paco2.last", "implausible"),
    ("digits of another script", no_value(valueString="\uff11\uff14\uff10 mmol/L"), "sodium.last", "value-not-a-number"),
    ("a bound in a string", no_value(valueString="<5 mmol/L"), "sodium.last", "censored"),
    ("above a bound", observation() | {"valueQuantity": {"value": 180, "comparator": ">=", "unit": "mmol/L"}}, "sodium.last", "censored"),
    ("a comparator of R5", observation() | {"valueQuantity": {"value": 5, "comparator": "ad", "unit": "mmol/L"}}, "sodium.last", "censored"),
    ("a remark behind the unit", no_value(valueString="138 mmol/L (high)"), "sodium.last", "unit-not-understood"),
    ("a range in a string", no_value(valueString="135-145 mmol/L"), "sodium.last", "value-not-a-number"),
    ("a decimal comma", no_value(code="2160-0", valueString="1,2 mg/dL"), "creatinine.last", "value-not-a-number"),
    ("ratio", no_value(valueRatio={"numerator": {"value": 1}}), "sodium.last", "value-not-a-number"),
    ("range", no_value(valueRange={"low": {"value": 1}}), "sodium.last", "value-not-a-number"),
    ("series", no_value(valueSampledData={"data": "1 2 3"}), "sodium.last", "value-not-a-number"),
    ("a code", no_value(valueCodeableConcept={"text": "normal"}), "sodium.last", "value-not-a-number"),
    ("an integer without a unit", no_value(valueInteger=140), "sodium.last", "no-unit"),
    ("two kinds of value", observation(valueString="141 mmol/L"), "sodium.last", "several-values"),
    ("a number as text", quantity(value="140", unit="mmol/L"), "sodium.last", "value-not-a-number"),
    ("infinite", quantity(value=float("inf"), unit="mmol/L"), "sodium.last", "value-not-a-number"),
    ("beyond any float", quantity(value=10**400, unit="mmol/L"), "sodium.last", "value-not-a-number"),
    ("no number in the quantity", quantity(unit="mmol/L"), "sodium.last", "no-value"),
    ("an absent number", quantity(unit="mmol/L", _value=ABSENT), "sodium.last", "data-absent"),
    ("an absent quantity", quantity(unit="mmol/L", **ABSENT), "sodium.last", "data-absent"),
    ("a number said to be absent", quantity(value=1, unit="mmol/L", _value=ABSENT), "sodium.last", "value-and-absent-reason"),
    ("9999 where it would be plausible", observation("30934-4", 9999, "pg/mL"), "bnp.last", "sentinel"),
    ("99999.9", observation("2276-4", 99999.9, "ng/mL"), "ferritin.last", "sentinel"),
    ("minus one", observation(value=-1), "sodium.last", "implausible"),
    ("a fraction called per cent", observation("3150-6", 0.4, "%"), "fio2.last", "implausible"),
    ("haematocrit fraction called per cent", observation("4544-3", 0.42, "%"), "hematocrit.last", "implausible"),
    ("haematocrit without a unit", observation("4544-3", 0.42, None), "hematocrit.last", "no-unit"),
    ("saturation without a unit", observation("2708-6", 97, None), "spo2.last", "no-unit"),
    ("creatinine without a unit", observation("2160-0", 1, None), "creatinine.last", "no-unit"),
    ("temperature without a unit", observation("8310-5", 37, None), "temperature.last", "no-unit"),
    ("kelvin for counts", observation("6690-2", 8.1, "K"), "wbc.last", "unit-not-understood"),
    ("unit and code of two dimensions", quantity(value=140, unit="g/dL", system=UCUM, code="mmol/L"), "sodium.last", "unit-conflict"),
    ("temperature in both", observation("8310-5") | {"valueQuantity": {"value": 98.6, "unit": "°F", "system": UCUM, "code": "Cel"}}, "temperature.last", "unit-conflict"),
    ("glucose in both", observation("2345-7") | {"valueQuantity": {"value": 5.5, "unit": "mg/dL", "system": UCUM, "code": "mmol/L"}}, "glucose.last", "unit-conflict"),
    ("codes of two concepts", coded((LOINC, "2951-2"), (LOINC, "2823-3")), "sodium.last", "codes-disagree"),
    ("also coded as urine", coded((LOINC, "2951-2"), (LOINC, "2955-3")), "sodium.last", "codes-disagree"),
    ("urine by display", observation(specimen={"display": "Urine specimen"}), "sodium.last", "specimen-conflict"),
    ("urine contained", observation(contained=[URINE], specimen={"reference": "#s"}), "sodium.last", "specimen-conflict"),
    ("spinal fluid", observation("2345-7", 60, "mg/dL", specimen={"display": "CSF"}), "glucose.last", "specimen-conflict"),
    ("venous for arterial", observation("2703-7", 40, "mm[Hg]", specimen={"display": "Venous blood"}), "pao2.last", "specimen-conflict"),
    ("registered", observation(status="registered"), "sodium.last", "status-registered"),
    ("an unknown status", observation(status="done"), "sodium.last", "status-not-understood"),
    ("status that is no word", observation(status=["final"]), "sodium.last", "status-not-understood"),
    ("rules we do not know", observation(implicitRules="http://x"), "sodium.last", "implicit-rules"),
    ("a modifier inside the value", quantity(value=140, unit="mmol/L", modifierExtension=[{"url": "x"}]), "sodium.last", "modifier-extension"),
    ("a reversed period", {k: v for k, v in observation(effectivePeriod={"start": "2024-05-02", "end": "2024-05-01"}).items() if k != "effectiveDateTime"}, "sodium.last", "no-time"),
    ("year 9999", observation(effectiveDateTime="9999-12-31"), "sodium.last", "no-time"),
    ("inverted components", pressure(component("8480-6", valueQuantity=MMHG | {"value": 60}), component("8462-4", valueQuantity=MMHG | {"value": 90})), "diastolic_bp.last", "pressure-inverted"),
    ("the other component's reason", pressure(component("8480-6", dataAbsentReason={"text": "x"})), "systolic_bp.last", "data-absent"),
    ("a panel in error", pressure(component("8480-6", valueQuantity=MMHG | {"value": 120}), component("8462-4", valueQuantity=MMHG | {"value": 80}), status="entered-in-error"), "diastolic_bp.last", "status-entered-in-error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resource", "feature", "reason"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_unusable_values_are_unknown_with_a_reason(name: str, resource: Resource, feature: str, reason: str) -> None:
    found = record(resource)
    assert found.features().number(feature) is None
    assert found.features().unknown[feature] == reason
    assert reason in {refusal.reason for refusal in found.refused}


NEVER_TAKEN: list[tuple[str, Resource, str]] = [
    ("urine sodium", observation("2955-3", 40), "sodium.last"),
    ("urine glucose", observation("2350-7", 100, "mg/dL"), "glucose.last"),
    ("venous oxygen", observation("2705-2", 40, "mm[Hg]"), "pao2.last"),
    ("the code without a system", coded((None, "2951-2")), "sodium.last"),
    ("the code in a local system", coded(("urn:local", "2951-2")), "sodium.last"),
    ("the name alone", observation() | {"code": {"text": "Sodium"}}, "sodium.last"),
    ("lactate dehydrogenase", observation("2532-0", 250, "U/L"), "lactate.last"),
]


@pytest.mark.parametrize(("name", "resource", "feature"), NEVER_TAKEN, ids=[row[0] for row in NEVER_TAKEN])
def test_similar_measurements_are_not_confused(name: str, resource: Resource, feature: str) -> None:
    assert record(resource).features().number(feature) is None


def test_with_local_codes_only_the_reason_is_code_not_mapped() -> None:
    found = record(coded(("urn:local", "NA")), coded(("urn:local", "K"), id="o2"))
    assert found.features().unknown["sodium.last"] == "code-not-mapped"
    refusal = next(r for r in found.refused if r.reason == "code-not-mapped")
    assert (refusal.source, refusal.detail) == ("Observation", "2 of urn:local")


TIES: list[tuple[str, Resource, Resource, float, str]] = [
    ("corrected beats final", observation(value=130, id="z"), observation(value=140, id="a", status="corrected"), 140, "later-status-won"),
    ("amended beats final", observation(value=130, id="z"), observation(value=140, id="a", status="amended"), 140, "later-status-won"),
    ("final beats preliminary", observation(value=130, id="z", status="preliminary"), observation(value=140, id="a"), 140, "later-status-won"),
    ("later issued", observation(value=130, id="z", issued="2024-05-02T07:00:00Z"), observation(value=140, id="a", issued="2024-05-02T08:00:00Z"), 140, "same-time-other-value"),
    ("greater id", observation(value=130, id="a"), observation(value=140, id="b"), 140, "same-time-other-value"),
    ("the same instant in two zones", observation(value=130, id="a"), observation(value=140, id="b", effectiveDateTime="2024-05-02T08:00:00+02:00"), 140, "same-time-other-value"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "one", "other", "value", "reason"), TIES, ids=[row[0] for row in TIES])
def test_one_of_two_values_with_the_same_time_is_used(
    name: str, one: Resource, other: Resource, value: float, reason: str
) -> None:
    for order in ((one, other), (other, one)):
        found = record(*order)
        assert found.features().number("sodium.last") == value
        assert found.features().number("sodium.count") == 1
        assert [r.reason for r in found.refused if r.reason != "encounter-not-found"] == [reason]


def test_pressures_in_two_observations_are_compared() -> None:
    systolic, diastolic = observation("8480-6", 60, "mm[Hg]", id="s"), observation("8462-4", 90, "mm[Hg]", id="d")
    found = record(systolic, diastolic).features()
    assert found.unknown["systolic_bp.last"] == found.unknown["diastolic_bp.last"] == "pressure-inverted"


MEMBER = {k: v for k, v in observation().items() if k in {"resourceType", "code", "valueQuantity"}} | {"id": "na"}
PANEL = no_value(code="24321-2", id="panel", hasMember=[{"reference": "#na"}], contained=[MEMBER])


def test_panel_members_are_used_contained_or_not() -> None:
    assert record(PANEL).features().number("sodium.last") == 140
    beside = PANEL | {"hasMember": [{"reference": "Observation/o"}], "contained": []}
    assert record(beside, observation()).features().number("sodium.count") == 1
    assert record(PANEL | {"status": "entered-in-error"}).features().number("sodium.last") is None
    loop = observation(hasMember=[{"reference": "Observation/o"}])
    assert record(loop).features().number("sodium.last") == 140


def test_results_contained_in_a_report_are_used() -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"text": "Chemistry"},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2024-05-02T06:00:00Z",
        "result": [{"reference": "#na"}],
        "contained": [MEMBER],
    }
    found = record(report).features()
    assert found.values["sodium.last"].sources == ("DiagnosticReport/r#na",)


def test_every_canonical_unit_is_a_known_spelling() -> None:
    known = definitions()
    assert all(known.unit(concept.unit) == concept.unit for concept in known.concepts.values())
    assert sum(concept.group == "laboratory" for concept in known.concepts.values()) >= 35


@pytest.mark.parametrize("constant", [b"NaN", b"-Infinity"])
def test_a_value_that_is_not_a_json_number_is_an_error(constant: bytes) -> None:
    from fhir_mapping import InvalidInputError

    with pytest.raises(InvalidInputError):
        PatientRecord.from_json(
            b'[{"resourceType": "Patient", "id": "p"}, {"resourceType": "Observation", "x": %s}]' % constant
        )
