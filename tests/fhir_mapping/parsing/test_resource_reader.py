"""Input that is not FHIR gives an error with its position; NDJSON; the twelve Synthea bundles."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_mapping import InvalidInputError, PatientRecord
from tests.fhir_mapping.record.test_cases import AT, PATIENT, REFUSED, STAY, VALUES, observation

MALFORMED: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("blank", b" \n "),
    ("cut", b'{"resourceType": "Bundle", "entry": ['),
    ("NaN", b'{"resourceType": "Patient", "x": NaN}'),
    ("infinite", b'{"resourceType": "Patient", "x": Infinity}'),
    ("a number", b"3"),
    ("a string", b'"Patient"'),
    ("no type", b'{"id": "p"}'),
    ("entry a string", b'{"resourceType": "Bundle", "entry": ["x"]}'),
    ("entry an object", b'{"resourceType": "Bundle", "entry": {"a": 1}}'),
    ("list of numbers", b"[1, 2]"),
    ("second line cut", b'{"resourceType": "Patient", "id": "p"}\n{"resourceType": '),
    ("nests without end", b'{"resourceType": "Patient", "x": ' + b"[" * 9000 + b"]" * 9000 + b"}"),
    ("not UTF-8", b'{"resourceType": "\xff"}'),
]


@pytest.mark.parametrize(("name", "raw"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_bytes_are_an_input_error(name: str, raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        PatientRecord.from_json(raw)


def test_the_error_has_a_position() -> None:
    with pytest.raises(InvalidInputError, match="line 2"):
        PatientRecord.from_json(b'{"resourceType": "Patient", "id": "p"}\n{"resourceType": ')


def test_one_patient_is_selected_from_ndjson() -> None:
    lines = [
        b'{"resourceType": "Patient", "id": "p", "gender": "male"}',
        b'{"resourceType": "Patient", "id": "q", "gender": "female"}',
        b'{"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/q"}, "code": {"text": "x"}}',
    ]
    record = PatientRecord.from_json(b"\n".join(lines), "p", "2024-01-01")
    assert record.sex == "male"
    assert record.conditions == ()


# Implausible: Synthea's metabolic panel has total protein in g/L with the unit g/dL. Other encounter: clinic visits
# during a rehabilitation of a year.
EXPLAINED = {
    "more-notes-than-read", "same-time-other-value", "same-note-again", "encounter-not-found", "status-entered-in-error",
    "implausible", "other-encounter",
}  # fmt: skip


def test_all_synthea_bundles_map_without_an_unexplained_refusal(shared_data: Path) -> None:
    paths = sorted((shared_data / "synthea").rglob("*.json.gz"))
    assert len(paths) == 12
    for path in paths:
        record = PatientRecord.from_json(gzip.decompress(path.read_bytes()))
        assert {refusal.reason for refusal in record.refused} <= EXPLAINED, path.name
        assert record.stays
        assert record.features().number("age.last") is not None


def test_the_mimic_demo_maps_a_patient(shared_data: Path) -> None:
    folder = shared_data / "mimic-iv-demo-fhir"
    names = ("MimicPatient", "MimicEncounter", "MimicEncounterICU", "MimicCondition")
    raw = b"\n".join(gzip.decompress((folder / f"{name}.ndjson.gz").read_bytes()) for name in names)
    patient = orjson.loads(raw.splitlines()[0])["id"]
    record = PatientRecord.from_json(raw, patient)
    assert record.subject_id == patient
    assert record.stays


def as_two_ways(resources: list[dict[str, Any]], at: datetime) -> tuple[PatientRecord, PatientRecord]:
    whole = PatientRecord.from_resources(resources, prediction_time=at)
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}
    return whole, PatientRecord.from_json(orjson.dumps(bundle, option=orjson.OPT_INDENT_2), prediction_time=at)


@pytest.mark.parametrize("row", [*VALUES, *REFUSED], ids=[row[0] for row in (*VALUES, *REFUSED)])
def test_lazily_decoded_bytes_equal_dictionaries(row: tuple[str, dict[str, Any], str, Any]) -> None:
    """An Observation's values are decoded only if its code is of interest; none may be missed."""
    observation = {name: value for name, value in row[1].items() if name != "code_"}
    whole, lazy = as_two_ways([PATIENT, STAY, observation], AT)
    assert lazy.features() == whole.features()
    assert lazy == whole


def test_features_are_cached_per_record() -> None:
    """Every score, card and page of a record uses them; a what-if calculation uses a changed record."""
    record = as_two_ways([PATIENT, STAY, observation()], AT)[1]
    changed = replace(record, measurements=())
    assert record.features() is record.features()
    assert record.features().number("sodium.last") == 140
    assert changed.features().number("sodium.last") is None


def test_a_copy_without_raw_observations_keeps_its_features() -> None:
    record = as_two_ways([PATIENT, STAY, observation()], AT)[1]
    copy = record.without_charted()
    assert list(record.charted())
    assert not list(copy.charted())
    assert copy == record
    assert copy.features() == record.features()


PREFETCHED: list[tuple[str, Any]] = [
    ("parsed", observation()),
    ("an integer over 64 bits", observation(note=[{"text": 10**30}])),
    ("a name that is no text", observation(note=[{1: "x"}])),
]


@pytest.mark.parametrize(("name", "resource"), PREFETCHED, ids=[row[0] for row in PREFETCHED])
def test_a_parsed_prefetch_that_is_not_json_is_read(name: str, resource: Any) -> None:
    labs = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource}]}
    prefetch = {"patient": PATIENT, "labs": labs}
    expected = {"patient": "Patient", "labs": "Observation"}
    record = PatientRecord.from_prefetch(prefetch, patient_id="p", prediction_time=AT, expected=expected)
    assert [(item.concept, item.value) for item in record.measurements] == [("sodium", 140)]


def test_resource_type_need_not_come_first() -> None:
    raw = (
        b'{"entry": [{"resource": {"id": "p", "gender": "male", "resourceType": "Patient"}}], "resourceType": "Bundle"}'
    )
    assert PatientRecord.from_json(raw, prediction_time="2024-01-01").sex == "male"


@pytest.mark.parametrize("number", [b"1e400", b"-1e999", b"9" * 5000])
@pytest.mark.parametrize("inside", ["entry", "component", "subject"])
def test_only_the_value_too_large_for_a_float_is_refused(number: bytes, inside: str) -> None:
    """A single 1e400 in a chart made the whole chart invalid."""
    code = {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]}
    value = {"code": code, "valueQuantity": {"value": "@", "unit": "mmol/L"}}
    bad = {
        "entry": observation(valueQuantity=value["valueQuantity"]),
        "component": observation("55418-8", component=[value]),
        "subject": observation(subject={"reference": "Patient/p", "extension": [{"url": "x", "valueDecimal": "@"}]}),
    }[inside]
    good = observation("2160-0", 1.2, "mg/dL", id="good")
    bundle = {"resourceType": "Bundle", "entry": [{"resource": r} for r in (PATIENT, STAY, bad, good)]}
    record = PatientRecord.from_json(orjson.dumps(bundle).replace(b'"@"', number), prediction_time=AT)
    assert record.features().number("creatinine.last") == 1.2
    wrong = [(refusal.reason, refusal.detail) for refusal in record.refused]
    assert wrong == ([] if inside == "subject" else [("value-not-a-number", "sodium")])


def test_invalid_utf8_in_unused_elements_has_a_position() -> None:
    raw = b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Claim", "x": "%s\xff"}}]}'
    with pytest.raises(InvalidInputError, match=r"UTF-8.*byte 2[0-9]{6}"):
        PatientRecord.from_json(raw % ("ä".encode() * 1_000_000))
