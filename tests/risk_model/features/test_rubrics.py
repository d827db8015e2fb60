"""Rubrics: the schema and its errors, unknown apart from no, the prompt, the check, and the few-shot comparison."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from cds_service.cli import cli
from fhir_mapping import PatientRecord
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.errors import TaskDefinitionError, TrainingError
from risk_model.core.tasks import TASKS
from risk_model.features.rubrics import Rubric, filled, parse_rubric, shipped_rubric
from risk_model.research import OFFICIAL
from risk_model.research.rubric_prompt import example_patients
from tests.risk_model.ward import ward, write

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def item(read: str, kind: str = "yes/no", **more: str) -> str:
    fields = {"id": "asked", "question": "Is it so?", "type": kind, "read": yaml.safe_load(read), **more}
    return yaml.safe_dump({"rubric": 1, "task": "t", "items": [fields]})


def answer(read: str, kind: str = "yes/no", present: frozenset[str] | None = None, **given: Any) -> float:
    rubric = parse_rubric(item(read, kind), "r.yaml")
    assert rubric.names[0] in {"rubric.asked", "rubric.notes.asked"}
    return float(rubric.row(record(**given), present)[0])


def record(not_fetched: frozenset[str] = frozenset(), resources: tuple[dict[str, Any], ...] = ()) -> PatientRecord:
    patient = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", "gender": "female"}
    return PatientRecord.from_resources([patient, *resources], "p", AT, not_fetched=not_fetched)


def lab(value: float, hours_ago: float, loinc: str = "2951-2", unit: str = "mmol/L") -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": f"o{hours_ago}", "status": "final", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
        "effectiveDateTime": (AT - timedelta(hours=hours_ago)).isoformat(),
        "valueQuantity": {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"},
    }  # fmt: skip


def condition(code: str, text: str, days_ago: float | None = 10) -> dict[str, Any]:
    found = {
        "resourceType": "Condition", "id": f"c{code}", "subject": {"reference": "Patient/p"},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}], "text": text},
    }  # fmt: skip
    return found if days_ago is None else found | {"recordedDate": (AT - timedelta(days=days_ago)).isoformat()}


def stay(name: str, kind: str, days_ago: float, days: float | None) -> dict[str, Any]:
    begin = AT - timedelta(days=days_ago)
    period = {"start": begin.isoformat()} | (
        {} if days is None else {"end": (begin + timedelta(days=days)).isoformat()}
    )
    return {
        "resourceType": "Encounter", "id": name, "subject": {"reference": "Patient/p"}, "period": period,
        "status": "in-progress" if days is None else "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
    }  # fmt: skip


SODIUM = (lab(128, 30), lab(131, 5), lab(136, 1))
HEART = "conditions: {words: [heart failure], codes: [{system: icd10cm, prefixes: [I50]}]}"


@pytest.mark.parametrize(
    ("read", "kind", "expected"),
    [
        ("concept: sodium, aggregate: last", "number", 136),
        ("concept: sodium, aggregate: first", "number", 128),
        ("concept: sodium, aggregate: min, within: 24 h", "number", 131),
        ("concept: sodium, aggregate: mean", "number", (128 + 131 + 136) / 3),
        ("concept: sodium, aggregate: count, within: 24 h", "count", 2),
        ("concept: sodium, aggregate: min, below: 130", "yes/no", 1),
        ("concept: sodium, aggregate: min, within: 24 h, below: 130", "yes/no", 0),
        ("concept: sodium, aggregate: max, above: 130, at_most: 136", "yes/no", 1),
        ("concept: sodium, levels: [120, 130, 136, 150]", "level", 3),
        ("concept: age", "number", 74),
        ("concept: potassium", "number", np.nan),
        ("concept: potassium, above: 5", "yes/no", np.nan),
        ("concept: potassium, levels: [5]", "level", np.nan),
        ("concept: potassium, aggregate: count", "count", 0),
    ],
)
def test_measured_values(read: str, kind: str, expected: float) -> None:
    np.testing.assert_allclose(answer("{" + read + "}", kind, resources=SODIUM), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ((condition("I50.9", "something"),), 1),
        ((condition("Z00", "Acute Heart Failure"),), 1),
        ((condition("Z00", "ischaemic heart disease"),), 0),
        ((), 0),
    ],
)
def test_conditions_by_code_or_words(resources: tuple[dict[str, Any], ...], expected: float) -> None:
    assert answer("{" + HEART + "}", resources=resources) == expected


def test_what_was_not_fetched_is_unknown_and_never_no() -> None:
    nothing = frozenset({"Condition", "Observation", "Encounter", "Procedure", "MedicationRequest", "MedicationStatement",
                         "MedicationAdministration"})  # fmt: skip
    for read, kind in (
        (HEART, "yes/no"), ("medications: {words: [insulin]}", "yes/no"), ("procedures: {any: true}", "count"),
        ("stays: any", "count"), ("concept: sodium, aggregate: count", "count"), ("findings: [Sepsis]", "yes/no"),
    ):  # fmt: skip
        assert np.isnan(answer("{" + read + "}", kind, not_fetched=nothing)), read


def test_a_window_and_no_date_is_unknown() -> None:
    windowed = "{" + HEART + ", within: 30 d}"
    assert answer(windowed, resources=(condition("I50.9", "hf", 10),)) == 1
    assert answer(windowed, resources=(condition("I50.9", "hf", 40),)) == 0
    assert np.isnan(answer(windowed, resources=(condition("I50.9", "hf", None),)))
    assert answer(windowed, resources=(condition("I50.9", "hf", 10), condition("I50.1", "lvf", None))) == 1


def test_earlier_stays_and_not_the_running_one() -> None:
    stays = (stay("a", "IMP", 2, None), stay("b", "IMP", 100, 3), stay("c", "IMP", 500, 3), stay("d", "EMER", 50, 0.2))
    assert answer("{stays: inpatient}", "count", resources=stays) == 2
    assert answer("{stays: inpatient, within: 365 d}", "count", resources=stays) == 1
    assert answer("{stays: [inpatient, emergency], within: 365 d}", "count", resources=stays) == 2
    assert answer("{stays: any}", "yes/no", resources=stays) == 1


def test_findings_of_notes() -> None:
    assert answer("{findings: [Sepsis, Pneumonia]}", present=frozenset({"Sepsis"})) == 1
    assert answer("{findings: [Sepsis]}", present=frozenset()) == 0
    assert np.isnan(answer("{findings: [Sepsis]}", present=None))


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("rubric: 2\ntask: t\nitems: [{}]", "rubric", "must be 1"),
        ("rubric: 1\ntask: t\nitems: []", "items", "not empty"),
        ("rubric: 1\ntask: t", "the file", "'items' is missing"),
        ("rubric: 1\n  task: t", "line 2", "not YAML"),
        ("- 1", "the file", "expected a mapping"),
        (item("{concept: sodum}", "number"), "items[0].read.concept", "'sodum' is none of"),
        (item("{concept: sodium, aggregate: median}", "number"), "items[0].read.aggregate", "none of"),
        (item("{concept: sodium}"), "items[0].read", "needs a bound"),
        (item("{concept: sodium, above: 2}", "number"), "items[0].read.above", "belongs to type yes/no"),
        (item("{concept: sodium}", "level"), "items[0].read", "levels"),
        (item("{concept: sodium, levels: [3, 2]}", "level"), "items[0].read.levels", "must rise"),
        (item("{concept: sodium, within: soon}", "number"), "items[0].read.within", "no duration"),
        (item("{concept: sodium, within: -3 d}", "number"), "items[0].read.within", "longer than nothing"),
        (item("{stays: inpatient, concept: sodium}", "count"), "items[0].read", "exactly one of"),
        (item("{stays: hotel}", "count"), "items[0].read.stays", "'hotel' is none of"),
        (item("{conditions: {active: true}}"), "items[0].read.conditions", "needs words"),
        (
            item("{conditions: {codes: [{system: icd, codes: [I1]}]}}"),
            "items[0].read.conditions.codes[0].system",
            "URI",
        ),
        (item("{procedures: {any: true, active: true}}"), "items[0].read.procedures", "unknown key 'active'"),
        (item("{findings: [Sepsis], within: 3 d}"), "items[0].read.within", "no window"),
        (item("{stays: any}", "number"), "items[0].type", "use count"),
        (item("{stays: any}", "maybe"), "items[0].type", "none of"),
        (item("{stays: any}", "count", id="Äh"), "items[0].id", "small letters"),
        (item("{stays: any}", "count", note="x"), "items[0]", "unknown key 'note'"),
    ],
)
def test_a_wrong_rubric_names_the_field(text: str, field: str, words: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        parse_rubric(text, "r.yaml")
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "r.yaml" in str(caught.value)


def test_an_id_that_is_there_twice_is_refused() -> None:
    once = yaml.safe_load(item("{stays: any}", "count"))
    with pytest.raises(TaskDefinitionError, match="twice"):
        parse_rubric(yaml.safe_dump(once | {"items": once["items"] * 2}), "r.yaml")


@pytest.mark.parametrize("task", sorted({*TASKS, *(item.task for item in OFFICIAL)}))
def test_every_task_has_a_shipped_rubric_that_reads_a_record(task: str) -> None:
    rubric = Rubric.open(shipped_rubric(task))
    assert rubric.task == task
    assert len(rubric.items) >= 15
    row = rubric.row(record(resources=SODIUM))
    assert row.shape == (len(rubric.items),)
    assert np.isfinite(row).any()


def test_unknown_stays_apart_from_the_middle() -> None:
    train = np.array([[1.0, np.nan], [3.0, np.nan]], np.float32)
    np.testing.assert_array_equal(filled(np.array([[np.nan, 5.0]], np.float32), train), [[2, 5, 0, 1]])


# commands --------------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ward")
    write(folder / "export", ward(150, seed=12, shift=0.8))
    built = run("cohort", "build", "--task", "readmission_30d", "--fhir", folder / "export", "--out", folder / "cohort",
                "--split", "0.25,0.25")  # fmt: skip
    assert built.exit_code == 0, built.output
    return folder / "cohort"


def test_the_prompt_shows_training_patients_of_both_kinds_and_the_rules(cohort: Path, tmp_path: Path) -> None:
    result = run("rubric", "prompt", "--cohort", cohort, "--examples", 20, "--out", tmp_path / "prompt.md")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "prompt.md").read_text()
    assert text.count('outcome="yes"') == text.count('outcome="no"') == 10
    assert "task: readmission_30d" in text
    assert "creatinine (mg/dL)" in text
    assert (tmp_path / "prompt.md").stat().st_mode & 0o077 == 0
    # What the prompt shows as an example is itself a rubric without fault.
    assert len(parse_rubric(text, "prompt.md").items) == 4


def test_examples_are_of_the_training_split_alone_and_too_few_is_an_error(cohort: Path) -> None:
    opened = LabelledCohort.open(cohort)
    train = {r.to_markdown(300) for _, r in opened.records("train")}
    assert {patient.text for patient in example_patients(opened, 20, 300)} <= train
    with pytest.raises(TrainingError, match="ask for at most --examples"):
        example_patients(opened, 200, 300)


def test_a_models_answer_is_checked_counted_and_written_out(cohort: Path, tmp_path: Path) -> None:
    rubric = shipped_rubric("readmission_30d").read_text()
    (tmp_path / "answer.md").write_text(f"Of course! Here it is:\n\n```yaml\n{rubric}```\nAnything else?")
    out = tmp_path / "rubric.yaml"
    result = run("rubric", "check", tmp_path / "answer.md", "--cohort", cohort, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    items = {item["id"]: item for item in json.loads(result.output)["items"]}
    assert items["age"]["known"] == 1
    assert 0 < items["low_sodium"]["known"] <= 1
    assert Rubric.open(out).names == parse_rubric(rubric, "r").names
    (tmp_path / "bad.md").write_text("```yaml\nrubric: 1\ntask: t\nitems: [{id: a}]\n```")
    assert isinstance(run("rubric", "check", tmp_path / "bad.md").exception, TaskDefinitionError)


def test_a_rubric_stands_in_the_few_shot_table(cohort: Path, tmp_path: Path) -> None:
    result = run("few-shot", "--cohort", cohort, "--rubric", shipped_rubric("readmission_30d"), "--encoder", "static",
                 "--draws", 2, "--bootstraps", 30, "--out", tmp_path)  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    table = json.loads((tmp_path / "few_shot.json").read_text())["shots"]["all"]
    assert list(table) == ["embedding", "counts", "counts_boosted", "rubric"]
    # Earlier stays, age and heart failure decide in this ward, and the rubric asks for all three.
    assert table["rubric"]["auroc"]["value"] > 0.6


def test_items_on_notes_are_answered_in_the_few_shot_table_by_a_reader(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text(
        "rubric: 1\ntask: readmission_30d\nitems:\n  - id: heart\n    question: Do notes tell of heart failure?\n"
        "    type: yes/no\n    read: {findings: [heart failure]}\n"
    )
    common = ("few-shot", "--cohort", cohort, "--rubric", tmp_path / "notes.yaml", "--encoder", "static", "--draws", 1,
              "--bootstraps", 30, "--out")  # fmt: skip
    unread, read = run(*common, tmp_path / "a"), run(*common, tmp_path / "b", "--note-reader", "rules")
    assert unread.exit_code == read.exit_code == 0, (unread.output, read.output)
    alone, with_notes = (json.loads((tmp_path / name / "few_shot.json").read_text())["shots"]["all"] for name in "ab")
    assert alone["rubric"]["auroc"]["value"] == 0.5  # nobody read the notes: unknown, the same for all
    assert with_notes["rubric"]["auroc"]["value"] != 0.5
    assert run("few-shot", "--cohort", cohort, "--out", tmp_path / "c", "--note-reader", "rules").exit_code == 2
