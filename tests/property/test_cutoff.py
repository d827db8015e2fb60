"""Data after the prediction time, dated or of a stay that had not ended, change no record, however it is built.

The bug: undated resources of later stays were removed for cohorts only, see tests/fhir_mapping/test_cutoff.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from cds_service.app_pages.chart import reader_of
from fhir_mapping import PatientRecord
from fhir_mapping.parsing.resource_reader import ResourceEntry
from risk_model.cohorts.labelled_cohort import CohortRow, record_of
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, observation
from tests.property.profiles import searching

Resource = dict[str, Any]
MINE: Resource = {"subject": {"reference": "Patient/p"}}
# Encounter -> (start, end) in days from the prediction time.
PERIODS = {"past": (-90, -80), "stay": (-2, 5), "part": (-1.9, -1), "later": (20, 25)}
NOT_OVER = ("stay", "part", "later")
HEART_FAILURE = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I50.9"}
KINDS = {
    "Condition": ("recordedDate", {"code": {"coding": [HEART_FAILURE]}}),
    "Procedure": ("performedDateTime", {"status": "completed", "code": {}}),
    "MedicationRequest": ("authoredOn", {"status": "active", "intent": "order", "medicationCodeableConcept": {}}),
    "MedicationStatement": ("dateAsserted", {"status": "active", "medicationCodeableConcept": {}}),
    "MedicationAdministration": ("effectiveDateTime", {"status": "completed", "medicationCodeableConcept": {}}),
    "DocumentReference": ("date", {"status": "current", "content": []}),
    "DiagnosticReport": ("issued", {"status": "final", "code": {"text": "CT"}}),
    "Composition": ("date", {"status": "final", "section": []}),
    "Observation": ("effectiveDateTime", {}),
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """Known and later resources, and the encounters as known at the prediction time and as they ended."""

    known: list[Resource]
    later: list[Resource]
    encounters_then: list[Resource]
    encounters_at_last: list[Resource]

    @property
    def as_known(self) -> list[Resource]:
        return [PATIENT, *self.encounters_then, *self.known]

    @property
    def as_exported(self) -> list[Resource]:
        died = {"deceasedDateTime": when(24)}
        return [PATIENT | died, *self.encounters_at_last, *self.known, *self.later]


def when(days: float) -> str:
    return (AT + timedelta(days=days)).isoformat()


def encounter(identifier: str, *, known: bool, diagnoses: list[str]) -> Resource:
    start, end = PERIODS[identifier]
    found = STAY | {"id": identifier, "status": "finished", "period": {"start": when(start), "end": when(end)}}
    if identifier == "part":
        found["partOf"] = {"reference": "Encounter/stay"}
    if not known:
        found["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
        found["diagnosis"] = [{"condition": {"reference": reference}} for reference in diagnoses]
    elif end > 0:
        found |= {"status": "in-progress", "period": {"start": when(start)}}
    return found


def resource(kind: str, identifier: str, words: str) -> Resource:
    name, body = KINDS[kind]
    if kind == "Observation":
        found = observation("2951-2", 100 + len(words), id=identifier)
        return {key: value for key, value in found.items() if key != name}
    found = copy.deepcopy({"resourceType": kind, "id": identifier, **body, **MINE})
    data = base64.b64encode(words.encode()).decode()
    for concept in ("code", "medicationCodeableConcept"):
        if concept in found:
            found[concept]["text"] = words
    if kind == "DocumentReference":
        found["content"] = [{"attachment": {"contentType": "text/plain", "data": data}}]
    elif kind == "DiagnosticReport":
        found["conclusion"] = words
    elif kind == "Composition":
        found["section"] = [{"title": "Course", "text": {"div": f"<div>{words}</div>"}}]
    return found


def within(kind: str, reference: str) -> Resource:
    if kind == "DocumentReference":
        return {"context": {"encounter": [{"reference": reference}]}}
    return {"encounter": {"reference": reference}}


@st.composite
def charts(draw: st.DrawFn) -> Chart:
    """Up to six known and six later resources of every type, linked to encounters in every way."""
    known, later, named = [], [], []
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        found = resource(kind, f"k{number}", f"known {number}")
        found[KINDS[kind][0]] = when(-draw(st.floats(0.01, 60)))
        known.append(
            found | draw(st.sampled_from([{}, within(kind, "Encounter/past"), within(kind, "Encounter/stay")]))
        )
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(sorted(KINDS)))
        found = resource(kind, f"f{number}", f"FUTURE {number}")
        tie = draw(st.sampled_from(["dated", "undated", "named"]))
        if tie == "named" and kind == "Condition":
            named.append(f"{kind}/f{number}")
        elif tie == "undated":
            version = draw(st.sampled_from(["", "/_history/2"]))
            found |= within(kind, f"Encounter/{draw(st.sampled_from(NOT_OVER))}{version}")
        else:
            found[KINDS[kind][0]] = when(draw(st.floats(0.01, 60)))
            found |= draw(st.sampled_from([{}, *(within(kind, f"Encounter/{name}") for name in PERIODS)]))
        later.append(found)
    then = [encounter(name, known=True, diagnoses=[]) for name in PERIODS if name != "later"]
    at_last = [encounter(name, known=PERIODS[name][1] < 0, diagnoses=named) for name in PERIODS]
    return Chart(known, later, draw(st.permutations(then)), draw(st.permutations(at_last)))


def as_bundle(resources: list[Resource]) -> PatientRecord:
    """References by the fullUrl of their entry, as in Synthea."""
    urns = {f"{r['resourceType']}/{r['id']}": f"urn:uuid:{r['id']}" for r in resources}
    text = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]})
    for key, urn in urns.items():
        text = text.replace(f'"reference":"{key}"'.encode(), f'"reference":"{urn}"'.encode())
    bundle = orjson.loads(text)
    for entry in bundle["entry"]:
        entry["fullUrl"] = f"urn:uuid:{entry['resource']['id']}"
    return PatientRecord.from_json(orjson.dumps(bundle), "p", AT)


def as_prefetch(resources: list[Resource]) -> PatientRecord:
    """The hook of an ended stay: its prediction time is before the data were fetched."""
    kinds = {"Encounter", *KINDS}
    prefetch: dict[str, Any] = {"Patient": resources[0]}
    for kind in kinds:
        entries = [{"resource": r} for r in resources if r["resourceType"] == kind]
        prefetch[kind] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}
    expected = {key: key for key in ("Patient", *sorted(kinds))}
    return PatientRecord.from_prefetch(prefetch, patient_id="p", prediction_time=AT, expected=expected)


def as_row(resources: list[Resource]) -> PatientRecord:
    return record_of(resources, CohortRow("p", "stay", AT, 0, None, "train", None, "p"), frozenset())


def as_course(resources: list[Resource]) -> PatientRecord:
    return reader_of(resources, "p", "stay", datetime(2024, 9, 1, tzinfo=UTC))(AT)


WAYS: Mapping[str, Callable[[list[Resource]], PatientRecord]] = {
    "resources": lambda resources: PatientRecord.from_resources(resources, "p", AT),
    "entries": lambda resources: PatientRecord.from_entries(
        [ResourceEntry(orjson.dumps(r)) for r in resources], "p", AT
    ),
    "list": lambda resources: PatientRecord.from_json(orjson.dumps(resources), "p", AT),
    "NDJSON": lambda resources: PatientRecord.from_json(b"\n".join(map(orjson.dumps, resources)), "p", AT),
    "bundle": as_bundle,
    "prefetch": as_prefetch,
    "cohort row": as_row,
    "course": as_course,
}


def said(record: PatientRecord) -> dict[str, Any]:
    """Everything used downstream; of `refused`, which lists removed resources, only the number is used."""
    vector = record.features()
    return {
        "values": vector.values,
        "unknown": vector.unknown,
        "notes": [note.to_json() for note in record.notes()],
        "markdown": record.to_markdown(),
        "codes": record.to_codes(),
        "meds": record.to_meds(),
        "stays": (record.stays, record.current_stay),
        "deceased": record.deceased,
    }


@searching
@given(charts(), st.sampled_from(sorted(WAYS)))
def test_nothing_after_the_prediction_time_changes_a_record(chart: Chart, way: str) -> None:
    then = said(WAYS[way](copy.deepcopy(chart.as_known)))
    record = WAYS[way](copy.deepcopy(chart.as_exported))
    assert said(record) == then
    assert "FUTURE" not in repr(said(record))
    named = {refusal.source for refusal in record.refused if refusal.reason == "encounter-not-over"}
    assert named <= {f"{r['resourceType']}/{r['id']}" for r in chart.later}
