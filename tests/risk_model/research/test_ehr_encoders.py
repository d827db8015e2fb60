"""The EHRSHOT protocol on MEDS data: what is told of a record, which labels, and the whole command on small cohorts."""

# ruff: noqa: DTZ001  # MEDS times have no zone
from __future__ import annotations

import json
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cds_service.cli import cli
from risk_model.cohorts.meds_source import MedsDataset
from risk_model.core.errors import CohortError
from risk_model.research.ehr_encoders import code_counts, mean_over_tasks, usable_tasks, warning
from risk_model.research.meds_examples import Examples, PredictionExample, examples_from_label_files, prepare_examples
from risk_model.research.meds_markdown import PARTS, SERIALISERS, markdown
from risk_model.research.meds_text import Subject, Vocabulary
from risk_model.research.meds_visits import SubjectEvent

pq = pytest.importorskip("pyarrow.parquet", reason="the extra [meds] is not installed")
pytest.importorskip("lightgbm", reason="the extra [benchmark] is not installed: make llm")

NOON = datetime(2020, 5, 1, 12)
WORDS = Vocabulary.of(
    [
        {"code": "ICD10CM//I50", "description": "Heart failure", "parent_codes": ["ICD10CM//I"]},
        {"code": "ICD10CM//I", "description": "Circulation", "parent_codes": ["ICD10CM"]},
        {"code": "LOINC//2951-2", "description": "Sodium", "parent_codes": None},
    ]
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, "".join(traceback.format_exception(result.exception)))
    return result


def before(days: float) -> datetime:
    return NOON - timedelta(days=days)


SUBJECT = Subject(
    [
        SubjectEvent(None, "GENDER//F", None),
        SubjectEvent(datetime(1950, 1, 1), "MEDS_BIRTH", None),
        SubjectEvent(before(400), "ICD10CM//I50", None),
        SubjectEvent(before(3), "LOINC//2951-2", 131.0),
        SubjectEvent(before(2), "LOINC//2951-2", 133.0),
        SubjectEvent(before(2), "LOCAL//ward", None),
        SubjectEvent(NOON, "ICD10CM//I50", None),
        SubjectEvent(NOON + timedelta(seconds=1), "ICD10CM//C25", None),
        SubjectEvent(NOON + timedelta(days=9), "MEDS_DEATH", None),
    ],
    WORDS,
)


def test_codes_are_listed_newest_first_each_once_and_nothing_later() -> None:
    assert SUBJECT.codes(NOON, 8000) == "Heart failure\nLOCAL ward\nSodium"
    assert SUBJECT.codes(before(1), 8000) == "LOCAL ward\nSodium\nHeart failure"
    assert SUBJECT.codes(NOON, 4) == "Heart failure"
    assert SUBJECT.codes(datetime(1949, 1, 1), 8000) == ""


def visited(at: datetime, *events: tuple[float, str, float | None, str | None]) -> Subject:
    rows = [SubjectEvent(None, "GENDER//F", None), SubjectEvent(datetime(1950, 1, 1), "MEDS_BIRTH", None)]
    rows += [SubjectEvent(at - timedelta(days=days), code, number, unit) for days, code, number, unit in events]
    return Subject(rows, WORDS)


STAYS = visited(
    NOON,
    (100, "HOSPITAL_ADMISSION//URGENT", None, None), (99, "ICD10CM//I50", None, None), (99, "ICD10CM//I50", None, None),
    (98, "LOINC//2951-2", 141.0, "mmol/L"), (97, "RXNORM//4603", None, None), (95, "HOSPITAL_DISCHARGE//HOME", None, None),
    (50, "PROCEDURE//ICD//10//0BJ08ZZ", None, None), (2, "VISIT/IP", None, None), (2, "LOINC//2951-2", 131.0, "mmol/L"),
    (1, "LOINC//2951-2//mmol/L", 120.0, None), (1, "LOINC//2951-2", 5.0, None), (-3, "VISIT/IP/end", None, None),
    (-1, "ICD10CM//C25", None, None),
)  # fmt: skip


def test_markdown_has_demographics_ranges_visits_and_their_events() -> None:
    text = markdown(STAYS, NOON, 8000)
    assert text.splitlines()[:8] == [
        "# Electronic Healthcare Record", "", "Current time: 2024-01-01", "", "## Demographics", "- Age: 70",
        "- Sex: female", "",
    ]  # fmt: skip
    assert "- Sodium (mmol/L): 120 (low), 131 (low), 141 (normal)" in text
    assert "- Current visit: inpatient stay, begun 2 days before prediction time" in text
    assert "- Inpatient stay, 100 days before prediction time, duration 5 days" in text
    current, _, past = text.partition("### Inpatient stay, 100 days")
    assert "## Events outside visits\n- Procedure: PROCEDURE ICD 10 0BJ08ZZ" in current
    assert "\n- Sodium: 5, 131\n- LOINC 2951-2 mmol/L: 120" in current
    assert past.count("- Condition: Heart failure") == 1
    assert past.index("- Condition: Heart") < past.index("- Medication: RXNORM 4603") < past.index("- Sodium: 141")


def test_markdown_shows_nothing_later_and_no_end_of_a_running_visit() -> None:
    text = markdown(STAYS, NOON, 8000)
    assert "C25" not in text
    assert "2020" not in text
    ended = visited(NOON, (2, "VISIT/IP", None, None), (1, "VISIT/IP/end", None, None))
    running = visited(NOON, (2, "VISIT/IP", None, None), (-9, "VISIT/IP/end", None, None))
    never = visited(NOON, (2, "VISIT/IP", None, None))
    assert markdown(running, NOON, 8000) == markdown(never, NOON, 8000) != markdown(ended, NOON, 8000)


def test_markdown_of_nothing_is_unknown_and_never_normal() -> None:
    text = markdown(Subject([], Vocabulary({}, {})), NOON, 8000)
    assert "- Age: unknown\n- Sex: unknown" in text
    assert "- Sodium (mmol/L): No recent data" in text
    assert "## Past visits\n- No recent data" in text
    assert "normal" not in text


def test_ranges_are_for_adults_and_for_known_units() -> None:
    child = Subject(
        [SubjectEvent(before(3650), "MEDS_BIRTH", None), SubjectEvent(before(1), "LOINC//8867-4", 120.0, "/min")], WORDS
    )
    assert "- Heart rate (/min): 120\n" in markdown(child, NOON, 8000)
    unknown = visited(NOON, (1, "LOINC//2951-2", 131.0, "bananas"))
    assert "- Sodium (mmol/L): No recent data" in markdown(unknown, NOON, 8000)
    assert "- Sodium: 131" in markdown(unknown, NOON, 8000)


@pytest.mark.parametrize(
    ("code", "number", "unit", "line"),
    [
        ("LOINC/2951-2", 128.0, "mEq/L", "- Sodium (mmol/L): 128 (low)"),
        ("LOINC/8310-5", 98.6, "F", "- Body temperature (Cel): 37 (normal)"),
        ("LOINC/8480-6", 150.0, "mmHg", "- Systolic blood pressure (mm[Hg]): 150 (high)"),
        ("LOINC/777-3", 90.0, "K/uL", "- Platelets (10*3/uL): 90 (low)"),
        ("LOINC/2951-2", 128.0, "mg/dL", "- Sodium (mmol/L): No recent data"),
        ("LOINC/2951-2", 9000.0, "mmol/L", "- Sodium (mmol/L): No recent data"),
        ("LOINC/2951-2", 128.0, "", "- Sodium (mmol/L): No recent data"),
        ("LOINC/2951-2", 128.0, None, "- Sodium (mmol/L): No recent data"),
    ],
)
def test_units_as_datasets_spell_them(code: str, number: float, unit: str | None, line: str) -> None:
    assert line in markdown(visited(NOON, (1, code, number, unit)), NOON, 8000)


def test_a_local_code_with_a_loinc_parent_is_compared_with_its_range() -> None:
    """MIMIC-IV in MEDS names its laboratory by item number, and LOINC among `parent_codes`."""
    words = Vocabulary.of([{"code": "LAB//50983//mEq/L", "description": "Na", "parent_codes": ["LOINC/2951-2"]}])
    events = [
        SubjectEvent(datetime(1950, 1, 1), "MEDS_BIRTH", None),
        SubjectEvent(before(1), "LAB//50983//mEq/L", 128.0),
    ]
    assert "- Sodium (mmol/L): 128 (low)" in markdown(Subject(events, words), NOON, 8000)
    assert "- Sodium (mmol/L): No recent data" in markdown(Subject(events, Vocabulary({}, {})), NOON, 8000)


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ("demographics", "- Age"), ("recent", "## Recent"), ("visits", "## Past visits"), ("conditions", "Heart failure"),
        ("medications", "RXNORM 4603"), ("procedures", "0BJ08ZZ"), ("values", "- Sodium: "),
    ],
)  # fmt: skip
def test_an_ablation_leaves_its_part_out_and_nothing_else(part: str, gone: str) -> None:
    whole = SERIALISERS["markdown"](STAYS, NOON, 8000)
    less = SERIALISERS[f"markdown-without-{part}"](STAYS, NOON, 8000)
    assert gone in whole
    assert gone not in less
    assert len(PARTS) + 2 == len(SERIALISERS)
    kept = [line for line in less.splitlines() if line not in whole.splitlines()]
    assert kept in ([], ["- No recent data"])


def test_counts_climb_to_all_codes_above() -> None:
    counted = SUBJECT.counts(before(1))
    assert counted == {"GENDER//F": 1, "ICD10CM//I50": 1, "ICD10CM//I": 1, "ICD10CM": 1, "LOINC//2951-2": 2,
                       "LOCAL//ward": 1}  # fmt: skip


def test_a_circle_among_parents_ends() -> None:
    circle = Vocabulary.of([{"code": "a", "parent_codes": ["b"]}, {"code": "b", "parent_codes": ["a"]}])
    assert circle.ancestors == {"a": ("b",), "b": ("a",)}


# labels ----------------------------------------------------------------------------------------------------------------


def test_label_files_of_meds_and_of_ehrshot_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow

    table = {"subject_id": [1, 2], "prediction_time": [NOON, NOON], "boolean_value": [True, False]}
    pq.write_table(pyarrow.table(table), tmp_path / "one.parquet")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "labeled_patients.csv").write_text(
        "patient_id,prediction_time,value,label_type\n1,2020-05-01T12:00:00,True,boolean\n2,2020-05-01 12:00,False,boolean\n"
    )
    (tmp_path / "two" / "all_shots_data.csv").write_text("k,rows\n")
    (tmp_path / "three.csv").write_text(
        "subject_id,prediction_time,value\n1,2020-05-01T12:00:00,3\n2,2020-05-01T12:00,0\n"
    )
    found = examples_from_label_files(tmp_path, ["one", "two", "three"], {"1": "test"}, 0.3, 0.3)
    assert found["one"] == found["two"] == found["three"]
    assert [(row.subject_id, row.label) for row in found["one"]] == [("1", 1), ("2", 0)]
    assert found["one"][0].split == "test"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("subject_id,prediction_time,value\n1,2020-05-01,8191\n", "one file for each answer"),
        ("subject_id,prediction_time,value\n1,yesterday,1\n", "row 1"),
        ("subject_id,value\n1,1\n", "prediction_time"),
    ],
)
def test_labels_that_cannot_be_used_say_why(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "task.csv").write_text(content)
    with pytest.raises(CohortError, match=words):
        examples_from_label_files(tmp_path, ["task"], {}, 0.3, 0.3)


def test_a_missing_label_file_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"expected task\.parquet"):
        examples_from_label_files(tmp_path, ["task"], {}, 0.3, 0.3)


# the whole way ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 subjects; those with CODE//ill mostly have the outcome, which label files tell."""
    import pyarrow

    folder = tmp_path_factory.mktemp("meds")
    generator = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for subject in range(1, 181):
        ill = generator.random() < 0.5
        rows.append({"subject_id": subject, "time": datetime(1960, 1, 1), "code": "MEDS_BIRTH", "numeric_value": None})
        for day in range(int(generator.integers(1, 6))):
            code = f"CODE//{generator.integers(0, 12)}"
            rows.append({"subject_id": subject, "time": before(50 - day), "code": code, "numeric_value": 1.0 * day})
        if ill:
            rows.append({"subject_id": subject, "time": before(5), "code": "CODE//ill", "numeric_value": None})
        outcome = generator.random() < (0.85 if ill else 0.15)
        # After the prediction: whoever reads it is perfect.
        leak = "CODE//happened" if outcome else "CODE//did not"
        rows.append({"subject_id": subject, "time": NOON + timedelta(hours=1), "code": leak, "numeric_value": None})
        labels.append({"subject_id": subject, "prediction_time": NOON, "boolean_value": bool(outcome)})
    (folder / "data").mkdir()
    (folder / "metadata").mkdir()
    (folder / "labels").mkdir()
    pq.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / "0.parquet")
    codes = [{"code": "CODE//ill", "description": "Severe sepsis", "parent_codes": None}]
    pq.write_table(pyarrow.Table.from_pylist(codes), folder / "metadata" / "codes.parquet")
    (folder / "metadata" / "dataset.json").write_text('{"dataset_name": "invented"}')
    pq.write_table(pyarrow.Table.from_pylist(labels), folder / "labels" / "illness.parquet")
    lonely = [{**label, "boolean_value": False} for label in labels]
    pq.write_table(pyarrow.Table.from_pylist(lonely), folder / "labels" / "never.parquet")
    return folder


def arguments(dataset: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "benchmark", "ehr-encoders", "--meds", dataset, "--labels", dataset / "labels", "--tasks", "illness,never",
        "--draws", 1, "--bootstraps", 20, "--out", out, *more,
    )  # fmt: skip


def test_the_command_gives_the_table_and_says_that_so_few_patients_mean_nothing(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = done(*arguments(dataset, out, "--encoder", "static", "--encoder", "minilm")).output
    found = json.loads((out / "results.json").read_text())
    assert "mean nothing clinically" in found["warning"]
    assert found["warning"] in shown
    assert found["data"] == {"name": "invented", "subjects": 180}
    assert "one class" in found["left_out"]["never"]
    table = found["tasks"]["illness"]["representations"]
    assert list(table) == ["static, codes", "minilm, codes", "counts + LightGBM", "counts + logistic"]
    for name, row in table.items():
        assert list(row) == ["1", "2", "4", "8", "12", "16", "24", "32", "48", "64", "128", "all"]
        assert "reason" in row["128"]
        low, high = row["all"]["auroc"]["interval"]
        # The truth is worth .85; a look behind the prediction time would give 1.
        assert 0.6 < row["all"]["auroc"]["value"] < 0.97, name
        assert low <= row["all"]["auroc"]["value"] <= high
    page = (out / "report.html").read_text()
    assert found["warning"].split(":")[0] in page
    assert "<svg" in page
    assert "<script" not in page


def test_official_draws_given_vectors_and_ablations_go_into_one_table(dataset: Path, tmp_path: Path) -> None:
    rows = examples_from_label_files(dataset / "labels", ["illness"], {}, 1 / 3, 1 / 3)["illness"]
    by_split = {name: [row for row in rows if row.split == name] for name in ("train", "validation")}

    def part(name: str, split: str) -> dict[str, Any]:
        chosen = [next(row for row in by_split[split] if row.label == label) for label in (1, 0)]
        return {
            f"patient_ids_{name}_k": [int(row.subject_id) for row in chosen],
            f"label_times_{name}_k": [row.prediction_time.isoformat() for row in chosen],
            f"label_values_{name}_k": [row.label for row in chosen],
        }

    shots = tmp_path / "all_shots_data.json"
    shots.write_text(json.dumps({"illness": {"1": {"0": part("train", "train") | part("val", "validation")}}}))
    vectors = tmp_path / "v.npz"
    np.savez(
        vectors, subject_id=[int(row.subject_id) for row in rows], prediction_time=[str(NOON)] * len(rows),
        vectors=np.array([[row.label, 1 - row.label] for row in rows], np.float32),
    )  # fmt: skip
    out = tmp_path / "out"
    more = (
        "--shots",
        shots,
        "--vectors",
        f"oracle={vectors}",
        "--ablate",
        "serialisation",
        "--against",
        "static, codes",
    )
    shown = done(*arguments(dataset, out, "--encoder", "static", *more)).output
    found = json.loads((out / "results.json").read_text())
    table = found["tasks"]["illness"]["representations"]
    assert list(table["oracle"]) == ["1", "all"]
    assert table["oracle"]["all"]["auroc"]["value"] == 1.0
    assert len(table) == 2 + len(PARTS) + 3
    compared = found["comparisons"]["mean"]["all"]["oracle"]
    assert compared["interval"][0] > 0
    assert "oracle against static, codes" in shown
    assert "Differences from static, codes" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--serialiser", "prose"), "no serialiser 'prose'"),
        (("--against", "nothing"), "--against 'nothing' is none of"),
        (("--vectors", "absent.npz"), "absent.npz"),
    ],
)
def test_what_cannot_be_compared_is_said_before_any_work(
    dataset: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    result = run(*arguments(dataset, tmp_path / "out", "--encoder", "static", *more))
    assert result.exit_code != 0
    assert words in result.output + str(result.exception)
    assert not (tmp_path / "out" / "work").exists()


def test_a_second_run_encodes_nothing_and_a_further_encoder_only_itself(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knowledge_index.encoders.static import StaticEncoder

    done(*arguments(dataset, tmp_path, "--encoder", "static"))
    first = (tmp_path / "results.json").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(StaticEncoder, "encode", refuse)
    monkeypatch.setattr("risk_model.research.ehr_encoders.run_few_shot", refuse)
    done(*arguments(dataset, tmp_path, "--encoder", "static"))
    assert (tmp_path / "results.json").read_bytes() == first
    again = run(*arguments(dataset, tmp_path, "--encoder", "static", "--serialiser", "markdown"))
    assert "encoded again" in str(again.exception)


def test_labels_of_unknown_subjects_are_counted_and_changed_labels_reread(dataset: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    known = pq.read_table(dataset / "labels" / "illness.parquet").to_pylist()
    lines = [f"{row['subject_id']},{row['prediction_time'].isoformat()},{row['boolean_value']}" for row in known]
    head = "subject_id,prediction_time,boolean_value"
    asked = ("benchmark", "ehr-encoders", "--meds", dataset, "--labels", labels, "--tasks", "illness", "--encoder",
             "static", "--draws", 1, "--bootstraps", 20, "--out", tmp_path / "out")  # fmt: skip
    (labels / "illness.csv").write_text("\n".join([head, *lines, "9999,2020-05-01T12:00:00,True", ""]))
    assert "illness: 1 predictions of subjects that are not in the data" in done(*asked).output
    (labels / "illness.csv").write_text("\n".join([head, *lines[:150], ""]))
    done(*asked)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["illness"]["rows"]
    assert sum(part["rows"] for part in rows.values()) == 150


def test_only_codes_that_training_rows_have_are_counted(dataset: Path, tmp_path: Path) -> None:
    rows = examples_from_label_files(dataset / "labels", ["illness"], {}, 0.3, 0.3)
    with MedsDataset(dataset) as source:
        made = prepare_examples(rows, source, Vocabulary({}, {}), tmp_path, ["codes"], 100)["illness"]
    assert Examples.open(tmp_path / "illness").rows == made.rows
    assert len(list(made.texts("codes"))) == made.counts().shape[0] == len(made.rows) == 180
    kept = code_counts(made)
    train = [row.split == "train" for row in made.rows]
    assert (kept[np.flatnonzero(train)].sum(axis=0) > 0).all()


def test_enough_patients_need_no_warning_and_few_are_named(tmp_path: Path) -> None:
    def examples(count: int) -> Examples:
        return Examples(tmp_path, tuple(PredictionExample(str(n), NOON, n % 2, "test") for n in range(count)))

    assert warning({"big": examples(200)}) is None
    said = warning({"big": examples(200), "small": examples(198)})
    assert said is not None
    assert said.startswith("The numbers of small mean nothing clinically")
    assert "as few as 99" in said


def test_a_split_that_is_missing_leaves_a_task_out_with_the_reason(tmp_path: Path) -> None:
    rows = tuple(PredictionExample(str(n), NOON, n % 2, split) for n in range(4) for split in ("train", "test"))
    good, reasons = usable_tasks({"task": Examples(tmp_path, rows)})
    assert not good
    assert "no rows in its validation split" in reasons["task"]


def test_means_are_over_the_tasks_that_every_representation_has() -> None:
    def cell(value: float) -> dict[str, dict[str, float]]:
        return {"auroc": {"value": value}, "auprc": {"value": value / 2}}

    few = {"reason": "too few"}
    found = mean_over_tasks(
        {"a": {"x": {"1": cell(0.6)}, "y": {"1": cell(0.8)}}, "b": {"x": {"1": few}, "y": {"1": few}}}
    )
    assert found == {
        "1": {"x": {"auroc": 0.6, "auprc": 0.3, "tasks": 1}, "y": {"auroc": 0.8, "auprc": 0.4, "tasks": 1}}
    }


def test_missing_lightgbm_names_the_extra(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lightgbm", None)
    result = run(*arguments(dataset, tmp_path, "--encoder", "static"))
    assert "riskcards[benchmark]" in str(result.exception)


@pytest.mark.shared_data
def test_the_mimic_demo_goes_the_whole_way_from_fhir_over_meds(shared_data: Path, tmp_path: Path) -> None:
    """100 patients without their measurements: every step runs, and the result says what it is not worth."""
    export = tmp_path / "export"
    export.mkdir()
    for kind in ("Patient", "Encounter", "EncounterICU", "Condition", "Procedure", "MedicationRequest", "Medication"):
        name = f"Mimic{kind}.ndjson.gz"
        (export / name).symlink_to((shared_data / "mimic-iv-demo-fhir" / name).resolve())
    done("map", export, "--to", "meds", "--out", tmp_path / "meds")
    done(
        "benchmark", "ehr-encoders", "--meds", tmp_path / "meds", "--tasks", "long_stay,icu_transfer",
        "--encoder", "static", "--draws", 1, "--bootstraps", 20, "--out", tmp_path / "out",
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "mean nothing clinically" in found["warning"]
    rows = found["tasks"]["long_stay"]["rows"]
    assert sum(part["rows"] for part in rows.values()) > 150
    assert "auroc" in found["tasks"]["long_stay"]["representations"]["static, codes"]["all"]
    assert "needs both in each split" in found["left_out"]["icu_transfer"]


def test_an_encoder_that_cannot_be_opened_is_said_before_another_has_encoded(dataset: Path, tmp_path: Path) -> None:
    """The second of two was once missed after the first had embedded every record."""
    result = run(*arguments(dataset, tmp_path / "out", "--encoder", "static", "--encoder", f"hf:{tmp_path / 'none'}"))
    assert "no model folder" in str(result.exception)
    assert not (tmp_path / "out" / "work").exists()
