"""Cohorts: from folders of FHIR to labels, splits and records; and what tries to leak, does not."""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_service.commands.modelling.cohort import command
from risk_model.cohorts.builder import CohortOptions, build_cohort
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import CohortRow, LabelledCohort, record_of
from risk_model.cohorts.splits import ByTime
from risk_model.core.errors import CohortError
from risk_model.labels.task_definitions import find_definition
from tests.conftest import REPOSITORY
from tests.risk_model.labels.test_labelling import condition, day, lab, procedure, stay

Resource = dict[str, Any]


def chart(name: str, *resources: Resource, **patient: Any) -> list[Resource]:
    """The resources of `test_labels`, made those of patient `name`."""
    text = json.dumps(resources).replace("Patient/p", f"Patient/{name}")
    for resource in resources:
        identifier = resource["id"]
        text = text.replace(f'"id": "{identifier}"', f'"id": "{name}-{identifier}"')
        text = text.replace(f'"Encounter/{identifier}"', f'"Encounter/{name}-{identifier}"')
    return [{"resourceType": "Patient", "id": name, "birthDate": "1950-01-01", **patient}, *json.loads(text)]


def population(number: int = 40) -> list[list[Resource]]:
    """Every third patient comes back after ten days; each has a sodium in the stay and a diagnosis without a date."""
    charts = []
    for n in range(number):
        undated = {k: v for k, v in condition(1, "I50.9").items() if k != "recordedDate"}
        undated["encounter"] = {"reference": "Encounter/a"}
        resources = [stay("a", n, n + 3.5), lab(n + 1, "2951-2", 130 + n % 10, "mmol/L"), undated]
        if n % 3 == 0:
            resources += [stay("b", n + 13, n + 15), lab(n + 14, "2951-2", 111, "mmol/L")]
        charts.append(chart(f"p{n:02d}", *resources))
    charts.append(chart("late", stay("z", 500, 501)))
    return charts


def write(folder: Path, charts: list[list[Resource]]) -> Path:
    """As Bulk Data: a file for each type."""
    folder.mkdir(parents=True, exist_ok=True)
    by_type: dict[str, list[str]] = {}
    for resources in charts:
        for resource in resources:
            by_type.setdefault(resource["resourceType"], []).append(json.dumps(resource))
    for kind, lines in by_type.items():
        (folder / f"{kind}.ndjson").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def make(tmp_path: Path, charts: list[list[Resource]], task: str = "readmission_30d", **options: Any) -> LabelledCohort:
    definition = options.pop("definition", None)
    with FhirFolder(write(tmp_path / "fhir", charts)) as source:
        return build_cohort(find_definition(task, definition), source, tmp_path / "out", CohortOptions(**options))


def test_a_cohort_from_bulk_data_and_back(tmp_path: Path) -> None:
    cohort = make(tmp_path, population())
    assert (cohort.manifest["rows"], cohort.manifest["positives"], cohort.manifest["patients"]) == (54, 14, 40)
    assert cohort.manifest["excluded"] == {"follow-up ends before the window": 1}
    assert cohort.manifest["folds"] == 5
    assert LabelledCohort.open(cohort.folder).rows == cohort.rows
    found = list(cohort.records())
    assert sorted(found_row.subject_id for found_row, _ in found) == [row.subject_id for row in cohort.rows]
    first = next(record for row, record in found if row.encounter_id == "p00-a").features()
    assert (first.number("sodium.last"), first.number("length_of_stay.last"), first.number("condition.count")) == (
        130,
        3.5,
        1,
    )
    assert first.number("procedure.count") is None, "no procedure was exported: unknown, not none"


def test_bundles_of_one_patient_to_a_file_and_gzip_give_the_same_rows_and_say_what_there_is_none_of(
    tmp_path: Path,
) -> None:
    charts = population()
    expected = make(tmp_path, charts)
    folder = tmp_path / "bundles"
    folder.mkdir()
    for number, resources in enumerate(charts):
        text = json.dumps(resources)
        for resource in resources:  # references by urn:uuid, as Synthea writes them
            key = f"{resource['resourceType']}/{resource['id']}"
            text = text.replace(f'"reference": "{key}"', f'"reference": "urn:uuid:{resource["id"]}"')
        entries = [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in json.loads(text)]
        bundle = json.dumps(
            {"resourceType": "Bundle", "type": "transaction", "entry": entries}, indent=number % 2 or None
        )
        with gzip.open(folder / f"{number}.json.gz", "wt") as stream:
            stream.write(bundle)
    with FhirFolder(folder) as source:
        cohort = build_cohort(find_definition("readmission_30d"), source, tmp_path / "out2", CohortOptions())
    assert cohort.rows == expected.rows
    for (row, record), (same_row, same) in zip(cohort.records(), expected.records(), strict=True):
        assert row == same_row
        whole, exported = record.features(), same.features()
        assert all(exported.values[name].value == whole.values[name].value for name in exported)


def test_splits_part_no_patient_and_do_not_change_when_the_cohort_grows(tmp_path: Path) -> None:
    small = make(tmp_path / "a", population(30))
    large = make(tmp_path / "b", population(90))
    for cohort in (small, large):
        places: dict[str, set[Any]] = {}
        for row in cohort.rows:
            places.setdefault(row.person, set()).add((row.split, row.fold))
        assert places
        assert all(len(found) == 1 for found in places.values())
        for fold in range(cohort.manifest["folds"]):
            assert {row.label for row in cohort.rows if row.fold == fold} == {0, 1}
    split_of = {row.subject_id: row.split for row in large.rows}
    assert small.rows
    assert all(split_of[row.subject_id] == row.split for row in small.rows)
    assert {row.split for row in large.rows} == {"train", "validation", "test"}


def test_a_temporal_split_keeps_patients_and_horizons_apart(tmp_path: Path) -> None:
    first, second = (datetime.fromisoformat(day(n)) for n in (30, 60))
    cohort = make(tmp_path, population(90), plan=ByTime(first, second), folds=2)
    people: dict[str, set[str]] = {}
    for row in cohort.rows:
        people.setdefault(row.person, set()).add(row.split)
        known = (row.prediction_time - datetime(2024, 1, 1, tzinfo=UTC)).days + 30
        if row.split == "train":
            assert known < 30 + 1
            assert row.prediction_time < first
    assert people
    assert all(len(splits) == 1 for splits in people.values())
    assert cohort.manifest["excluded"]["outside its split's period"] > 0


TWIN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("identifier", {"identifier": [{"system": "urn:mrn", "value": "7"}]}, {"identifier": [{"system": "urn:ssn", "value": "1"}, {"system": "urn:mrn", "value": "7"}]}),
    ("link", {}, {"link": [{"other": {"reference": "Patient/p00"}, "type": "replaces"}]}),
    ("name and birth date", {"name": [{"family": "Roe", "given": ["Ada"]}], "gender": "female"}, {"name": [{"family": "ROE", "given": ["Ada", "B."]}], "gender": "female"}),
    ("nothing but the same content", {}, {"identifier": [{"system": "urn:new", "value": "9"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "original", "twin"), TWIN, ids=[row[0] for row in TWIN])
def test_one_person_under_two_ids_is_never_parted(
    tmp_path: Path, name: str, original: dict[str, Any], twin: dict[str, Any]
) -> None:
    charts = population(30)
    charts[0][0] |= original
    for number in range(20):  # many copies: a split by id would part some of them
        copied = json.loads(json.dumps(charts[0]).replace("p00", f"copy{number}"))
        copied[0] = {"resourceType": "Patient", "id": f"copy{number}", "birthDate": "1950-01-01", **twin}
        if name != "nothing but the same content":
            copied[1]["reasonCode"] = [{"text": f"told differently {number}"}]
        charts.append(copied)
    cohort = make(tmp_path, charts)
    same = {
        (r.split, r.fold, r.person) for r in cohort.rows if r.subject_id == "p00" or r.subject_id.startswith("copy")
    }
    assert len(same) == 1
    assert len({row.person for row in cohort.rows}) == 30


def test_nothing_after_the_prediction_changes_a_record(tmp_path: Path) -> None:
    """The cheat: another future (a longer stay, a death, a later stay with undated diagnoses and procedures)."""
    task = {"task": "in_hospital_mortality", "follow_up": "none"}
    base = population(12)
    base[-1] += chart("late", procedure("z", "0SRC0J9"))[1:]  # procedures are exported in both
    base[1][1] |= {"hospitalization": {"dischargeDisposition": {"coding": [{"code": "exp"}]}}}
    plain = make(tmp_path / "a", base, **task)
    other = copy.deepcopy(base)
    for n, resources in enumerate(other):
        if resources[0]["id"] == "late":
            continue
        name = resources[0]["id"]
        resources[1]["period"]["end"] = day(n + 25)
        resources[1]["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
        resources[0]["deceasedDateTime"] = day(n + 25)
        resources[:] = [r for r in resources if r["id"] not in {f"{name}-b", f"{name}-c1"}]
        resources += chart(
            name, stay("d", n + 40, n + 41), procedure("d", "0SRC0J9"), lab(n + 2, "2823-3", 9.0, "mmol/L")
        )[1:]
        undated = {k: v for k, v in condition(77, "C78.0").items() if k != "recordedDate"}
        resources += chart(name, undated | {"encounter": {"reference": f"Encounter/{name}-d"}})[1:]
    # A survivor for the other class.
    other.append(chart("well", stay("a", 0, 5)))
    changed = make(tmp_path / "b", other, **task)
    before = {row.subject_id: record for row, record in plain.records() if row.encounter_id.endswith("-a")}  # type: ignore[union-attr]
    after = {row.subject_id: (row, record) for row, record in changed.records() if row.subject_id in before}
    assert len(after) == 12
    for subject, (row, record) in after.items():
        assert row.label == 1
        assert {r.reason for r in record.refused} == {"encounter-not-over"}, "what was cut, and nothing else, is named"
        then, now = before[subject].features(), record.features()
        assert (now.values, now.unknown) == (then.values, then.unknown)
        assert record.to_codes() == before[subject].to_codes()
        assert record.deceased is None
        assert record.current_stay is not None
        assert record.current_stay.end is record.current_stay.discharge_disposition is None


def test_an_undated_diagnosis_is_known_from_the_end_of_its_encounter(tmp_path: Path) -> None:
    resources = population(1)[0]
    for moment, conditions in ((1.5, 0), (3.4, 0), (3.5, 1)):
        row = CohortRow("p00", "p00-a", datetime.fromisoformat(day(moment)), 0, None, "train", None, "p00")
        assert len(record_of(resources, row, frozenset()).conditions) == conditions, moment


def test_a_running_stay_is_no_survivor(tmp_path: Path) -> None:
    charts = population(6)
    charts[0][1]["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
    del charts[2][1]["period"]["end"]
    cohort = make(tmp_path, charts, task="in_hospital_mortality")
    assert cohort.manifest["excluded"]["label unknown"] == 1


def test_follow_up_decides_whether_a_negative_is_believed(tmp_path: Path) -> None:
    charts = population(12)[:-1]
    expected = {"none": 16, "patient": 4, "data": 4, datetime.fromisoformat(day(35)): 5}
    for number, (follow_up, rows) in enumerate(expected.items()):
        cohort = make(tmp_path / str(number), charts, follow_up=follow_up) if rows > 4 else None
        if cohort is None:
            with pytest.raises(
                CohortError, match=r"no negative outcome among 4 rows.*follow-up ends before the window"
            ):
                make(tmp_path / str(number), charts, follow_up=follow_up)
            continue
        assert cohort.manifest["rows"] == rows, follow_up
    kept = make(tmp_path / "ehrshot", charts, definition="ehrshot")
    assert (kept.manifest["rows"], kept.manifest["negatives_with_short_follow_up"]) == (16, 12)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


BAD: list[tuple[str, dict[str, str], str]] = [
    ("empty folder", {}, "no file in this folder ends in"),
    ("no patient", {"Encounter.ndjson": '{"resourceType": "Encounter", "id": "e"}'}, "no Patient in 1 files"),
    ("a broken line", {"Patient.ndjson": '{"resourceType": "Patient", "id": "p"}\n{"resourceType": "Pat'}, "fhir/Patient.ndjson:2: not a FHIR resource: Input data was truncated"),
    ("not FHIR", {"Patient.ndjson": '{"resourceType": "Patient", "id": "p"}\n{"a": 1}'}, "fhir/Patient.ndjson:2: not a FHIR resource: no resourceType"),
    ("broken gzip", {"Patient.ndjson.gz": "not gzip"}, "fhir/Patient.ndjson.gz:1: cannot be read any further"),
    ("no stays", {"Patient.ndjson": '{"resourceType": "Patient", "id": "p"}'}, "no row for readmission_30d (any-inpatient-30d) in 1 patients; encounters by class: none"),
    ("half a searchset", {"a.json": '{"resourceType": "Bundle", "type": "searchset", "total": 9, "entry": [{"resource": {"resourceType": "Patient", "id": "p"}}]}'}, "not everything"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "message"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_errors_name_the_cause(tmp_path: Path, name: str, files: dict[str, str], message: str) -> None:
    folder = tmp_path / "fhir"
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text, "utf-8")
    answer = run("build", "--task", "readmission_30d", "--fhir", folder, "--out", tmp_path / "out")
    assert message in str(answer.exception)


def test_no_positives_and_too_few_for_the_folds(tmp_path: Path) -> None:
    charts = [resources[:3] for resources in population(6)[:-1]] + [chart("late", stay("z", 500, 501))]
    with pytest.raises(CohortError, match="no positive outcome among 6 rows"):
        make(tmp_path / "a", charts)
    with pytest.raises(CohortError, match=r"9 folds need 9 patients with the outcome and there are 2.*one class only"):
        make(tmp_path / "b", population(6), folds=9)
    assert not (tmp_path / "a" / "out").exists(), "half a cohort stays behind"
    (tmp_path / "b" / "out").mkdir()
    (tmp_path / "b" / "out" / "mine.txt").write_text("x")
    with pytest.raises(CohortError, match="not an empty folder"):
        make(tmp_path / "b", population(6))


def test_an_altered_cohort_is_not_opened(tmp_path: Path) -> None:
    cohort = make(tmp_path, population(6))
    labels = cohort.folder / "labels.jsonl"
    labels.write_text(labels.read_text().replace('"label":0', '"label":1', 1))
    with pytest.raises(CohortError, match="altered"):
        LabelledCohort.open(cohort.folder)
    with pytest.raises(CohortError, match="no cohort"):
        LabelledCohort.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": None}, "must name the files"),
        ({"sha256": {}}, "must name the files"),
        ({"sha256": {"labels.jsonl": 3}}, "needs a sha256"),
        ({"sha256": {"labels.jsonl": "0" * 64}}, r"must name patients\.ndjson\.gz, task\.yaml"),
        ({"sha256": {"../labels.jsonl": "0" * 64}}, "leaves the folder"),
        ({"format": 2}, "another format"),
    ],
)
def test_a_malformed_manifest_is_a_cohort_error(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    """A cohort.json without `sha256` used to raise KeyError."""
    path = make(tmp_path, population(6)).folder / "cohort.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CohortError, match=reason):
        LabelledCohort.open(path.parent)


def test_the_command_builds_reports_and_lists(tmp_path: Path) -> None:
    folder = write(tmp_path / "fhir", population())
    answer = run("build", "--task", "readmission_30d", "--label", "ehrshot", "--fhir", folder, "--out", tmp_path / "o", "--json")  # fmt: skip
    assert answer.exit_code == 0, answer.output
    manifest = json.loads(answer.stdout)
    assert (manifest["definition"], manifest["by_split"]["train"]["rows"] > 0) == ("ehrshot", True)
    own = tmp_path / "own.yaml"
    listed = run("tasks", "readmission_30d", "--label", "cms-hwr")
    own.write_text(listed.output.replace("id: readmission_30d", "id: my_readmission"))
    answer = run(
        "build", "--task", own, "--fhir", folder, "--out", tmp_path / "mine", "--split", "2024-01-20,2024-02-05"
    )
    assert answer.exit_code == 0, answer.output
    assert "my_readmission" in answer.output
    assert "hospital-score" in run("tasks").output
    for wrong in (
        ["--split", "0.9,0.3"],
        ["--split", "2024-05-01,2024-01-01"],
        ["--zone", "Mars/Olympus"],
        ["--meds", "x"],
    ):
        assert (
            run("build", "--task", "readmission_30d", "--fhir", folder, "--out", tmp_path / "w", *wrong).exit_code == 2
        )


@pytest.mark.shared_data
def test_real_synthea_bundles_make_cohorts(shared_data: Path, tmp_path: Path) -> None:
    with FhirFolder(shared_data / "synthea" / "original") as source:
        cohort = build_cohort(
            find_definition("readmission_30d", "fhir-former"), source, tmp_path / "out", CohortOptions()
        )
    assert cohort.manifest["rows"] >= 10
    assert len(list(cohort.records())) == len(cohort.rows)


def test_shared_resources_come_with_the_patients_that_point_at_them(tmp_path: Path) -> None:
    charts = population(6)
    ward = {"resourceType": "Location", "id": "ward", "type": [{"coding": [{"code": "ICU"}]}]}
    bed = {"resourceType": "Location", "id": "bed", "partOf": {"reference": "Location/ward"}}
    note = {"resourceType": "Binary", "id": "text", "contentType": "text/plain", "data": "SGVsbG8="}
    charts[0][1]["location"] = [{"location": {"reference": "Location/bed"}}]
    charts[0].append(
        {"resourceType": "DocumentReference", "id": "d", "status": "current", "subject": {"reference": "Patient/p00"},
         "date": day(1), "content": [{"attachment": {"url": "Binary/text", "contentType": "text/plain"}}]}
    )  # fmt: skip
    with FhirFolder(write(tmp_path / "fhir", [*charts, [ward, bed, note]])) as source:
        found = {patient.subject_id: [r["id"] for r in patient.resources] for patient in source.patients()}
    assert {"bed", "ward", "text"} <= set(found["p00"])
    assert not {"bed", "ward", "text"} & set(found["p01"])


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("readmission_30d", 0, "30-day readmission"),
        ("readmission", 3, "known tasks: "),
        ("broken.yaml", 3, "broken.yaml: trigger.event: 'arrival' is none of admission"),
        ("in_hospital_mortality", 3, "no positive outcome"),
    ],
)
def test_exit_codes_as_users_meet_them(tmp_path: Path, task: str, code: int, message: str) -> None:
    (tmp_path / "broken.yaml").write_text(
        "id: x\ntrigger: {event: arrival}\nwindow: {to: 1 d}\nlabel: {death: in_stay}\n"
    )
    folder = write(tmp_path / "fhir", population(12))
    arguments = [
        sys.executable,
        "-m",
        "cds_service.cli",
        "cohort",
        "build",
        "--task",
        task,
        "--fhir",
        "fhir",
        "--out",
        "o",
    ]
    found = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert found.returncode == code, found.stderr
    assert message in found.stdout + found.stderr
    assert "Traceback" not in found.stderr


def test_the_manifest_of_an_export_is_no_resource_and_a_single_file_will_do(tmp_path: Path) -> None:
    folder = write(tmp_path / "fhir", population(6))
    request = "https://ehr.example/fhir/Group/7/$export?_type=Patient"
    manifest = {"transactionTime": "2024-01-01T00:00:00Z", "request": request, "output": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    one = tmp_path / "all.ndjson"
    one.write_text("".join(path.read_text() for path in sorted(folder.glob("*.ndjson"))))
    rows = []
    for number, source in enumerate((folder, one)):
        with FhirFolder(source) as opened:
            rows.append(
                build_cohort(find_definition("readmission_30d"), opened, tmp_path / str(number), CohortOptions()).rows
            )
    assert rows[0] == rows[1]


def test_classes_that_do_not_say_what_a_hospital_stay_is_are_warned_of(tmp_path: Path) -> None:
    """MIMIC-IV on FHIR: the hospital stay is an "observation", its part in intensive care is "acute"."""
    charts = population(12)
    words = "part of an encounter of another class"
    assert not any(words in warning for warning in make(tmp_path / "a", charts).manifest["warnings"])
    part = stay("icu", 0.5, 2, "ACUTE", None, partOf={"reference": "Encounter/a"})
    charts.append(chart("m", stay("a", 0, 6, "OBSENC"), part))
    found = [warning for warning in make(tmp_path / "b", charts).manifest["warnings"] if words in warning]
    assert [warning.partition(" ")[0] for warning in found] == ["1"]
