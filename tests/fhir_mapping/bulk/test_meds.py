"""MEDS: every mapped resource type becomes events, later ones do not, and another library can open the dataset."""

from __future__ import annotations

import builtins
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.bulk.meds_writer import MedsExportError, MedsWriter, subject_number
from fhir_mapping.record.meds import meds_events
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, no_value, observation, record

NOW = datetime(2024, 6, 1, tzinfo=UTC)
MINE = {"subject": {"reference": "Patient/p"}}
SMOKER = {"coding": [{"system": "http://snomed.info/sct", "code": "77176002", "display": "Smoker"}], "text": "Smoker"}
PRESSURE = {
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "component": [
        {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": 120, "unit": "mm[Hg]", "code": "mm[Hg]"}},
        {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]}, "valueQuantity": {"value": 80, "unit": "mm[Hg]", "code": "mm[Hg]"}},
    ],
}  # fmt: skip
GIVEN = {
    "resourceType": "MedicationAdministration",
    "id": "g",
    "status": "completed",
    "effectiveDateTime": "2024-05-02T07:00:00Z",
    "medicationReference": {"reference": "Medication/m"},
    "dosage": {"dose": {"value": 500, "unit": "mg", "code": "mg"}},
    **MINE,
}
MEDICATION = {
    "resourceType": "Medication",
    "id": "m",
    "code": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "161", "display": "Paracetamol"}]},
}  # fmt: skip
CASES: list[tuple[str, list[dict[str, Any]], str, float | None, str | None]] = [
    ("a number in its canonical unit", [observation("2160-0", 88.4, "umol/L")], "LOINC//2160-0//mg/dL", 1.0, None),
    ("a number no feature reads", [observation("9999-1", 3, "cm")], "LOINC//9999-1//cm", 3.0, None),
    ("a bound is words", [observation() | {"valueQuantity": {"value": 5, "comparator": "<", "unit": "mmol/L"}}], "LOINC//2951-2", None, "<5 mmol/L"),
    ("words", [no_value(valueString="cloudy")], "LOINC//2951-2", None, "cloudy"),
    ("a coded answer", [no_value(code="72166-2", valueCodeableConcept=SMOKER)], "LOINC//72166-2//SNOMED//77176002", None, "Smoker"),
    ("a truth value", [no_value(code="9999-2", valueBoolean=True)], "LOINC//9999-2", None, "True"),
    ("an integer", [no_value(code="9999-3", valueInteger=4)], "LOINC//9999-3", 4.0, None),
    ("components", [no_value() | PRESSURE], "LOINC//8462-4//mm[Hg]", 80.0, None),
    ("a local code", [observation() | {"code": {"coding": [{"system": "urn:local", "code": "NA"}]}}], "OBSERVATION//NA//mmol/L", 140.0, None),
    ("a dose by reference", [GIVEN, MEDICATION], "ADMINISTERED//RxNorm//161//mg", 500.0, "Paracetamol"),
    ("a running visit", [], "ENCOUNTER//INPATIENT//START", None, None),
    ("gender", [], "GENDER//FEMALE", None, None),
    ("birth", [], "MEDS_BIRTH", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resources", "code", "number", "text"), CASES, ids=[row[0] for row in CASES])
def test_every_kind_of_resource_is_an_event(
    name: str, resources: list[dict[str, Any]], code: str, number: float | None, text: str | None
) -> None:
    found = [row for row in record(*resources).to_meds() if row["code"] == code]
    expected = None if number is None else pytest.approx(number, rel=1e-4)
    assert [(row["numeric_value"], row["text_value"]) for row in found] == [(expected, text)]


@pytest.mark.parametrize(
    "later",
    [
        observation("9999-1", 3, "cm", effectiveDateTime="2024-05-09T00:00:00Z"),
        observation("9999-1", 3, "cm", issued="2024-05-09T00:00:00Z"),
        observation("9999-1", 3, "cm", status="entered-in-error"),
        {k: v for k, v in observation("9999-1", 3, "cm").items() if k != "effectiveDateTime"},
        GIVEN | {"effectiveDateTime": "2024-05-09T00:00:00Z"},
        GIVEN | {"status": "not-done"},
    ],
)
def test_later_and_void_resources_are_not_events(later: dict[str, Any]) -> None:
    assert meds_events(record(later, MEDICATION)) == meds_events(record(MEDICATION))


def test_static_events_come_first_then_in_time_order() -> None:
    times = [event.time for event in meds_events(record(observation(), GIVEN, MEDICATION))]
    dated = [time for time in times if time is not None]
    assert times == [None] * (len(times) - len(dated)) + sorted(dated)


def people(count: int) -> list[PatientRecord]:
    made = []
    for number in range(count):
        patient = PATIENT | {"id": f"p{number}"}
        owner = {"subject": {"reference": f"Patient/p{number}"}}
        resources = [patient, STAY | owner, observation() | owner, no_value(valueString="cloudy", id="w") | owner]
        made.append(PatientRecord.from_resources(resources, prediction_time=AT))
    return made


def test_a_dataset_passes_the_meds_schemas(tmp_path: Path) -> None:
    meds = pytest.importorskip("meds")
    parquet = pytest.importorskip("pyarrow.parquet")
    with MedsWriter(tmp_path / "d", created_at=NOW, splits=True) as dataset:
        for one in people(30):
            dataset.add(one)
    data = parquet.read_table(tmp_path / "d" / "data" / "0.parquet")
    meds.DataSchema.validate(data)
    codes = parquet.read_table(tmp_path / "d" / meds.code_metadata_filepath)
    meds.CodeMetadataSchema.validate(codes)
    assert set(data["code"].to_pylist()) == set(codes["code"].to_pylist())
    splits = parquet.read_table(tmp_path / "d" / meds.subject_splits_filepath)
    meds.SubjectSplitSchema.validate(splits)
    assert set(splits["subject_id"].to_pylist()) == set(data["subject_id"].to_pylist())
    assert set(splits["split"].to_pylist()) <= {meds.train_split, meds.tuning_split, meds.held_out_split}
    meds.DatasetMetadataSchema.validate(orjson.loads((tmp_path / "d" / meds.dataset_metadata_filepath).read_bytes()))
    ids = parquet.read_table(tmp_path / "d" / "metadata" / "subject_ids.parquet").to_pylist()
    assert {row["patient_id"]: row["subject_id"] for row in ids} == {
        f"p{n}": subject_number(f"p{n}") for n in range(30)
    }


def test_meds_reader_opens_the_dataset_and_finds_every_event(tmp_path: Path) -> None:
    meds_reader = pytest.importorskip("meds_reader")
    with MedsWriter(tmp_path / "d", created_at=NOW) as dataset:
        for one in people(3):
            dataset.add(one)
    convert = Path(sys.executable).parent / "meds_reader_convert"
    subprocess.run([convert, tmp_path / "d", tmp_path / "database"], check=True, capture_output=True)
    database = meds_reader.SubjectDatabase(str(tmp_path / "database"))
    subject = database[subject_number("p1")]
    expected = meds_events(people(2)[1])
    assert [event.code for event in subject.events] == [event.code for event in expected]
    assert [event.time for event in subject.events] == [e.time and e.time.replace(tzinfo=None) for e in expected]
    assert [event.numeric_value for event in subject.events] == [event.numeric_value for event in expected]


def test_duplicate_patients_and_existing_folders_are_errors(tmp_path: Path) -> None:
    dataset = MedsWriter(tmp_path / "d", created_at=NOW)
    dataset.add(people(1)[0])
    with pytest.raises(MedsExportError, match="twice"):
        dataset.add(people(1)[0])
    dataset.close()
    with pytest.raises(MedsExportError, match="not an empty folder"):
        MedsWriter(tmp_path / "d", created_at=NOW)


def test_the_error_names_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "meds":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MedsExportError, match=r"riskcards\[meds\]"):
        MedsWriter(tmp_path / "d", created_at=NOW)
