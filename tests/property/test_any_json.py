"""Any JSON instead of FHIR gives a record or a documented error, never a crash, and only known reason codes.

`HYPOTHESIS_PROFILE=long pytest tests/property/test_any_json.py` searches for ten minutes instead of seconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping import FhirMappingError, PatientRecord
from fhir_mapping.core.reasons import NOTE_REASONS, REASONS
from tests.fhir_mapping.record.test_cases import AT, LOINC, PATIENT, STAY, Resource, observation
from tests.property.profiles import EXAMPLES, SECONDS, searching

SUBJECT = {"subject": {"reference": "Patient/p"}}
CHART: list[Resource] = [
    PATIENT | {"deceasedDateTime": "2025-01-01"},
    STAY
    | {
        "priority": {"coding": [{"code": "EM"}]},
        "hospitalization": {"dischargeDisposition": {"coding": [{"code": "home"}]}, "admitSource": {"text": "x"}},
        "location": [{"location": {"reference": "Location/icu"}, "period": {"start": "2024-05-01"}}],
        "partOf": {"reference": "Encounter/visit"},
        "reasonReference": [{"reference": "Condition/c"}],
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}],
    },
    STAY | {"id": "visit", "class": [{"coding": [{"code": "EMER"}]}], "actualPeriod": STAY["period"], "admission": {}},
    {
        "resourceType": "Location",
        "id": "icu",
        "type": [{"coding": [{"code": "ICU"}]}],
        "partOf": {"reference": "Location/icu"},
    },
    observation(specimen={"display": "Blood"}, issued="2024-05-02T07:00:00Z", meta={"lastUpdated": "2024-05-02"}),
    observation(
        "85354-9",
        id="bp",
        hasMember=[{"reference": "#m"}],
        contained=[observation(id="m")],
        component=[
            {
                "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                "valueQuantity": {"value": 120, "unit": "mmHg"},
            },
        ],
    ),
    {
        "resourceType": "Condition",
        "id": "c",
        "code": {"text": "Sepsis"},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "verificationStatus": {"text": "confirmed"},
        "onsetPeriod": {"start": "2024"},
        **SUBJECT,
    },
    {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "intent": "order",
        "authoredOn": "2024-05-01",
        "medicationReference": {"reference": "Medication/d"},
        "dispenseRequest": {"validityPeriod": {"end": "2025"}},
        **SUBJECT,
    },
    {"resourceType": "Medication", "id": "d", "code": {"coding": [{"code": "4603"}]}},
    {
        "resourceType": "Procedure",
        "id": "x",
        "status": "completed",
        "code": {"text": "X"},
        "performedDateTime": "2024-05-02",
        **SUBJECT,
    },
    {
        "resourceType": "DocumentReference",
        "id": "n",
        "status": "current",
        "date": "2024-05-02T09:00:00Z",
        **SUBJECT,
        "content": [{"attachment": {"contentType": "text/plain", "data": "UGxhbjogcmVzdA=="}}],
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/o"}}],
    },
    {
        "resourceType": "Composition",
        "id": "k",
        "status": "final",
        "date": "2024-05-02",
        "title": "Note",
        **SUBJECT,
        "section": [{"title": "Plan", "text": {"div": "<div>rest</div>"}, "section": []}],
    },
    {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"text": "CT"},
        "result": [{"reference": "#q"}],
        "contained": [observation(id="q")],
        "presentedForm": [{"contentType": "text/html", "data": "PHA+eDwvcD4="}],
        **SUBJECT,
    },
]
WORDS = st.sampled_from(
    ["", "final", "Patient/p", "Patient/q", "#m", "urn:uuid:1", "2024-05-02", "2024-13-45", "9999-12-31", "0001", "<5",
     "entered-in-error", "IMP", "http://loinc.org", "\ud800", "\x00", "mmol/L", "K/uL", "é" * 300, "Encounter/stay"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["reference", "coding", "code", "system", "value", "unit", "start", "end", "modifierExtension"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a resource."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in steps for place in places(inner, (*path, key)))]


PLACES = [(number, path) for number, resource in enumerate(CHART) for path in places(resource) if path]


@st.composite
def odd_charts(draw: st.DrawFn) -> list[Resource]:
    """The chart with one to four parts replaced, removed or added."""
    chart = copy.deepcopy(CHART)
    for number, path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=4)):
        holder: Any = chart[number]
        try:
            for key in path[:-1]:
                holder = holder[key]
            if draw(st.integers(0, 3)) == 0:
                del holder[path[-1]]
            else:
                holder[path[-1]] = draw(ANYTHING)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change removed this part
    return [resource for resource in chart if isinstance(resource, dict)]


def use_all_of(record: PatientRecord) -> None:
    vector = record.features()
    orjson.dumps(vector.to_json())
    record.to_markdown()
    record.to_codes()
    record.to_meds()
    allowed = REASONS.keys() | {""}
    assert {refusal.reason for refusal in record.refused} <= allowed
    assert set(vector.unknown.values()) <= allowed
    assert {note.reason for note in record.notes()} <= NOTE_REASONS.keys() | {None}
    assert not set(vector.values) & set(vector.unknown)


@searching
@given(odd_charts())
def test_any_json_gives_a_record_or_a_documented_error(chart: list[Resource]) -> None:
    try:
        record = PatientRecord.from_resources(chart, "p", AT)
    except FhirMappingError:
        return
    use_all_of(record)


@searching
@given(odd_charts(), st.none() | st.integers(-100_000, 100_000))
def test_any_bytes_give_a_record_or_a_documented_error(chart: list[Resource], days: int | None) -> None:
    try:
        raw = orjson.dumps({"resourceType": "Bundle", "entry": [{"resource": r} for r in chart]})
    except TypeError:
        return  # lone surrogates and integers over 64 bits cannot be written
    at = None if days is None else AT + timedelta(days=days)
    try:
        record = PatientRecord.from_json(raw, "p", at)
    except FhirMappingError:
        return
    use_all_of(record)


def answer(read: Callable[[Any, str, datetime], PatientRecord], chart: Any) -> Any:
    """Returns what was read from a chart, or the class of its error."""
    try:
        record = read(chart, "p", AT)
    except FhirMappingError as error:
        return type(error)
    return record, record.features(), record.notes(), record.to_meds()


@searching
@given(odd_charts())
def test_partly_decoded_bytes_equal_whole_dictionaries(chart: list[Resource]) -> None:
    """An element that is used but unknown to the typed decoder would be missing only in bytes."""
    try:
        raw = orjson.dumps({"resourceType": "Bundle", "entry": [{"resource": r} for r in chart]})
    except TypeError:
        return
    whole = [entry["resource"] for entry in orjson.loads(raw)["entry"]]
    assert answer(PatientRecord.from_json, raw) == answer(PatientRecord.from_resources, whole)


@pytest.mark.skipif(SECONDS == 0, reason="only with HYPOTHESIS_PROFILE=long")
def test_repeat_with_new_seeds() -> None:
    """Repeats the search with new seeds until the time limit."""
    until, rounds = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        test_any_json_gives_a_record_or_a_documented_error()
        test_any_bytes_give_a_record_or_a_documented_error()
        test_partly_decoded_bytes_equal_whole_dictionaries()
        rounds += 1
    assert rounds > 0, f"no round of {EXAMPLES} examples in {SECONDS} s"
