"""What codes, panels, units, scales, times and absences mean, whatever their order, system and country."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from tests.fhir_mapping.record.test_cases import ABSENT, AT, LOINC, UCUM, Resource, no_value, observation, record

SNOMED = "http://snomed.info/sct"
SUBJECT = {"reference": "Patient/p"}


def concept(*codings: tuple[str, str] | tuple[str, str, str], text: str | None = None) -> Resource:
    listed = [dict(zip(("system", "code", "display"), coding, strict=False)) for coding in codings]
    return {"coding": listed} | ({"text": text} if text else {})


def mmhg(value: float, *codings: Any, text: str | None = None, **more: Any) -> Resource:
    quantity = {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
    return {"code": concept(*codings, text=text), "valueQuantity": quantity, **more}


SYSTOLIC, DIASTOLIC, MEAN = (LOINC, "8480-6"), (LOINC, "8462-4"), (LOINC, "8478-0")


def single(value: float, *codings: Any, text: str | None = None, **more: Any) -> Resource:
    return no_value(**more) | mmhg(value, *codings, text=text)


def panel(*components: Resource, code: Resource | None = None, **more: Any) -> Resource:
    return no_value(component=list(components), **more) | {"code": code or concept((LOINC, "85354-9"))}


def site(code: str, text: str | None = None) -> Resource:
    return concept((SNOMED, code), text=text)


OTHER_PRESSURES = [
    ("pulmonary artery, second", single(35, SYSTOLIC, (LOINC, "8440-0")), "systolic_bp", "codes-disagree"),
    ("pulmonary artery, first", single(35, (LOINC, "8440-0"), SYSTOLIC), "systolic_bp", "codes-disagree"),
    ("left ventricle", single(35, SYSTOLIC, (LOINC, "8430-1")), "systolic_bp", "codes-disagree"),
    ("right atrium, mean", single(35, MEAN, (LOINC, "8400-4")), "mean_bp", "codes-disagree"),
    ("central venous", single(12, MEAN, (LOINC, "60985-9")), "mean_bp", "codes-disagree"),
    ("central venous in SNOMED CT", single(12, MEAN, (SNOMED, "71420008")), "mean_bp", "codes-disagree"),
    ("a LOINC code nobody knows", single(35, SYSTOLIC, (LOINC, "99999-9")), "systolic_bp", "codes-disagree"),
    ("by its text", single(35, SYSTOLIC, text="PA pressure, pulmonary artery"), "systolic_bp", "codes-disagree"),
    ("by a local display", single(35, SYSTOLIC, ("urn:x", "1", "RV systolic, right ventricle")), "systolic_bp",
     "codes-disagree"),
    ("in German", single(35, SYSTOLIC, text="Pulmonalarterieller Druck systolisch"), "systolic_bp", "codes-disagree"),
    ("at the pulmonary artery", single(35, SYSTOLIC, bodySite=site("81040000")), "systolic_bp", "body-site-conflict"),
    ("at the right atrium", single(25, MEAN, bodySite=site("73829009")), "mean_bp", "body-site-conflict"),
    ("at a site in words", single(35, SYSTOLIC, bodySite={"text": "Left ventricle"}), "systolic_bp",
     "body-site-conflict"),
    ("component of two codes", panel(mmhg(35, SYSTOLIC, (LOINC, "8440-0")), mmhg(15, DIASTOLIC)), "systolic_bp",
     "codes-disagree"),
    ("panel by its text", panel(mmhg(35, SYSTOLIC), code=concept(text="Pulmonary artery pressure")), "systolic_bp",
     "codes-disagree"),
    ("panel by its site", panel(mmhg(35, SYSTOLIC), bodySite=site("81040000")), "systolic_bp", "body-site-conflict"),
]  # fmt: skip


@pytest.mark.parametrize(("observed", "name", "reason"), [row[1:] for row in OTHER_PRESSURES],
                         ids=[row[0] for row in OTHER_PRESSURES])  # fmt: skip
def test_what_narrows_a_pressure_is_part_of_it(observed: Resource, name: str, reason: str) -> None:
    """A pulmonary artery pressure of 35 scored as a systolic blood pressure."""
    found = record(observed)
    assert found.features().unknown[f"{name}.last"] == reason
    assert (observed["id"], reason, name) in {(r.source.partition("/")[2], r.reason, r.detail) for r in found.refused}


@pytest.mark.parametrize(
    "observed",
    [
        single(125, SYSTOLIC, (SNOMED, "271649006")),
        single(125, ("urn:acme", "bp-s", "Systolic Blood pressure"), SYSTOLIC),
        single(125, SYSTOLIC, (LOINC, "8459-0")),
        single(125, SYSTOLIC, (LOINC, "85354-9")),
        single(125, SYSTOLIC, bodySite=site("368209003", "Right arm")),
        single(125, SYSTOLIC, bodySite=site("17137000")),
        single(125, SYSTOLIC, bodySite={"extension": []}),
        single(125, SYSTOLIC, text="Blood pressure, left arm, sitting"),
        single(125, (SNOMED, "72313002")),
        panel(mmhg(125, SYSTOLIC), mmhg(70, DIASTOLIC), bodySite=site("368209003")),
        panel(mmhg(125, (SNOMED, "271649006")), mmhg(70, (SNOMED, "271650006"))),
        panel(mmhg(125, SYSTOLIC), mmhg(70, DIASTOLIC), code=concept((SNOMED, "75367002", "Blood pressure"))),
    ],
)
def test_a_pressure_of_the_arm_is_read(observed: Resource) -> None:
    assert record(observed).features().number("systolic_bp.last") == 125


def coded(
    code: str, value: float, unit: str, *beside: tuple[str, str], text: str | None = None, **more: Any
) -> Resource:
    return observation(code, value, unit, **more) | {"code": concept((LOINC, code), *beside, text=text)}


@pytest.mark.parametrize(
    ("observed", "name", "reason"),
    [
        (coded("2345-7", 60, "mg/dL", text="Glucose, CSF"), "glucose", "specimen-conflict"),
        (coded("2951-2", 40, "mmol/L", ("urn:lab", "UNA"), text="Sodium, urine"), "sodium", "specimen-conflict"),
        (coded("2703-7", 40, "mm[Hg]", text="Venous oxygen tension"), "pao2", "codes-disagree"),
        (coded("8867-4", 140, "/min", text="Fetal heart rate"), "heart_rate", "codes-disagree"),
        (coded("29463-7", 3.2, "kg", (LOINC, "8339-4")), "weight", "codes-disagree"),
        (coded("718-7", 6, "g/dL", text="Hemoglobin A1c"), "hemoglobin", "codes-disagree"),
        (coded("8310-5", 40, "Cel", (LOINC, "60955-2")), "temperature", "codes-disagree"),
    ],
)
def test_what_narrows_any_other_value_is_part_of_it(observed: Resource, name: str, reason: str) -> None:
    assert record(observed).features().unknown[f"{name}.last"] == reason


@pytest.mark.parametrize(
    ("observed", "name", "value"),
    [
        (coded("2951-2", 140, "mmol/L", text="Sodium, serum"), "sodium.last", 140),
        (coded("8310-5", 38, "Cel", (LOINC, "8329-5")), "temperature.last", 38),
        (coded("2708-6", 97, "%", (LOINC, "59408-5")), "spo2.last", 97),
        (coded("2703-7", 90, "mm[Hg]", text="Arterial pO2"), "pao2.last", 90),
        (observation("35088-4", 13, "{score}"), "gcs.last", 13),
        (observation("14933-6", 360, "umol/L"), "uric_acid.last", 6.05196),
        (observation("14771-0", 5.5, "mmol/L"), "glucose.last", 99.0858),
        (observation("14629-0", 5, "umol/L"), "bilirubin_direct.last", 0.292398),
        (observation("39469-2", 3, "mmol/L"), "ldl.last", 116.01),
        (observation("6690-2", 12.4, "/nL"), "wbc.last", 12.4),
        (observation("6690-2", 12.4, "Gpt/l"), "wbc.last", 12.4),
        (observation("6690-2", 12.4, "E9/L"), "wbc.last", 12.4),
        (observation("3016-3", 2.5, "mU/L"), "tsh.last", 2.5),
        (observation("33914-3", 60, "mL/min/1,73 m²"), "egfr.last", 60),
        (observation("4537-7", 20, "mm/1h"), "esr.last", 20),
        (observation("1742-6", 1, "ukat/L"), "alt.last", 60),
        (observation("9269-2", 14, "{scale}"), "gcs.last", 14),
        (observation("6301-6", 1.3, "{INRratio}"), "inr.last", 1.3),
        (observation("2744-1", 7.4, "{pHunits}"), "ph.last", 7.4),
        (no_value() | {"code": concept(("urn:oid:1.2.208.176.2.1", "NPU18016")), "valueQuantity": {"value": 88.4}},
         "creatinine.last", 1.0),
        (no_value() | {"code": concept((SNOMED, "86290005")), "valueQuantity": {"value": 18, "unit": "breaths/min"}},
         "respiratory_rate.last", 18),
    ],
)  # fmt: skip
def test_codes_and_units_of_other_countries(observed: Resource, name: str, value: float) -> None:
    assert record(observed).features().number(name) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("observed", "name", "reason"),
    [
        (observation("6690-2", 12.4, "{cells}"), "wbc", "unit-not-understood"),
        (observation("8867-4", 80, "{beats}"), "heart_rate", "unit-not-understood"),
        (observation("83064-6", 0.3, "mmol/L"), "ionized_calcium", "none-found"),  # of the circuit, not of the patient
        (observation("22700-9", 200, "mmol/L"), "bun", "none-found"),  # of urine
        (observation("20563-3", 2, "%"), "hemoglobin", "none-found"),  # carboxyhaemoglobin
    ],
)
def test_what_looks_like_a_value_and_is_none(observed: Resource, name: str, reason: str) -> None:
    assert record(observed).features().unknown[f"{name}.last"] == reason


LOCAL = ("urn:acme", "bp-s")
UNREAD_PANELS = [
    ("local codes", panel(mmhg(118, LOCAL), mmhg(74, ("urn:acme", "bp-d"))), "code-not-mapped"),
    ("one local code", panel(mmhg(118, SYSTOLIC), mmhg(74, ("urn:acme", "bp-d"))), "code-not-mapped"),
    ("a string", panel(valueString="118/74"), "value-not-a-number"),
    ("a string with its unit", panel(valueString="118/74 mmHg"), "value-not-a-number"),
    ("absent", panel(dataAbsentReason={"text": "refused"}), "data-absent"),
    ("nothing", panel(), "no-value"),
    ("in error", panel(valueString="118/74", status="entered-in-error"), "status-entered-in-error"),
    ("in SNOMED CT", panel(valueString="118/74", code=concept((SNOMED, "75367002"))), "value-not-a-number"),
]


@pytest.mark.parametrize(
    ("observed", "reason"), [row[1:] for row in UNREAD_PANELS], ids=[row[0] for row in UNREAD_PANELS]
)
def test_a_panel_that_cannot_be_read_is_refused(observed: Resource, reason: str) -> None:
    found = record(observed)
    assert found.features().unknown["diastolic_bp.last"] == reason
    assert ("Observation/o", reason, "diastolic_bp") in {(r.source, r.reason, r.detail) for r in found.refused}


def test_members_of_a_panel_are_read_from_their_own_observations() -> None:
    listed = panel(hasMember=[{"reference": "Observation/s"}])
    found = record(listed, single(118, SYSTOLIC, id="s"), single(74, DIASTOLIC, id="d"))
    assert (found.features().number("systolic_bp.last"), found.features().number("diastolic_bp.last")) == (118, 74)
    assert not found.refused


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([single(118, LOCAL, id="s")], "code-not-mapped"),
        ([], "not-fetched"),
        ([single(118, SYSTOLIC, id="s", status="entered-in-error")], "status-entered-in-error"),
    ],
)
def test_a_panel_of_unreadable_members_is_refused(members: list[Resource], reason: str) -> None:
    found = record(panel(hasMember=[{"reference": "Observation/s"}]), *members).features()
    assert found.unknown["systolic_bp.last"] == reason


AVPU = concept((LOINC, "67775-7"))


def level(code: Resource = AVPU, **value: Any) -> Resource:
    return no_value() | {"code": code, **value}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (level(valueCodeableConcept={"text": "Voice"}), "voice"),
        (level(valueCodeableConcept=concept((SNOMED, "300202002"))), "voice"),
        (level(valueCodeableConcept=concept(("urn:x", "3"), (LOINC, "LA9340-6"))), "alert"),
        (level(valueCodeableConcept=concept(("urn:x", "3", "Responds to pain"))), "pain"),
        (level(valueString="U"), "unresponsive"),
        (level(valueString=" alert "), "alert"),
        (level(valueString="V - Voice"), "voice"),
        (level(concept((SNOMED, "1104441000000107")), valueCodeableConcept={"text": "New confusion"}), "confusion"),
        (level(concept(("urn:x", "1"), (LOINC, "80288-4")), valueString="Unresponsive"), "unresponsive"),
    ],
)
def test_consciousness_is_read_from_codes_and_standard_words(observed: Resource, expected: str) -> None:
    assert record(observed).features().word("consciousness.last") == expected


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (level(valueCodeableConcept={"text": "drowsy"}), "code-not-understood"),
        (level(valueCodeableConcept=concept(("urn:x", "3"))), "code-not-understood"),
        (level(valueCodeableConcept=concept((LOINC, "LA9340-6"), (LOINC, "LA9343-0"))), "codes-disagree"),
        (level(valueString="V - Pain"), "code-not-understood"),
        (level(dataAbsentReason={"text": "asleep"}), "data-absent"),
        (level(dataAbsentReason={"text": "asleep"}, valueString="Alert"), "value-and-absent-reason"),
        (level(), "no-value"),
        (level(valueString="Alert", status="entered-in-error"), "status-entered-in-error"),
        (level(valueString="Alert", effectiveDateTime=None), "no-time"),
    ],
)
def test_consciousness_that_cannot_be_read_is_refused(observed: Resource, reason: str) -> None:
    found = record(observed)
    assert found.features().unknown["consciousness.last"] == reason
    assert ("Observation/o", reason, "consciousness") in {(r.source, r.reason, r.detail) for r in found.refused}


UNDATED = {"effectiveDateTime": None}


def lab_report(**more: Any) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "subject": SUBJECT,
        "code": {"text": "Electrolytes"},
        "result": [{"reference": "Observation/o"}],
        **more,
    }


def specimen(**collection: Any) -> Resource:
    return {"resourceType": "Specimen", "id": "s", "subject": SUBJECT, "collection": collection}


DRAWN = observation(**UNDATED, specimen={"reference": "Specimen/s"})


@pytest.mark.parametrize(
    ("resources", "time"),
    [
        ([observation(**UNDATED), lab_report(effectiveDateTime="2024-05-02T07:30:00Z")], "2024-05-02T07:30:00+00:00"),
        ([observation(**UNDATED), lab_report(issued="2024-05-02T09:00:00Z")], "2024-05-02T09:00:00+00:00"),
        ([DRAWN, specimen(collectedDateTime="2024-05-02T06:00:00Z")], "2024-05-02T06:00:00+00:00"),
        ([DRAWN, specimen(collectedPeriod={"start": "2024-05-02T06:00:00Z", "end": "2024-05-02T06:05:00Z"})],
         "2024-05-02T06:05:00+00:00"),
        ([observation(**UNDATED), panel(id="g", code=concept((LOINC, "24321-2")), hasMember=[{"reference": "Observation/o"}],
                                        effectiveDateTime="2024-05-02T05:00:00Z")], "2024-05-02T05:00:00+00:00"),
        ([observation(effectiveDateTime="2024-05-02T01:00:00Z"), lab_report(effectiveDateTime="2024-05-02T07:30:00Z")],
         "2024-05-02T01:00:00+00:00"),
    ],
)  # fmt: skip
def test_a_result_has_the_time_of_its_report_or_specimen(resources: list[Resource], time: str) -> None:
    found = record(*resources).features().values["sodium.last"]
    assert found.time is not None
    assert found.time.isoformat() == time


@pytest.mark.parametrize(
    "later",
    [
        lab_report(effectiveDateTime="2024-05-02T07:30:00Z", issued="2024-06-02T07:30:00Z"),
        lab_report(effectiveDateTime="2024-06-02T07:30:00Z"),
        lab_report(effectiveDateTime="2024-05-02T07:30:00Z", status="entered-in-error"),
    ],
)
def test_a_report_not_known_yet_dates_nothing(later: Resource) -> None:
    assert "sodium.last" in record(observation(**UNDATED), later).features().unknown


def condition(code: Resource, **more: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": "c",
        "subject": SUBJECT,
        "code": code,
        "recordedDate": "2020-01-01",
        **more,
    }


def statement(code: Resource) -> Resource:
    return {
        "resourceType": "MedicationStatement", "id": "m", "status": "active", "subject": SUBJECT,
        "medicationCodeableConcept": code, "effectiveDateTime": "2024-05-01",
    }  # fmt: skip


IPS = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"
REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (concept((SNOMED, "160245001")), "stated-none"),
        (concept((IPS, "no-known-problems")), "stated-none"),
        ({"text": "No known problems"}, "stated-none"),
        (concept(("http://terminology.hl7.org/CodeSystem/list-empty-reason", "nilknown")), "stated-none"),
        (concept(("http://terminology.hl7.org/CodeSystem/list-empty-reason", "notasked")), "no-information"),
        ({"text": "No current problems or disability"}, "stated-none"),
        ({"text": "None"}, "stated-none"),
        (concept((IPS, "no-problem-info")), "no-information"),
        (concept((REASON, "unknown")), "no-information"),
        (concept(("http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "NI")), "no-information"),
        (ABSENT, "no-information"),
    ],
)
def test_a_statement_of_absence_is_no_condition(code: Resource, reason: str) -> None:
    found = record(condition(code))
    assert [refusal.reason for refusal in found.refused] == [reason]
    if reason == "stated-none":
        assert found.features().number("condition.count") == 0
    else:
        assert found.features().unknown["condition.count"] == "not-fetched"
        assert found.features().unknown["comorbidity_charlson_dementia.last"] == "not-fetched"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (concept((IPS, "no-known-medications", "No known medications")), 0),
        (concept((SNOMED, "787481004")), 0),
        ({"text": "No medications"}, 0),
        ({"text": "Patient takes no medication"}, 0),
        (concept((IPS, "no-medication-info")), None),
        ({"text": "Information not available"}, None),
        ({"text": "Noradrenaline"}, 1),
        ({"text": "Nilotinib"}, 1),
    ],
)
def test_a_statement_of_absence_is_no_drug(code: Resource, count: float | None) -> None:
    assert record(statement(code)).features().number("medication.count") == count


def test_nothing_known_takes_nothing_from_what_is_listed() -> None:
    found = record(condition(concept((IPS, "no-problem-info"))), condition({"text": "Asthma"}, id="d")).features()
    assert found.number("condition.count") == 1


NOREPINEPHRINE = concept(("http://www.nlm.nih.gov/research/umls/rxnorm", "7512", "norepinephrine"))


def given(hours_ago: float, hours: float | None = None, code: Resource = NOREPINEPHRINE, **more: Any) -> Resource:
    start = AT - timedelta(hours=hours_ago)
    period: Resource = {"start": start.isoformat()}
    if hours is not None:
        period["end"] = (start + timedelta(hours=hours)).isoformat()
    return {
        "resourceType": "MedicationAdministration", "id": "a", "status": "in-progress", "subject": SUBJECT,
        "medicationCodeableConcept": code, "effectivePeriod": period, **more,
    }  # fmt: skip


VANCOMYCIN = concept(("http://www.nlm.nih.gov/research/umls/rxnorm", "11124", "vancomycin"))


@pytest.mark.parametrize(
    ("administration", "vasopressor", "antibiotic", "count"),
    [
        (given(4), 1, 0, 1),  # runs without an end
        (given(4, effectivePeriod=None, effectiveDateTime="2024-05-03T08:00:00Z"), 1, 0, 1),
        (given(4, 10, status="completed"), 1, 0, 1),  # its end was later: status of today
        (given(4, 3.5, status="completed"), 1, 0, 1),  # ended half an hour ago: a change of rate
        (given(20, 10, status="completed"), 0, 0, 1),  # weaned
        (given(20, 1, VANCOMYCIN, status="completed"), 0, 1, 1),
        (given(60, 1, VANCOMYCIN, status="completed"), 0, 0, 0),
        (given(4, status="not-done"), 0, 0, 0),
        (given(4, status="entered-in-error"), 0, 0, 0),
    ],
)
def test_what_is_given_is_in_use(administration: Resource, vasopressor: float, antibiotic: float, count: float) -> None:
    found = record(administration).features()
    assert found.number("medication_vasopressor.last") == vasopressor
    assert found.number("medication_antibiotic.last") == antibiotic
    assert found.number("medication.count") == count


def test_a_drug_ordered_and_given_counts_once() -> None:
    order = {
        "resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", "subject": SUBJECT,
        "authoredOn": "2024-05-01", "medicationCodeableConcept": {"text": "Norepinephrine 8 mg in 250 mL"},
    }  # fmt: skip
    carried_out = given(4, request={"reference": "MedicationRequest/m"})
    assert record(order, carried_out).features().number("medication.count") == 1
    assert record(order, given(4)).features().number("medication.count") == 2


def test_meds_events_of_local_codes_have_canonical_units() -> None:
    """The export matched untranslated codes, so values in local codes kept the unit they were charted in."""
    creatinine = {"coding": [{"system": "http://npu-terminology.org", "code": "NPU18016"}]}
    found = PatientRecord.from_resources(
        [
            {"resourceType": "Patient", "id": "p"},
            no_value() | {"code": creatinine, "valueQuantity": {"value": 88.4, "unit": "umol/L"}},
        ],
        prediction_time=AT,
    )
    assert [(row["code"], row["numeric_value"]) for row in found.to_meds() if row["numeric_value"]] == [
        ("LOINC//2160-0//mg/dL", pytest.approx(1.0, rel=1e-3))
    ]
