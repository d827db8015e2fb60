"""Each element, word and edge that the mapping reads, one at a time: one that is no longer read shows here."""

from __future__ import annotations

import copy
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.core import parse_instant, whole_years
from fhir_mapping.record import is_pregnant
from fhir_mapping.record.drugs_in_use import drugs_in_use
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, no_value, observation, record

Resource = dict[str, Any]
MINE: Resource = {"subject": {"reference": "Patient/p"}}
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
HEART_FAILURE = {"code": {"coding": [{"system": ICD, "code": "I50.9"}]}}
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ASPIRIN = {"medicationCodeableConcept": {"coding": [{"system": RXNORM, "code": "1191"}], "text": "aspirin"}}
BEFORE, AFTER = "2024-05-02T00:00:00Z", "2024-05-20T00:00:00Z"

DATED = [
    ("Condition", HEART_FAILURE, "condition.count", ["recordedDate", "assertedDate", "onsetDateTime", "onsetPeriod"]),
    ("MedicationRequest", {"status": "active", "intent": "order"} | ASPIRIN, "medication.count", ["authoredOn"]),
    ("MedicationStatement", {"status": "active"} | ASPIRIN, "medication.count",
     ["effectiveDateTime", "effectivePeriod", "dateAsserted"]),
    ("Observation", {}, "sodium.last", ["issued", "effectiveDateTime", "effectiveInstant", "effectivePeriod"]),
]  # fmt: skip


def dated(kind: str, body: Resource, element: str, at: str) -> Resource:
    found = {"resourceType": kind, "id": "x"} | MINE | body
    if kind == "Observation":
        found = {k: v for k, v in observation(id="x").items() if k != "effectiveDateTime"}
    period = {"start": at} | ({} if kind == "MedicationStatement" else {"end": at})  # still taken
    return found | {element: period if element.endswith("Period") else at}


@pytest.mark.parametrize(
    ("kind", "body", "feature", "element"), [(k, b, f, e) for k, b, f, elements in DATED for e in elements]
)
def test_each_element_that_dates_a_resource(kind: str, body: Resource, feature: str, element: str) -> None:
    """Dated before the prediction time a resource is known, dated after it the record knows nothing of it."""
    nothing = record().features().number(feature)
    known = record(dated(kind, body, element, BEFORE))
    later = record(dated(kind, body, element, AFTER))
    source = f"{kind}/x"
    assert any(source in value.sources for value in known.features().values.values()), element
    assert not any(source in value.sources for value in later.features().values.values()), element
    assert later.features().number(feature) == nothing
    # Without a time given, the newest of the data is the time of the record.
    resources = [copy.deepcopy(PATIENT), dated(kind, body, element, AFTER)]
    newest = PatientRecord.from_json(b"\n".join(map(orjson.dumps, resources))).prediction_time
    expected = element not in {"assertedDate", "dateAsserted", "onsetPeriod"}
    assert (newest == datetime(2024, 5, 20, tzinfo=UTC)) is expected


def test_without_anything_dated_the_time_of_a_record_is_the_birth() -> None:
    found = PatientRecord.from_json(orjson.dumps(PATIENT)).prediction_time
    assert found.date() == datetime(1950, 2, 3, tzinfo=UTC).date()


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error", "planned", "discontinued"])
def test_an_encounter_that_never_was_is_no_stay(status: str) -> None:
    found = PatientRecord.from_resources([PATIENT, STAY | {"status": status}], prediction_time=AT)
    assert found.stays == ()
    assert found.current_stay is None


@pytest.mark.parametrize("status", ["finished", "completed", "discharged"])
def test_an_encounter_that_is_over_without_an_end_has_no_length(status: str) -> None:
    found = PatientRecord.from_resources([PATIENT, STAY | {"status": status}], prediction_time=AT)
    assert [stay.length_unknown for stay in found.stays] == ["no-end"]


@pytest.mark.parametrize(
    ("status", "reason"), [("in-progress", "no-start"), ("finished", "no-stay")]
)  # fmt: skip
def test_an_encounter_without_a_start_leaves_open_whether_there_is_a_stay(status: str, reason: str) -> None:
    undated = {k: v for k, v in STAY.items() if k != "period"} | {"status": status}
    found = PatientRecord.from_resources([PATIENT, undated], prediction_time=AT)
    assert (found.current_stay, found.no_stay) == (None, reason)
    named = PatientRecord.from_resources([PATIENT, undated], prediction_time=AT, encounter_id="stay")
    assert (named.current_stay, named.no_stay) == (None, "no-start")


DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"


@pytest.mark.parametrize(
    ("code", "category"),
    [("exp", "died"), ("aadvice", "against_advice"), ("hosp", "hospice"), ("other-hcf", "transfer"), ("psy", "psychiatric"),
     ("snf", "facility"), ("rehab", "facility"), ("long", "facility"), ("alt-home", "home"), ("home", "home")],
)  # fmt: skip
def test_each_discharge_disposition_of_hl7(code: str, category: str) -> None:
    ended = STAY | {
        "status": "finished",
        "period": STAY["period"] | {"end": "2024-05-03T08:00:00Z"},
        "hospitalization": {"dischargeDisposition": {"coding": [{"system": DISPOSITION, "code": code}]}},
    }
    found = PatientRecord.from_resources([PATIENT, ended], prediction_time=AT, encounter_id="stay")
    assert found.features().word("discharge_disposition.last") == category


@pytest.mark.parametrize(
    ("code", "counts"),
    [("I50.9", True)] + [(f"{prefix}.0", False) for prefix in ("Z03", "Z04", "Z11", "Z12", "Z13", "Z20", "Z80", "Z81", "Z82", "Z83", "Z84")],
)  # fmt: skip
def test_suspicions_contacts_screenings_and_relatives_are_no_problems(code: str, counts: bool) -> None:
    problem = {"resourceType": "Condition", "id": "c", "code": {"coding": [{"system": ICD, "code": code}]}} | MINE
    assert record(problem).features().number("condition.count") == float(counts)


@pytest.mark.parametrize(("code", "pregnant"), [("O09.90", True), ("Z33.1", True), ("I50.9", False)])
def test_a_pregnancy_is_found_by_its_code(code: str, pregnant: bool) -> None:
    problem = {"resourceType": "Condition", "id": "c", "code": {"coding": [{"system": ICD, "code": code}]}} | MINE
    assert is_pregnant(record(problem)) is pregnant
    assert is_pregnant(record()) is False


@pytest.mark.parametrize(
    ("specimen", "read"),
    [("122555007", True), ("122552005", True), ("122554006", True), ("119297000", True), ("122575003", False), (None, True)],
)  # fmt: skip
def test_each_specimen_that_fits_a_blood_value(specimen: str | None, read: bool) -> None:
    """Venous, arterial, capillary, blood; urine is none, and without a specimen the code says what it is."""
    sample = {"resourceType": "Specimen", "id": "s", "subject": MINE["subject"],
              "type": {"coding": [{"system": "http://snomed.info/sct", "code": specimen}]}}  # fmt: skip
    more = {} if specimen is None else {"specimen": {"reference": "Specimen/s"}}
    found = record(observation("2160-0", 1.1, "mg/dL", **more), *([sample] if specimen else []))
    assert (found.features().number("creatinine.last") is not None) is read


@pytest.mark.parametrize("first", ["preliminary", "final", "amended", "corrected"])
@pytest.mark.parametrize("second", ["preliminary", "final", "amended", "corrected"])
def test_of_two_values_of_one_time_the_later_status_is_used(first: str, second: str) -> None:
    rank = {"preliminary": 0, "final": 1, "amended": 2, "corrected": 2}
    found = record(observation(value=141, status=first, id="a"), observation(value=132, status=second, id="b"))
    used = found.features().number("sodium.last")
    if rank[first] != rank[second]:
        assert used == (141 if rank[first] > rank[second] else 132)
        assert "later-status-won" in {refusal.reason for refusal in found.refused}
    else:
        assert used in {141, 132}
        assert "same-time-other-value" in {refusal.reason for refusal in found.refused}


@pytest.mark.parametrize(("limit", "scores"), [(16, "NEWS2"), (18, "adults"), (40, "SAPS II"), (50, "Charlson"), (60, "both"),
                                               (70, "both"), (75, "SAPS II"), (80, "both")])  # fmt: skip
def test_a_year_of_birth_gives_an_age_only_within_one_band(limit: int, scores: str) -> None:
    """At AT, 3 May 2024, those born in 2024 - n are n - 1 or n: unknown where a band begins at n."""
    ages = {}
    for years in (limit - 1, limit, limit + 1):
        person = PATIENT | {"birthDate": str(AT.year - years)}
        ages[years] = PatientRecord.from_resources([person, STAY], prediction_time=AT).features().number("age.last")
    assert ages[limit] is None, scores
    assert ages[limit - 1] == limit - 2
    assert ages[limit + 1] == limit


def dose(hours: float, **more: Any) -> Resource:
    at = (AT - timedelta(hours=hours)).isoformat()
    return (
        {"resourceType": "MedicationAdministration", "id": "g", "status": "completed", "effectiveDateTime": at}
        | MINE
        | ASPIRIN
        | more
    )


@pytest.mark.parametrize(
    ("hours", "in_use", "continues"),
    [(0.9, 1, True), (1, 1, True), (1.01, 1, False), (24, 1, False), (24.01, 0, None)],
)
def test_a_dose_counts_for_a_day_and_runs_on_for_an_hour(hours: float, in_use: int, continues: bool | None) -> None:
    found = drugs_in_use(record(dose(hours)))
    assert len(found) == in_use
    assert not found or found[0].continues is continues
    other = dose(0.5) | {"id": "h", "medicationCodeableConcept": {"text": "heparin"}}
    assert [drug.text for drug in drugs_in_use(record(dose(2), other))] == ["heparin", "aspirin"]


def test_a_note_says_all_of_itself_in_json() -> None:
    text = "History:\nCOPD.\nPlan:\nHome."
    document = {
        "resourceType": "DocumentReference", "id": "n", "status": "current", "docStatus": "preliminary", "date": BEFORE,
        "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}], "text": "Discharge summary"}, **MINE,
        "content": [{"attachment": {"contentType": "text/plain", "data": b64encode(text.encode()).decode()}}],
    }  # fmt: skip
    (note,) = record(document).notes()
    found = note.to_json()
    assert set(found) == {
        "id", "type", "time", "text", "sections", "source", "status", "author_role", "original_format", "reason", "kind",
        "other_sources", "copied", "preliminary", "language",
    }  # fmt: skip
    assert (found["id"], found["source"], found["text"], found["preliminary"]) == (
        note.id,
        "DocumentReference/n",
        text,
        True,
    )
    assert found["time"] == "2024-05-02T00:00:00+00:00"
    assert found["type"] == note.type
    assert [section["name"] for section in found["sections"]] == [section.name for section in note.sections]
    assert all(text[s["start"] : s["end"]] for s in found["sections"])


@pytest.mark.parametrize("extra", ["valueString", "valueInteger", "valueBoolean"])
def test_two_values_of_a_level_of_consciousness_are_none(extra: str) -> None:
    seen = no_value(code="67775-7", valueCodeableConcept={"text": "alert"}) | {
        extra: {"valueString": "alert"}.get(extra, 1)
    }
    found = record(seen)
    assert found.consciousness is None
    assert "several-values" in {refusal.reason for refusal in found.refused}


WORDS = {
    "alert": ["a", "Alert", "fully alert"], "confusion": ["C", "confused", "new confusion", "acute confusion"],
    "voice": ["V", "verbal", "responds to voice", "reacts to voice", "Responds to voice (finding)"],
    "pain": ["P", "painful stimuli", "responds to pain", "reacts to pain", "P - Pain"],
    "unresponsive": ["U", "unresponsive", "unconscious", "No response."],
}  # fmt: skip


@pytest.mark.parametrize(("word", "level"), [(word, level) for level, words in WORDS.items() for word in words])
def test_words_of_the_level_of_consciousness(word: str, level: str) -> None:
    for value in ({"valueString": word}, {"valueCodeableConcept": {"text": word}}):
        found = record(no_value(code="67775-7", **value)).consciousness
        assert found is not None, value
        assert found[0] == level
    assert record(no_value(code="67775-7", valueString=f"not {word}")).consciousness is None


@pytest.mark.parametrize("sex", ["female", "male", "other"])
def test_each_administrative_gender_is_known(sex: str) -> None:
    found = PatientRecord.from_resources([PATIENT | {"gender": sex}, STAY], prediction_time=AT)
    assert found.sex == sex
    unknown = PatientRecord.from_resources([PATIENT | {"gender": "unknown"}, STAY], prediction_time=AT)
    assert unknown.sex is None


def test_a_leap_second_is_the_end_of_its_minute() -> None:
    seen = observation(effectiveDateTime="2016-12-31T23:59:60Z")
    found = record(seen)
    assert [m.time for m in found.measurements] == [datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("birth", "years"), [("1950-02-03", 74), ("1950-05-04", 73), ("1950", None), ("2024-05-03", 0), ("2025", None)]
)
def test_completed_years_of_a_birth(birth: str, years: int | None) -> None:
    born = parse_instant(birth)
    assert born is not None
    assert whole_years(born, AT) == years


def test_a_refusal_says_its_detail_in_json() -> None:
    """Which concept was refused is named, and nothing stands where there is nothing to add."""
    found = record(observation(value=14000), {"resourceType": "Observation", "id": "bare", **MINE}).features().to_json()
    details = {refusal["source"]: refusal.get("detail") for refusal in found["refused"]}
    assert details["Observation/o"] == "sodium"
    assert {"source", "reason"} <= set(found["refused"][0])
    assert {value["unit"] for value in found["features"].values()} - {None}


def test_a_section_of_a_composition_keeps_its_code() -> None:
    composition = {
        "resourceType": "Composition", "id": "c", "status": "final", "date": BEFORE, **MINE, "title": "Summary",
        "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}]},
        "section": [{"title": "History", "code": {"coding": [{"system": "http://loinc.org", "code": "10164-2"}]},
                     "text": {"status": "generated", "div": "<div>COPD for years.</div>"}}],
    }  # fmt: skip
    (note,) = record(composition).notes()
    assert [section.get("code") for section in note.to_json()["sections"]] == [
        section.code for section in note.sections
    ]
    assert note.preliminary is False
