"""Cohorts from MEDS: the same labels as from the FHIR they came from, other spellings, and broken datasets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from risk_model.cohorts.builder import CohortOptions, build_cohort
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.cohorts.meds_source import MedsDataset
from risk_model.core.errors import CohortError
from risk_model.labels.task_definitions import find_definition
from tests.risk_model.cohorts.test_labelled_cohort import population, run, write

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
START = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # MEDS times have no zone


def dataset(folder: Path, rows: list[dict[str, Any]], splits: dict[int, str] | None = None) -> Path:
    """A MEDS dataset in one file."""
    schema = pyarrow.schema(
        [("subject_id", pyarrow.int64()), ("time", pyarrow.timestamp("us")), ("code", pyarrow.string()),
         ("numeric_value", pyarrow.float32()), ("text_value", pyarrow.string())]
    )  # fmt: skip
    complete = [{"numeric_value": None, "text_value": None, **row} for row in rows]
    (folder / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(complete, schema), folder / "data" / "0.parquet")
    if splits:
        (folder / "metadata").mkdir()
        table = pyarrow.Table.from_pylist([{"subject_id": s, "split": name} for s, name in splits.items()])
        parquet.write_table(table, folder / "metadata" / "subject_splits.parquet")
    return folder


def from_meds(folder: Path, out: Path, task: str, definition: str | None = None, **options: Any) -> LabelledCohort:
    with MedsDataset(folder) as source:
        return build_cohort(find_definition(task, definition), source, out, CohortOptions(**options))


@pytest.mark.parametrize(
    ("task", "definition"),
    [("readmission_30d", "ehrshot"), ("readmission_30d", "any-inpatient-30d"), ("readmission_30d", "fhir-former"),
     ("in_hospital_mortality", "in-hospital-death"), ("long_stay", "ehrshot"), ("hyponatremia", "ehrshot")],
)  # fmt: skip
def test_our_own_export_gives_the_labels_of_the_fhir_it_came_from(tmp_path: Path, task: str, definition: str) -> None:
    charts = population(24)
    for number, chart in enumerate(charts):
        renamed = json.loads(json.dumps(chart).replace(chart[0]["id"], str(number)))
        if number % 5 == 1:
            renamed[1]["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
        if number % 7 == 2:
            renamed[1]["period"]["end"] = (START + timedelta(days=number + 9)).isoformat() + "Z"
        charts[number] = renamed
    with FhirFolder(write(tmp_path / "fhir", charts)) as source:
        expected = build_cohort(find_definition(task, definition), source, tmp_path / "a", CohortOptions())
    rows: list[dict[str, Any]] = []
    for chart in charts:
        record = PatientRecord.from_resources(chart)
        for row in record.to_meds():
            time = None if row["time"] is None else datetime.fromisoformat(row["time"]).replace(tzinfo=None)
            rows.append(row | {"subject_id": int(row["subject_id"]), "time": time})
    cohort = from_meds(dataset(tmp_path / "meds", rows), tmp_path / "b", task, definition)

    def facts(found: LabelledCohort) -> list[tuple[str, datetime, int, str | None]]:
        return [(row.subject_id, row.prediction_time, row.label, row.level) for row in found.rows]

    assert facts(cohort) == facts(expected)
    features = {(row.subject_id, row.prediction_time): record.features() for row, record in expected.records()}
    for row, record in cohort.records():
        other = features[row.subject_id, row.prediction_time]
        assert record.features().number("sodium.last") == other.number("sodium.last")
        assert record.features().number("length_of_stay.last") == other.number("length_of_stay.last")


def mimic(subject: int, *events: tuple[float | None, str]) -> list[dict[str, Any]]:
    return [
        {"subject_id": subject, "time": None if days is None else START + timedelta(days=days), "code": code}
        for days, code in events
    ]


def test_the_spellings_of_mimic_and_the_datasets_own_splits(tmp_path: Path) -> None:
    rows = mimic(
        1, (None, "GENDER//F"), (-20000, "MEDS_BIRTH"), (0, "HOSPITAL_ADMISSION//EW EMER.//EMERGENCY ROOM"),
        (1, "ICU_ADMISSION//MICU"), (1.5, "LAB//50971//mEq/L"), (2, "ICU_DISCHARGE//MICU"), (4, "DIAGNOSIS//ICD//10//I509"),
        (4, "HOSPITAL_DISCHARGE//HOME"), (20, "HOSPITAL_ADMISSION//ELECTIVE"), (22, "HOSPITAL_DISCHARGE//DIED"),
        (22, "MEDS_DEATH"),
    )  # fmt: skip
    rows += mimic(2, (0, "Visit/IP"), (400, "Visit/OP")) + mimic(
        3, (0, "HOSPITAL_ADMISSION//URGENT"), (3, "HOSPITAL_DISCHARGE//HOME")
    )
    folder = dataset(tmp_path / "meds", rows, {1: "held_out", 2: "train", 3: "tuning"})
    cohort = from_meds(folder, tmp_path / "out", "readmission_30d", follow_up="none")
    assert [(row.subject_id, row.label, row.split) for row in cohort.rows] == [("1", 1, "test"), ("3", 0, "validation")]
    assert cohort.manifest["excluded"] == {"died in hospital": 1, "still in hospital": 1}
    assert cohort.manifest["splits"] == {"kind": "given by the source"}
    record = next(record for row, record in cohort.records() if row.subject_id == "1")
    vector = record.features()
    assert (vector.number("acute_admission.last"), vector.number("intensive_care.last")) == (1.0, 1.0)
    assert vector.number("condition.count") == 1
    assert vector.number("age.last") == 54


BROKEN: list[tuple[str, Any, str]] = [
    ("no such folder", None, "no parquet files"),
    ("not parquet", b"nothing", "cannot be read as parquet"),
    ("no code", [{"subject_id": 1, "time": START}], "no column 'code'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_dataset_errors_name_the_cause(tmp_path: Path, name: str, content: Any, message: str) -> None:
    folder = tmp_path / "meds"
    if content is not None:
        (folder / "data").mkdir(parents=True)
    if isinstance(content, bytes):
        (folder / "data" / "0.parquet").write_bytes(content)
    elif content is not None:
        parquet.write_table(pyarrow.Table.from_pylist(content), folder / "data" / "0.parquet")
    answer = run("build", "--task", "readmission_30d", "--meds", folder, "--out", tmp_path / "out")
    assert isinstance(answer.exception, CohortError)
    assert message in str(answer.exception)


def test_a_subject_in_two_places_is_refused(tmp_path: Path) -> None:
    rows = (
        mimic(1, (0, "HOSPITAL_ADMISSION//URGENT"))
        + mimic(2, (0, "MEDS_DEATH"))
        + mimic(1, (3, "HOSPITAL_DISCHARGE//HOME"))
    )
    with pytest.raises(CohortError, match="subject 1 is not contiguous"):
        from_meds(dataset(tmp_path / "meds", rows), tmp_path / "out", "readmission_30d")
