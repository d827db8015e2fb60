"""Bytes that are no FHIR: a clear error with the place; NDJSON; the twelve Synthea bundles."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fhir_mapping import InvalidInputError, PatientRecord

MALFORMED: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("blank", b" \n "),
    ("cut", b'{"resourceType": "Bundle", "entry": ['),
    ("NaN", b'{"resourceType": "Patient", "x": NaN}'),
    ("infinite", b'{"resourceType": "Patient", "x": 1e400}'),
    ("a number", b"3"),
    ("a string", b'"Patient"'),
    ("no type", b'{"id": "p"}'),
    ("entry a string", b'{"resourceType": "Bundle", "entry": ["x"]}'),
    ("entry an object", b'{"resourceType": "Bundle", "entry": {"a": 1}}'),
    ("list of numbers", b"[1, 2]"),
    ("second line cut", b'{"resourceType": "Patient", "id": "p"}\n{"resourceType": '),
    ("not UTF-8", b'{"resourceType": "\xff"}'),
]


@pytest.mark.parametrize(("name", "raw"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_bytes_are_an_input_error(name: str, raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        PatientRecord.from_json(raw)


def test_the_error_says_where() -> None:
    with pytest.raises(InvalidInputError, match="line 2"):
        PatientRecord.from_json(b'{"resourceType": "Patient", "id": "p"}\n{"resourceType": ')


def test_ndjson_may_hold_a_population_and_one_is_chosen() -> None:
    lines = [
        b'{"resourceType": "Patient", "id": "p", "gender": "male"}',
        b'{"resourceType": "Patient", "id": "q", "gender": "female"}',
        b'{"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/q"}, "code": {"text": "x"}}',
    ]
    record = PatientRecord.from_json(b"\n".join(lines), "p", "2024-01-01")
    assert record.sex == "male"
    assert record.conditions == ()


EXPLAINED = {
    "more-notes-than-read", "same-time-other-value", "same-note-again", "encounter-not-found", "status-entered-in-error",
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
    import orjson

    patient = orjson.loads(raw.splitlines()[0])["id"]
    record = PatientRecord.from_json(raw, patient)
    assert record.subject_id == patient
    assert record.stays
