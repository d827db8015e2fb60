"""The temporal cutoff, case by case: resources of an encounter that had not ended are not known.

The bug: this cut was made for cohorts alone. A record as of 2 January held an active sepsis diagnosed in June's stay
where the Condition had no date, in `score --as-of`, `map --as-of`, bulk scoring, hooks, MEDS and the course of the app.
"""

from __future__ import annotations

import base64
import gc
from datetime import timedelta
from typing import Any

import orjson
import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.parsing.references import Directory
from fhir_mapping.record.cutoff import Cutoff, known_resources
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, Resource, observation

MINE: Resource = {"subject": {"reference": "Patient/p"}}
RUNNING: Resource = STAY | {"status": "finished", "period": STAY["period"] | {"end": "2024-05-09T08:00:00Z"}}
PAST: Resource = STAY | {
    "id": "past",
    "status": "finished",
    "period": {"start": "2024-01-01T08:00:00Z", "end": "2024-01-05T08:00:00Z"},
}
LATER: Resource = PAST | {"id": "later", "period": {"start": "2024-06-01T08:00:00Z", "end": "2024-06-05T08:00:00Z"}}
PART: Resource = PAST | {
    "id": "part",
    "partOf": {"reference": "Encounter/stay"},
    "period": {"start": "2024-05-01T10:00:00Z", "end": "2024-05-02T10:00:00Z"},
}
VISIT: Resource = PART | {"id": "visit", "class": {"code": "EMER"}}
SEPSIS: Resource = {"resourceType": "Condition", "id": "c", "code": {"text": "Sepsis"}, **MINE}
CODED = {"id": "c", "code": {"text": "Sepsis"}}


def within(identifier: str) -> Resource:
    return {"encounter": {"reference": f"Encounter/{identifier}"}}


def without_end(encounter: Resource) -> Resource:
    return encounter | {"status": "in-progress", "period": {"start": encounter["period"]["start"]}}


def build(*resources: Resource, **options: Any) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, *resources], prediction_time=AT, **options)


def cut(found: PatientRecord) -> list[str]:
    return [refusal.source for refusal in found.refused if refusal.reason == "encounter-not-over"]


TIED: list[tuple[str, list[Resource], Resource, bool]] = [
    ("no encounter at all", [], {}, True),
    ("an encounter that is over", [PAST], within("past"), True),
    ("an encounter that is not in the data", [], within("elsewhere"), True),
    ("a stay that ends later", [RUNNING], within("stay"), False),
    ("a stay without an end", [STAY], within("stay"), False),
    ("a stay not started", [LATER], within("later"), False),
    ("one stay over and one not", [PAST, LATER], {"encounter": [{"reference": "Encounter/past"}, {"reference": "Encounter/later"}]}, False),
    ("a part that is over of a stay that is not", [RUNNING, PART], within("part"), False),
    ("a part of a stay that is over", [PAST, PART | {"partOf": {"reference": "Encounter/past"}}], within("part"), True),
    ("the emergency visit before the stay", [RUNNING, VISIT], within("visit"), True),
    ("parts of each other", [PART | {"partOf": {"reference": "Encounter/part"}}], within("part"), True),
    ("a version of a later encounter", [LATER], {"encounter": {"reference": "Encounter/later/_history/3"}}, False),
    ("its absolute URL", [LATER], {"encounter": {"reference": "https://ehr.example/fhir/Encounter/later"}}, False),
    ("its urn", [LATER], {"encounter": {"reference": "urn:uuid:later"}}, False),
    ("a contained encounter", [], {"encounter": {"reference": "#e"}, "contained": [LATER | {"id": "e"}]}, False),
    ("context, as before R4", [LATER], {"context": {"reference": "Encounter/later"}}, False),
    ("named as a later diagnosis", [LATER | {"diagnosis": [{"condition": {"reference": "Condition/c"}}]}], {}, False),
    ("named as a later reason", [LATER | {"reasonReference": [{"reference": "Condition/c"}]}], {}, False),
    ("named in R5", [LATER | {"diagnosis": [{"condition": [{"reference": {"reference": "Condition/c"}}]}]}], {}, False),
    ("named as an R5 reason", [LATER | {"reason": [{"value": [{"reference": {"reference": "Condition/c"}}]}]}], {}, False),
    ("named in the running stay", [RUNNING | {"diagnosis": [{"condition": {"reference": "Condition/c"}}]}], {}, False),
    ("named before, and again later", [
        PAST | {"diagnosis": [{"condition": {"reference": "Condition/c"}}]},
        LATER | {"diagnosis": [{"condition": {"reference": "Condition/c"}}]},
    ], {}, True),
    ("recorded before, in a later stay", [LATER], within("later") | {"recordedDate": "2024-05-02"}, True),
    ("started before, in a later stay", [LATER], within("later") | {"onsetDateTime": "2020"}, False),
    ("started before, in a running stay", [RUNNING], within("stay") | {"onsetDateTime": "2020"}, True),
    ("recorded in a year that is not over, in a later stay", [LATER], within("later") | {"recordedDate": "2024"}, False),
    ("recorded in a year that is not over, in a running stay", [RUNNING], within("stay") | {"recordedDate": "2024"}, False),
    ("recorded today, in a running stay", [RUNNING], within("stay") | {"recordedDate": "2024-05-03"}, True),
    ("a date that is none, in a later stay", [LATER], within("later") | {"recordedDate": "in June"}, False),
    ("over and recorded later", [PAST], within("past") | {"recordedDate": "2024-06-01"}, False),
    ("started later, recorded before", [], {"onsetDateTime": "2024-06-01", "recordedDate": "2024-05-01"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "encounters", "change", "known"), TIED, ids=[row[0] for row in TIED])
def test_a_condition_is_known_when_its_encounters_have_ended(
    name: str, encounters: list[Resource], change: Resource, known: bool
) -> None:
    """Three constructors, one result. Removed resources are refused, unless they have a later date themselves."""
    resources = [PATIENT, *encounters, SEPSIS | change]
    lines = b"\n".join(orjson.dumps(resource) for resource in resources)
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}
    for found in (
        PatientRecord.from_resources(resources, "p", AT),
        PatientRecord.from_json(lines, "p", AT),
        PatientRecord.from_json(orjson.dumps(bundle), "p", AT),
    ):
        assert [condition.source for condition in found.conditions] == (["Condition/c"] if known else [])
        dated_later = "2024-06-01" in change.values()
        assert cut(found) == ([] if known or dated_later else ["Condition/c"])
    assert (SEPSIS | change in known_resources(resources, AT)) is known


def test_urns_in_a_bundle_resolve_to_encounters() -> None:
    entries = [
        {"fullUrl": "urn:uuid:00000000-0000-0000-0000-00000000000a", "resource": PATIENT},
        {"fullUrl": "urn:uuid:00000000-0000-0000-0000-00000000000b", "resource": LATER},
        {"resource": SEPSIS | {"encounter": {"reference": "urn:uuid:00000000-0000-0000-0000-00000000000b"}}},
    ]
    bundle = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    assert cut(PatientRecord.from_json(bundle, prediction_time=AT)) == ["Condition/c"]


LIVE: list[tuple[str, Resource, bool]] = [
    ("running, without an end", STAY, True),
    ("running, with a planned discharge", RUNNING, True),
    ("not started", LATER | {"id": "stay"}, False),
    ("not started, without an end", without_end(LATER) | {"id": "stay"}, False),
]


@pytest.mark.parametrize(("name", "encounter", "known"), LIVE, ids=[row[0] for row in LIVE])
def test_data_of_a_running_stay_fetched_now_are_known(name: str, encounter: Resource, known: bool) -> None:
    """If fetched at the prediction time; if fetched later, it is unknown when they were written."""
    chart = (encounter, SEPSIS | within("stay"))
    assert bool(build(*chart, undated_known=True).conditions) is known
    assert not build(*chart).conditions


def test_without_a_prediction_time_everything_in_the_data_is_known() -> None:
    resources = [PATIENT, PAST, STAY, observation(), SEPSIS | within("stay")]
    assert len(PatientRecord.from_resources(resources).conditions) == 1


def test_later_data_do_not_affect_an_open_stay() -> None:
    """Otherwise a record would reveal the future: here, that the patient lived to have a sodium measured."""
    later = observation(effectiveDateTime="2024-05-20T06:00:00Z")
    chart = (STAY, SEPSIS | within("stay"))
    assert build(*chart).features().values == build(*chart, later).features().values


def note(kind: str, **more: Any) -> Resource:
    attachment = {"contentType": "text/plain", "data": base64.b64encode(b"Died of sepsis").decode()}
    common = {"resourceType": kind, "id": "c", "type": {"text": "Summary"}, **MINE}
    if kind == "DocumentReference":
        return {"status": "current", "content": [{"attachment": attachment}], **common, **more}
    if kind == "DiagnosticReport":
        return {"status": "final", "code": {"text": "CT"}, "presentedForm": [attachment], **common, **more}
    section = {"title": "Course", "text": {"div": "<div>Died of sepsis</div>"}}
    return {"status": "final", "section": [section], **common, **more}


DRUG = {"medicationCodeableConcept": {"text": "Sepsis kit"}, **MINE}
OF_EVERY_TYPE: list[tuple[str, Resource]] = [
    ("Condition", SEPSIS),
    ("Procedure", {"resourceType": "Procedure", "status": "completed", **CODED, **MINE}),
    ("MedicationRequest", {"resourceType": "MedicationRequest", "id": "c", "status": "active", "intent": "order", **DRUG}),
    ("MedicationStatement", {"resourceType": "MedicationStatement", "id": "c", "status": "active", **DRUG}),
    ("MedicationAdministration", {"resourceType": "MedicationAdministration", "id": "c", "status": "completed", **DRUG}),
    ("Observation", {k: v for k, v in observation(id="c").items() if k != "effectiveDateTime"}),
    ("DocumentReference", note("DocumentReference")),
    ("DiagnosticReport", note("DiagnosticReport")),
    ("Composition", note("Composition")),
]  # fmt: skip
# The element that dates each type, and one that may be earlier.
DATED: list[tuple[str, Resource]] = [
    ("Condition", {"recordedDate": "2024-06-02", "onsetDateTime": "2020"}),
    ("Condition", {"assertedDate": "2024-06-02", "onsetDateTime": "2020"}),
    ("Condition", {"onsetPeriod": {"start": "2024-06-02"}}),
    ("Procedure", {"performedDateTime": "2024-06-02"}),
    ("Procedure", {"performedPeriod": {"start": "2024-06-02"}}),
    ("Procedure", {"occurrenceDateTime": "2024-06-02"}),
    ("MedicationRequest", {"authoredOn": "2024-06-02"}),
    ("MedicationStatement", {"effectivePeriod": {"start": "2020"}, "dateAsserted": "2024-06-02"}),
    ("MedicationStatement", {"effectiveDateTime": "2024-06-02"}),
    ("MedicationAdministration", {"effectiveDateTime": "2024-06-02"}),
    ("MedicationAdministration", {"effectivePeriod": {"start": "2024-06-02"}}),
    ("Observation", {"effectiveDateTime": "2024-06-02"}),
    ("Observation", {"effectiveDateTime": "2024-05-02", "issued": "2024-06-02T00:00:00Z"}),
    ("Observation", {"effectiveDateTime": "2024"}),
    ("Observation", {"effectivePeriod": {"start": "2024-05-01", "end": "2024-06-02"}}),
    ("DocumentReference", {"date": "2024-06-02"}),
    ("DocumentReference", {"content": [{"attachment": {"contentType": "text/plain", "data": "RGllZA==", "creation": "2024-06-02"}}]}),
    ("DocumentReference", {"context": {"period": {"start": "2024-05-01", "end": "2024-06-02"}}}),
    ("DiagnosticReport", {"effectiveDateTime": "2024-05-02", "issued": "2024-06-02T00:00:00Z"}),
    ("DiagnosticReport", {"effectivePeriod": {"start": "2024-05-02", "end": "2024-06-02"}}),
    ("Composition", {"date": "2024-06-02"}),
]  # fmt: skip
_OF = dict(OF_EVERY_TYPE)


def all_texts(found: PatientRecord) -> list[Any]:
    vector = found.features()
    values = {name: (v.value, v.sources) for name, v in vector.values.items()}
    texts = [values, vector.unknown, [n.text for n in found.notes()], found.to_markdown(), found.to_codes()]
    return [*texts, found.to_meds(), found.stays, found.deceased]


@pytest.mark.parametrize(("kind", "resource"), OF_EVERY_TYPE, ids=[row[0] for row in OF_EVERY_TYPE])
@pytest.mark.parametrize("encounter", ["stay", "later"])
def test_undated_resources_of_a_running_stay_are_refused(kind: str, resource: Resource, encounter: str) -> None:
    references = [within(encounter)]
    if kind == "DocumentReference":
        references = [{"encounter": [within(encounter)["encounter"]]}, {"context": {"encounter": [within(encounter)["encounter"]]}}]  # fmt: skip
    for reference in references:
        found = build(RUNNING, LATER, resource | reference)
        expected = all_texts(build(RUNNING, LATER))
        assert all_texts(found) == expected
        assert cut(found) == [f"{kind}/c"]


@pytest.mark.parametrize(("kind", "dates"), DATED, ids=[f"{kind} {', '.join(dates)}" for kind, dates in DATED])
def test_later_resources_are_neither_used_nor_refused(kind: str, dates: Resource) -> None:
    found = build(STAY, _OF[kind] | dates)
    assert all_texts(found) == all_texts(build(STAY))
    assert found.refused == ()


@pytest.mark.parametrize("kind", ["Condition", "Procedure", "MedicationRequest", "DocumentReference"])
def test_undated_resources_are_known_when_the_stay_has_ended(kind: str) -> None:
    resource = _OF[kind] | (within("past") if kind != "DocumentReference" else {"context": {"encounter": [within("past")["encounter"]]}})  # fmt: skip
    found = build(PAST, resource)
    assert cut(found) == []
    if kind == "DocumentReference":
        assert [r.reason for r in found.refused] == ["note-without-time"], "a note needs a time of its own"
    else:
        assert len((*found.conditions, *found.procedures, *found.medications)) == 1


def test_a_note_replaced_by_an_undated_later_one_is_read() -> None:
    old = note("DocumentReference", date="2024-05-02T08:00:00Z", id="old", status="superseded")
    relation = [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}]
    new = note("DocumentReference", id="new", relatesTo=relation, context={"encounter": [within("later")["encounter"]]})
    found = build(LATER, old, new)
    assert [n.source for n in found.notes()] == ["DocumentReference/old"]
    assert cut(found) == ["DocumentReference/new"]


def test_references_to_later_resources_do_not_resolve() -> None:
    """A stay's reason and a section's entry were resolved without the cutoff."""
    reason = RUNNING | {"reasonReference": [{"reference": "Condition/c"}]}
    allergy = {"resourceType": "AllergyIntolerance", "id": "a", "code": {"text": "Sepsis"}, "patient": MINE["subject"]}
    section = {"title": "Problems", "entry": [{"reference": "Condition/c"}, {"reference": "AllergyIntolerance/a"}]}
    summary = note("Composition", date="2024-05-02T08:00:00Z", section=[section], id="s")
    for change in ({"recordedDate": "2024-06-02"}, within("later")):
        found = build(reason, LATER, SEPSIS | change, allergy | change, summary)
        assert found.current_stay is not None
        assert found.current_stay.reason_texts == ()
        assert "Sepsis" not in found.notes()[0].text
    known = build(reason, PAST, SEPSIS | within("past"), allergy | within("past"), summary)
    assert known.current_stay is not None
    assert known.current_stay.reason_texts == ("Sepsis",)
    assert known.notes()[0].text.count("Sepsis") == 2


def test_later_data_do_not_affect_reasons_for_unknown_features() -> None:
    """Local codes, conflicting codes and modifiers of later values gave reasons for unknown features."""
    local = {"coding": [{"system": "urn:local", "code": "NA"}]}
    both = {"coding": [{"system": "http://loinc.org", "code": code} for code in ("2951-2", "2823-3")]}
    for change in ({"code": local}, {"code": both}, {"modifierExtension": [{"url": "x"}]}, {"status": "cancelled"}):
        found = build(STAY, observation(effectiveDateTime="2024-06-02T06:00:00Z") | change)
        assert found.features().unknown == build(STAY).features().unknown
        assert found.refused == ()


def test_discharge_documents_are_not_known_before_discharge() -> None:
    at_discharge = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
    ended = RUNNING | {"hospitalization": at_discharge, "length": {"value": 8, "unit": "d"}}
    assert all_texts(build(ended)) == all_texts(build(RUNNING)) == all_texts(build(STAY))
    dead = PATIENT | {"deceasedDateTime": "2024-05-09T08:00:00Z"}
    assert all_texts(PatientRecord.from_resources([dead, ended], prediction_time=AT)) == all_texts(build(STAY))


def test_undated_diagnoses_are_known_at_the_end_of_the_encounter() -> None:
    for end in ("2024-05-03T12:00:00Z", "2024-05-03T12:00:00"):
        stay = RUNNING | {"period": STAY["period"] | {"end": end}}
        chart = [PATIENT, stay, SEPSIS | within("stay")]
        assert PatientRecord.from_resources(chart, prediction_time=AT).conditions
        assert not PatientRecord.from_resources(chart, prediction_time=AT - timedelta(minutes=1)).conditions


def test_the_input_is_freed_once_the_record_is_made() -> None:
    """Directory and Cutoff referred to each other: each record kept all its resources until a rare garbage collection."""
    gc.collect()
    gc.disable()
    try:
        found = PatientRecord.from_resources([PATIENT, PAST, STAY, observation(), SEPSIS | within("stay")], "p", AT)
        # By type: isinstance() would ask each object for its __class__, and PyTorch's deprecated names warn when asked.
        assert not [each for each in gc.get_objects() if issubclass(type(each), Directory | Cutoff)]
    finally:
        gc.enable()
    assert found.stays
