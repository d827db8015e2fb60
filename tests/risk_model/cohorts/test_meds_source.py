"""Cohorts from MEDS: the same labels as from the FHIR they came from, other spellings, and broken datasets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.bulk import MedsWriter
from fhir_mapping.bulk.meds_writer import subject_number
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


ADMITTED, HOME = "HOSPITAL_ADMISSION//URGENT", "HOSPITAL_DISCHARGE//HOME"
# name, events by day, and (day of discharge, label) of each row of any-inpatient-30d
PAIRS: list[tuple[str, list[tuple[float | None, str]], list[tuple[float, int]]]] = [
    ("one after the other", [(0, ADMITTED), (3, HOME), (20, ADMITTED), (22, HOME)], [(3, 1), (22, 0)]),
    ("inside a stay", [(0, ADMITTED), (2, ADMITTED), (3, HOME), (9, HOME), (20, ADMITTED), (22, HOME)], [(9, 1), (22, 0)]),
    ("overlapping", [(0, ADMITTED), (3, ADMITTED), (4, HOME), (9, HOME), (50, ADMITTED), (52, HOME)], [(9, 0), (52, 0)]),
    ("never closed", [(0, ADMITTED), (5, ADMITTED), (7, HOME), (20, ADMITTED), (22, HOME)], [(7, 1), (22, 0)]),
    ("never closed, the last", [(0, ADMITTED), (3, HOME), (20, ADMITTED)], [(3, 1)]),
    ("moved at the moment of discharge", [(0, ADMITTED), (3, ADMITTED), (3, HOME), (9, HOME), (50, ADMITTED), (52, HOME)], [(9, 0), (52, 0)]),
    ("discharged in the moment of admission", [(0, ADMITTED), (0, HOME), (20, ADMITTED), (22, HOME)], [(0, 1), (22, 0)]),
    ("discharged twice", [(0, ADMITTED), (3, HOME), (4, HOME), (20, ADMITTED), (22, HOME)], [(3, 1), (22, 0)]),
    ("a discharge without a time", [(None, HOME), (0, ADMITTED), (3, HOME), (20, ADMITTED), (22, HOME)], [(3, 1), (22, 0)]),
    ("emergency visits between", [(0, ADMITTED), (1, "ED_REGISTRATION"), (1, "ED_OUT"), (3, HOME), (20, ADMITTED), (22, HOME)], [(3, 1), (22, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "events", "expected"), PAIRS, ids=[row[0] for row in PAIRS])
def test_admissions_and_discharges_are_paired(
    tmp_path: Path, name: str, events: list[tuple[float | None, str]], expected: list[tuple[float, int]]
) -> None:
    rows = mimic(1, *events) + mimic(2, (0, ADMITTED), (3, HOME)) + mimic(3, (0, ADMITTED), (3, HOME), (9, ADMITTED))
    cohort = from_meds(
        dataset(tmp_path / "meds", rows), tmp_path / "out", "readmission_30d", "any-inpatient-30d", follow_up="none"
    )
    found = [(row.prediction_time, row.label) for row in cohort.rows if row.subject_id == "1"]
    assert found == [((START + timedelta(days=days)).replace(tzinfo=UTC), label) for days, label in expected]


def test_events_without_a_time_are_unknown_until_the_last_stay_is_over(tmp_path: Path) -> None:
    rows = mimic(
        1, (None, "ICD10CM//I50.9"), (None, "LOINC//2951-2"), (0, ADMITTED), (3, HOME), (20, ADMITTED), (22, HOME)
    )
    rows += mimic(2, (0, ADMITTED), (3, HOME))
    cohort = from_meds(
        dataset(tmp_path / "meds", rows), tmp_path / "out", "readmission_30d", "any-inpatient-30d", follow_up="none"
    )
    counts = {
        row.prediction_time.day: len(record.conditions) for row, record in cohort.records() if row.subject_id == "1"
    }
    assert counts == {4: 0, 23: 1}


@pytest.mark.parametrize("name", ["hadm_id", "visit_id", "encounter_id"])
def test_events_without_a_time_belong_to_the_encounter_they_name(tmp_path: Path, name: str) -> None:
    """Numbers, as of MIMIC and OMOP: the diagnosis of the first stay is known at its end, that of none at the last."""
    rows = mimic(
        1, (None, "ICD10CM//I50.9"), (None, "ICD10CM//N17.9"), (0, ADMITTED), (3, HOME), (20, ADMITTED), (22, HOME)
    )
    for row, visit in zip(rows, (100, 999, 100, 100, 101, 101), strict=True):
        row[name] = visit
    rows += [{**row, name: 102} for row in mimic(2, (0, ADMITTED), (3, HOME))]
    (tmp_path / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data" / "0.parquet")
    cohort = from_meds(tmp_path, tmp_path / "out", "readmission_30d", "any-inpatient-30d", follow_up="none")
    known = {
        row.prediction_time.day: [condition.codings[0].code for condition in record.conditions]
        for row, record in cohort.records()
        if row.subject_id == "1"
    }
    assert known == {4: ["I50.9"], 23: ["I50.9", "N17.9"]}


def test_deaths_that_are_only_dates_keep_their_day(tmp_path: Path) -> None:
    """Midnight and the last second of a day are how a source of dates writes them: the stay of that day ended so."""
    rows = mimic(3, (0, ADMITTED), (5, HOME))
    for subject, death in ((1, 4.0), (2, 4.0 + 86_399 / 86_400)):
        rows += mimic(subject, (0, ADMITTED), (4.5, "HOSPITAL_DISCHARGE"), (death, "MEDS_DEATH"))
    cohort = from_meds(
        dataset(tmp_path / "meds", sorted(rows, key=lambda row: (row["subject_id"], row["time"]))),
        tmp_path / "out", "in_hospital_mortality", follow_up="none",
    )  # fmt: skip
    assert {row.subject_id: row.label for row in cohort.rows} == {"1": 1, "2": 1, "3": 0}


RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ORIGIN = "https://www.nubc.org/CodeSystem/PointOfOrigin"


def result(name: str, value: float, at: str, **more: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": name, "status": "final", "effectiveDateTime": at,
        "subject": {"reference": f"Patient/{name.partition('-')[0]}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
        "valueQuantity": {"value": value, "unit": "mmol/L", "code": "mmol/L", "system": "http://unitsofmeasure.org"},
        **more,
    }  # fmt: skip


def whole_chart(name: str, nested: bool, **death: Any) -> list[dict[str, Any]]:
    """A patient with an intensive care part, an account inside the stay, undated diagnoses, a drug, a dose and a note."""
    me = {"subject": {"reference": f"Patient/{name}"}}
    act = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    icd = "http://hl7.org/fhir/sid/icd-10-cm"

    def encounter(key: str, begin: int, end: int, **more: Any) -> dict[str, Any]:
        period = {"start": f"2024-01-{begin:02}T08:00:00Z", "end": f"2024-01-{end:02}T08:00:00Z"}
        kind = {"system": act, "code": "IMP"}
        return {
            "resourceType": "Encounter",
            "id": f"{name}-{key}",
            "status": "finished",
            "class": kind,
            "period": period,
            **me,
            **more,
        }

    def condition(key: str, code: str, of: str, **more: Any) -> dict[str, Any]:
        coding = [{"system": icd, "code": code}, {"system": "http://snomed.info/sct", "code": "84114007"}]
        reference = {"reference": f"Encounter/{name}-{of}"}
        return {
            "resourceType": "Condition",
            "id": f"{name}-{key}",
            "code": {"coding": coding, "text": code},
            "encounter": reference,
            **me,
            **more,
        }

    def order(key: str, code: str, of: str, status: str = "completed", **more: Any) -> dict[str, Any]:
        return {
            "resourceType": "MedicationRequest",
            "id": f"{name}-{key}",
            "status": status,
            "intent": "order",
            "authoredOn": f"2024-01-{2 if of == 'a' else 20:02}T12:00:00Z",
            "encounter": {"reference": f"Encounter/{name}-{of}"},
            "medicationCodeableConcept": {"coding": [{"system": RXNORM, "code": code}]},
            **me,
            **more,
        }

    icu = {"type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}]}
    urgent = {
        "priority": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": "EM"}]}
    }
    plain = {"contentType": "text/plain", "data": "SGVhcnQgZmFpbHVyZS4="}
    chart = [
        {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1950-03", **death},
        encounter("a", 1, 9, **urgent),
        encounter("icu", 3, 5, partOf={"reference": f"Encounter/{name}-a"}, **icu),
        encounter("b", 20, 22, hospitalization={"admitSource": {"coding": [{"system": ORIGIN, "code": "D"}]}}),
        condition("c1", "I50.9", "a"),
        condition("c2", "N17.9", "b"),
        condition("c3", "E11.9", "b", onsetDateTime="2010-02-03"),
        {"resourceType": "DocumentReference", "id": f"{name}-n", "status": "current", "type": {"text": "Progress note"},
         "date": "2024-01-04T10:00:00Z", "content": [{"attachment": plain}], **me},
        {"resourceType": "Observation", "id": f"{name}-o", "status": "final", "effectiveDateTime": "2024-01-04T09:00:00Z",
         "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
         "valueQuantity": {"value": 128, "unit": "mmol/L", "code": "mmol/L", "system": "http://unitsofmeasure.org"}, **me},
        # Of two results at one time the one issued later counts; one issued after the stay was not known in it.
        result(f"{name}-p", 131, "2024-01-04T09:00:00Z", issued="2024-01-04T12:00:00Z"),
        result(f"{name}-s", 125, "2024-01-05T09:00:00Z", status="corrected"),
        result(f"{name}-r", 126, "2024-01-05T09:00:00Z"),
        result(f"{name}-q", 111, "2024-01-09T09:00:00Z", issued="2024-03-01T00:00:00Z"),
        {"resourceType": "MedicationAdministration", "id": f"{name}-d", "status": "completed", "effectiveDateTime": "2024-01-04T09:00:00Z",
         "medicationCodeableConcept": {"coding": [{"system": "urn:local", "code": "F1"}], "text": "Furosemide"},
         "dosage": {"dose": {"value": 40, "unit": "mg"}}, **me},
        order("valid", "29046", "a", dispenseRequest={"validityPeriod": {"end": "2024-01-09T08:00:00Z"}}),
        order("given", "4603", "b", dispenseRequest={"validityPeriod": {"end": "2024-01-25T08:00:00Z"}}),
        order("no-end", "11289", "a"),
        order("running", "6809", "b", status="active"),
        {"resourceType": "MedicationAdministration", "id": f"{name}-e", "status": "completed",
         "effectivePeriod": {"start": "2024-01-21T09:00:00Z", "end": "2024-01-22T07:30:00Z"},
         "medicationCodeableConcept": {"coding": [{"system": RXNORM, "code": "7512"}], "text": "Norepinephrine"}, **me},
        {"resourceType": "MedicationAdministration", "id": f"{name}-f", "status": "completed",
         "effectiveDateTime": "2024-01-21T20:00:00Z", "request": {"reference": f"MedicationRequest/{name}-given"},
         "medicationCodeableConcept": {"coding": [{"system": "urn:local", "code": "F2"}], "text": "Lasix"}, **me},
    ]  # fmt: skip
    return chart + ([encounter("n", 2, 3)] if nested else [])


def test_a_dataset_of_ours_reads_back_as_it_was(tmp_path: Path) -> None:
    charts = [
        whole_chart("p", nested=True),
        whole_chart("q", nested=False, deceasedDateTime="2024-01-22"),
        whole_chart("r", nested=True, deceasedBoolean=True),
    ]
    with MedsWriter(tmp_path / "meds", created_at=datetime(2024, 6, 1, tzinfo=UTC)) as written:
        for chart in charts:
            written.add(PatientRecord.from_resources(chart))
    names = {str(subject_number(chart[0]["id"])): chart[0]["id"] for chart in charts}
    for task, definition in (
        ("readmission_30d", "any-inpatient-30d"),
        ("in_hospital_mortality", "in-hospital-death-rolling"),
    ):
        with FhirFolder(write(tmp_path / "fhir" / task, charts)) as source:
            options = CohortOptions(follow_up="none")
            expected = build_cohort(find_definition(task, definition), source, tmp_path / task / "a", options)
        cohort = from_meds(tmp_path / "meds", tmp_path / task / "b", task, definition, follow_up="none")
        assert cohort.manifest["excluded"] == expected.manifest["excluded"]
        known = {
            (row.subject_id, row.encounter_id, row.prediction_time): (row.label, record)
            for row, record in expected.records()
        }
        found = {
            (names[row.subject_id], row.encounter_id, row.prediction_time): (row.label, record)
            for row, record in cohort.records()
        }
        assert {key: item[0] for key, item in found.items()} == {key: item[0] for key, item in known.items()}
        for key, (_, record) in found.items():
            other = known[key][1]
            assert record.features().to_json()["features"].keys() == other.features().to_json()["features"].keys()
            for name, value in record.features().to_json()["features"].items():
                assert value["value"] == pytest.approx(other.features().to_json()["features"][name]["value"]), name
            assert [note.text for note in record.notes()] == [note.text for note in other.notes()]
            assert [dose.dose for dose in record.administrations] == [dose.dose for dose in other.administrations]
        assert not cohort.manifest.get("left_out")


NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"
WENT = [
    ("1", "home"), ("6", "home_care"), ("2", "hospital"), ("3", "nursing"), ("62", "rehabilitation"),
    ("63", "long_term_care"), ("65", "psychiatric"), ("7", "against_advice"), ("20", "died"), ("50", "hospice"),
    ("70", "facility"), ("30", "other"), ("777", None),
]  # fmt: skip


@pytest.mark.parametrize(("code", "destination"), WENT)
def test_destinations_read_back_as_they_were(tmp_path: Path, code: str, destination: str | None) -> None:
    """Home with care and home, or rehabilitation and nursing, were one word each in our export."""
    chart = whole_chart("p", nested=False)
    left = {"dischargeDisposition": {"coding": [{"system": NUBC, "code": code}]}}
    for resource in chart:
        if resource["resourceType"] == "Encounter":
            resource["hospitalization"] = left
    record = PatientRecord.from_resources(chart)
    assert record.stays[-1].destination == destination
    with MedsWriter(tmp_path / "meds", created_at=datetime(2024, 6, 1, tzinfo=UTC)) as written:
        written.add(record)
    with MedsDataset(tmp_path / "meds") as source:
        (patient,) = source.patients()
    assert patient.record(None).stays[-1].destination == destination


@pytest.mark.parametrize(
    ("words", "destination"),
    [("HOME HEALTH CARE", "home_care"), ("REHAB", "rehabilitation"), ("SKILLED NURSING FACILITY", "nursing"),
     ("OTHER FACILITY", "facility"), ("DIED", "died"), ("ACUTE HOSPITAL", "hospital"), ("?", None)],
)  # fmt: skip
def test_the_words_of_mimic_are_destinations(tmp_path: Path, words: str, destination: str | None) -> None:
    rows = mimic(1, (0, ADMITTED), (3, f"HOSPITAL_DISCHARGE//{words}"))
    with MedsDataset(dataset(tmp_path, rows)) as source:
        (patient,) = source.patients()
    assert patient.record(None).stays[-1].destination == destination


BROKEN: list[tuple[str, Any, str]] = [
    ("no such folder", None, "no parquet files"),
    ("not parquet", b"nothing", "cannot be read as parquet"),
    ("no code", [{"subject_id": 1, "time": START}], "no column 'code'"),
    (
        "dates",
        [{"subject_id": 1, "time": START.date(), "code": "A"}],
        "column 'time' is date32[day], and MEDS asks for a timestamp",
    ),
    (
        "texts",
        [{"subject_id": 1, "time": "2024-01-05 10:00", "code": "A"}],
        "column 'time' is string, and MEDS asks for a timestamp",
    ),
    ("numbers as texts", [{"subject_id": 1, "time": START, "code": "A", "numeric_value": "7"}], "asks for a number"),
    (
        "nobody's rows",
        [{"subject_id": 1, "time": START, "code": "A"}, {"subject_id": None, "time": START, "code": "A"}],
        "1 rows without a subject_id",
    ),
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


GIVEN_TIME = START + timedelta(days=5)
GIVEN = [
    ("MEDS", {"subject_id": [1, 2, 9], "prediction_time": [GIVEN_TIME] * 3, "boolean_value": [True, False, True]}),
    ("MEDS, integers", {"subject_id": [1, 2, 9], "prediction_time": [GIVEN_TIME] * 3, "integer_value": [3, 0, 1]}),
    ("ACES", {"subject_id": [1, 2, 9], "index_timestamp": [GIVEN_TIME] * 3, "label": [1, 0, 1]}),
    ("MEDS, all columns", {"subject_id": [1, 2, 9], "prediction_time": [GIVEN_TIME] * 3, "boolean_value": [True, False, True],
                           "integer_value": [None] * 3, "categorical_value": ["a"] * 3}),
]  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "csv", "folder"])
@pytest.mark.parametrize(("name", "columns"), GIVEN, ids=[row[0] for row in GIVEN])
def test_labels_of_a_file(tmp_path: Path, name: str, columns: dict[str, list[Any]], form: str) -> None:
    events = [(0, ADMITTED), (6, HOME)]
    data = dataset(tmp_path / "meds", [row for subject in (1, 2, 3) for row in mimic(subject, *events)])
    file = tmp_path / "labels" / ("a/0.parquet" if form == "folder" else f"l.{form}")
    file.parent.mkdir(parents=True)
    if form == "csv":
        lines = [
            ",".join(columns),
            *(",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)),
        ]
        file.write_text("\n".join(lines))
    else:
        parquet.write_table(pyarrow.table(columns), file)
    given = file if form != "folder" else tmp_path / "labels"
    done = run("build", "--task", "my_task", "--labels", given, "--meds", data, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    cohort = LabelledCohort.open(tmp_path / "out")
    assert [(row.subject_id, row.encounter_id, row.prediction_time, row.label) for row in cohort.rows] == [
        ("1", "1-0", GIVEN_TIME.replace(tzinfo=UTC), 1), ("2", "2-0", GIVEN_TIME.replace(tzinfo=UTC), 0),
    ]  # fmt: skip
    assert (cohort.task, cohort.definition) == ("my_task", "given-labels")
    assert cohort.manifest["left_out"] == {"labels of subjects that the data do not have": 1}
    assert cohort.manifest["patients_without_a_prediction"] == 1
    assert cohort.asked.question.id == "my_task"


BAD_LABELS = [
    ({"subject_id": [1], "boolean_value": [True]}, "no prediction_time"),
    ({"subject_id": [1], "prediction_time": [GIVEN_TIME]}, "no boolean_value"),
    ({"prediction_time": [GIVEN_TIME], "boolean_value": [True]}, "no subject_id"),
    ({"subject_id": [1], "prediction_time": ["soon"], "boolean_value": [True]}, "is not a time"),
    ({"subject_id": [1], "prediction_time": [GIVEN_TIME], "label": ["maybe"]}, "is not a label"),
    ({"subject_id": [1, 1], "prediction_time": [GIVEN_TIME] * 2, "boolean_value": [True, False]}, "disagree"),
    ({"subject_id": [1], "prediction_time": [GIVEN_TIME], "boolean_value": [None]}, "no label in it"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "message"), BAD_LABELS, ids=[row[1] for row in BAD_LABELS])
def test_label_files_that_cannot_be_used(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    data = dataset(tmp_path / "meds", mimic(1, (0, ADMITTED), (6, HOME)))
    parquet.write_table(pyarrow.table(columns), tmp_path / "l.parquet")
    answer = run("build", "--task", "t", "--labels", tmp_path / "l.parquet", "--meds", data, "--out", tmp_path / "out")
    assert isinstance(answer.exception, CohortError)
    assert message in str(answer.exception)


@pytest.mark.parametrize(
    ("years", "follow_up", "warned"), [(90, "data", True), (90, "none", False), (0, "data", False)]
)
def test_shifted_dates_warn_about_the_end_of_follow_up(
    tmp_path: Path, years: int, follow_up: str, warned: bool
) -> None:
    rows = []
    for subject in range(1, 5):
        shift = 365.25 * years * (subject % 2)
        events = [
            (shift, ADMITTED),
            (shift + 3, HOME),
            (shift + 20, ADMITTED),
            (shift + 22, HOME),
            (shift + 99, "ED_OUT"),
        ]
        rows += mimic(subject, *events[: 2 if subject > 2 else 5], (shift + 99, "ICD10CM//I50.9"))
    cohort = from_meds(
        dataset(tmp_path / "meds", rows), tmp_path / "out", "readmission_30d", "any-inpatient-30d", follow_up=follow_up
    )
    assert any("--follow-up patient" in warning for warning in cohort.manifest["warnings"]) is warned


@pytest.mark.parametrize("source", ["meds", "fhir"])
def test_any_number_of_workers_gives_the_same_cohort(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts = [whole_chart(f"p{number}", nested=number % 2 == 0) for number in range(12)]
    write(tmp_path / "fhir", charts)
    with MedsWriter(tmp_path / "meds", created_at=datetime(2024, 6, 1, tzinfo=UTC)) as written:
        for chart in charts:
            written.add(PatientRecord.from_resources(chart))
    monkeypatch.setattr("risk_model.cohorts.meds_source._ROWS_A_PART", 40)
    manifests = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        done = run("build", "--task", "readmission_30d", "--follow-up", "none", f"--{source}", tmp_path / source, "--out",
                   out, "--workers", workers)  # fmt: skip
        assert done.exit_code == 0, done.output
        manifests.append((out / "cohort.json").read_bytes())
    assert manifests[0] == manifests[1]


UNOWNED = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/nobody"}, "code": {"text": "X"}}


@pytest.mark.parametrize("source", ["meds", "fhir"])
def test_a_build_resumes_from_its_finished_parts(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every part finished nobody is labelled again, and what was left out is counted as before."""
    charts = [whole_chart(f"p{number}", nested=number % 2 == 0) for number in range(12)]
    write(tmp_path / "fhir", [*charts, [UNOWNED]])
    with MedsWriter(tmp_path / "meds", created_at=datetime(2024, 6, 1, tzinfo=UTC)) as written:
        for chart in charts:
            written.add(PatientRecord.from_resources(chart))
    task = find_definition("readmission_30d")

    def build(name: str) -> bytes:
        options = CohortOptions(follow_up="none", work=tmp_path / "work")
        opened = MedsDataset(tmp_path / "meds") if source == "meds" else FhirFolder(tmp_path / "fhir")
        with opened:
            build_cohort(task, opened, tmp_path / name, options)
        return (tmp_path / name / "cohort.json").read_bytes()

    (tmp_path / "work").mkdir()
    first = build("first")
    monkeypatch.delattr("risk_model.cohorts.builder._gather")
    assert build("second") == first
    if source == "fhir":
        assert json.loads(first)["left_out"]


def test_parts_hold_whole_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for subject in range(1, 8) for row in mimic(subject, *[(n, f"ICD10CM//A0{n}") for n in range(subject)])]
    folder = dataset(tmp_path / "meds", rows)
    table = parquet.read_table(folder / "data" / "0.parquet")
    parquet.write_table(table, folder / "data" / "0.parquet", row_group_size=4)
    for size in (1, 3, 5, 100):
        monkeypatch.setattr("risk_model.cohorts.meds_source._ROWS_A_PART", size)
        source = MedsDataset(folder)
        found = [(subject, [row["code"] for row in own]) for subject, own in source.subjects()]
        assert found == [(str(n), [f"ICD10CM//A0{k}" for k in range(n)]) for n in range(1, 8)]
