"""train, evaluate, recalibrate, card, few-shot and bulk scoring as a user runs them, on a generated hospital."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cds_service.cli import cli
from fhir_mapping import PatientRecord
from knowledge_index import EncoderError
from knowledge_index.encoders.registry import encoder_named
from risk_model import Pipeline, RiskModel, model_card, risk_assessment
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import PATIENTS
from risk_model.core.errors import ModelArtifactError, RiskModelError
from risk_model.reports.evaluation_page import flat
from risk_model.reports.model_cards import ATTRIBUTES
from tests.risk_model.ward import ward, write

TASK = "readmission_30d"
QUICK = ["--bootstraps", "40"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, "".join(traceback.format_exception(result.exception)))
    return result


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export, its cohort, and a model trained on it."""
    folder = tmp_path_factory.mktemp("hospital")
    write(folder / "export", ward(500))
    done("cohort", "build", "--task", TASK, "--fhir", folder / "export", "--out", folder / "cohort")
    done("train", "--task", TASK, "--cohort", folder / "cohort", "--out", folder / "model", *QUICK)
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_training_gives_a_whole_folder_that_learned_the_truth(hospital: Path) -> None:
    model = RiskModel.open(hospital / "model")
    assert set(model.manifest["files"]) == {path.name for path in (hospital / "model").iterdir()} - {"manifest.json"}
    assert {path.suffix for path in (hospital / "model").iterdir()} == {".ubj", ".json", ".html"}
    assert metrics(hospital / "model")["auroc"]["value"] > 0.65
    assert model.manifest["label"] == "any-inpatient-30d"
    assert model.manifest["dropped"]


def test_every_figure_has_an_interval_that_holds_it(hospital: Path) -> None:
    found = list(flat(metrics(hospital / "model")))
    assert {"auroc", "auprc", "brier", "calibration_slope", "calibration_intercept", "observed_expected"} <= {
        name for name, _ in found
    }
    assert any(name.startswith("comparators.LACE") for name, _ in found)
    for name, metric in found:
        assert set(metric) == {"value", "interval"}, name
        assert metric["interval"][0] <= metric["interval"][1]


def test_small_subgroups_are_counted_and_not_evaluated(hospital: Path) -> None:
    groups = metrics(hospital / "model")["subgroups"]
    assert "recorded race: White" in groups
    for group in groups.values():
        assert ("auroc" in group) == (group["rows"] >= 100)


def test_the_card_of_a_local_model_says_all_31_things_and_promises_nothing(hospital: Path) -> None:
    card = model_card(hospital / "model")
    texts = [text for group in card.attributes.values() for text in group.values()]
    assert len(texts) == sum(len(names) for names in ATTRIBUTES.values()) == 31
    assert all(text.strip() and "{" not in text for text in texts)
    assert "Not measured" in card.attributes["performance"]["external_validity"]
    for form in ("html", "json", "chai-xml"):
        assert "any-inpatient-30d" in done("card", hospital / "model", "--format", form).output


def test_evaluation_uses_the_test_split_of_its_own_cohort(hospital: Path, tmp_path: Path) -> None:
    folders = ("--model", hospital / "model", "--cohort", hospital / "cohort", "--out", tmp_path)
    done("evaluate", *folders, "--seismometer", *QUICK)
    found = metrics(tmp_path)
    expected = json.loads((hospital / "cohort" / "cohort.json").read_text())["by_split"]["test"]["rows"]
    assert found["rows"] + found["abstained"]["rows"] == expected
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "predictions.parquet")
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "subject_id": "int64", "prediction_time": "timestamp[us]", "boolean_value": "bool",
        "predicted_boolean_value": "bool", "predicted_boolean_probability": "double",
    }  # fmt: skip
    assert table.num_rows == found["rows"]
    assert sum(table["boolean_value"].to_pylist()) == found["outcomes"]
    scored = parquet.read_table(tmp_path / "seismometer" / "data" / "predictions.parquet")
    assert sorted(scored["Score"].to_pylist()) == sorted(table["predicted_boolean_probability"].to_pylist())
    assert {"Sex", "Age group"} <= set(scored.column_names)
    assert "never saw" in found["measured_on"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_evaluate_to_the_same_bytes(hospital: Path, tmp_path: Path) -> None:
    for out, workers in (("one", 1), ("two", 2)):
        done("evaluate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", tmp_path / out,
             "--workers", workers, *QUICK)  # fmt: skip
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}, "no work folder is left"


@pytest.mark.skipif("TEST_CLUSTER" not in os.environ, reason="set TEST_CLUSTER=1: starts Ray")
def test_ray_builds_trains_and_evaluates_to_the_same_bytes(hospital: Path, tmp_path: Path) -> None:
    ray = ("--workers", 2, "--engine", "ray")
    done("cohort", "build", "--task", TASK, "--fhir", hospital / "export", "--out", tmp_path / "cohort", *ray)
    assert files(tmp_path / "cohort") == files(hospital / "cohort")
    done("train", "--task", TASK, "--cohort", tmp_path / "cohort", "--out", tmp_path / "model", *ray, *QUICK)
    assert files(tmp_path / "model") == files(hospital / "model")
    for out, workers in (("one", ()), ("two", ray)):
        done("evaluate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", tmp_path / out,
             *workers, *QUICK)  # fmt: skip
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_another_learner_is_trained_evaluated_scored_and_explained(hospital: Path, tmp_path: Path) -> None:
    model, cohort = tmp_path / "model", hospital / "cohort"
    done("train", "--task", TASK, "--cohort", cohort, "--out", model, "--learner", "logistic-regression",
         "--search", *QUICK)  # fmt: skip
    assert {path.suffix for path in model.iterdir()} == {".json", ".html"}
    assert json.loads((model / "manifest.json").read_text())["learner"] == "logistic-regression"
    assert metrics(model)["auroc"]["value"] > 0.65
    done("evaluate", "--model", model, "--cohort", cohort, "--out", tmp_path / "evaluation", *QUICK)
    assert metrics(tmp_path / "evaluation")["rows"] > 0
    row = json.loads((cohort / "labels.jsonl").read_text().splitlines()[0])
    chart = tmp_path / "chart.ndjson"
    with gzip.open(cohort / PATIENTS) as stream:
        charts = {item["subject_id"]: item["resources"] for item in map(json.loads, stream)}
    chart.write_text("\n".join(map(json.dumps, charts[row["subject_id"]])))
    asked = (
        chart,
        "--task",
        TASK,
        "--model",
        model,
        "--as-of",
        row["prediction_time"],
        "--encounter",
        row["encounter_id"],
    )
    explained = json.loads(done("explain", *asked).output)
    assert 0 < explained["probability"] < 1
    assert explained["drivers"]
    assessment = json.loads(done("score", *asked, "--json").output)
    assert assessment["prediction"][0]["probabilityDecimal"] == pytest.approx(explained["probability"], abs=1e-3)
    wrong = run("train", "--task", TASK, "--cohort", cohort, "--out", tmp_path / "m", "--learner", "perceptron")
    assert wrong.exit_code == 2
    assert "'xgboost', 'lightgbm', 'logistic-regression'" in wrong.output


def test_training_rows_never_evaluate_their_own_model(hospital: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", tmp_path,
                 "--split", "train")  # fmt: skip
    assert isinstance(result.exception, RiskModelError)
    assert "evaluate it on the test split" in str(result.exception)


def test_the_report_stands_alone_and_is_the_same_each_time(hospital: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        out = tmp_path / name
        done("evaluate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", out, *QUICK)
        pages.append((out / "report.html").read_text("utf-8"))
    assert pages[0] == pages[1]
    page = pages[0]
    assert "<script" not in page
    # XML namespaces are names, not addresses that anything fetches.
    fetched = re.findall(r'(?:src|href)="([^"#][^"]*)"|url\(([^#)][^)]*)\)', page)
    assert fetched == []
    assert page.count("<svg") == page.count('role="img"') == 6
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for heading in ("Calibration", "Decision curve", "Subgroups", "TRIPOD+AI"):
        assert heading in page
    assert "To be written by the authors" in page


def test_recalibration_makes_a_new_version_and_leaves_the_old(hospital: Path, tmp_path: Path) -> None:
    write(tmp_path / "export", ward(500, seed=6, shift=-1.2))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort")
    before = (hospital / "model" / "manifest.json").read_bytes()
    arguments = ("--model", hospital / "model", "--cohort", tmp_path / "cohort", "--out", tmp_path / "new", "--json")
    found = json.loads(done("recalibrate", *arguments, *QUICK).stdout)
    assert (hospital / "model" / "manifest.json").read_bytes() == before
    old, new = RiskModel.open(hospital / "model"), RiskModel.open(tmp_path / "new")
    assert new.manifest["version"].startswith(f"{old.manifest['version']}.local.1.")
    assert [entry["use"] for entry in new.manifest["cohorts_seen"]] == ["trained", "recalibrated"]
    seen = run("evaluate", "--model", tmp_path / "new", "--cohort", tmp_path / "cohort", "--out", tmp_path / "e")
    assert "has seen all of them" in str(seen.exception)
    assert new.manifest["recalibrated"]["from"]["version"] == old.manifest["version"]
    assert abs(found["after"]["observed_expected"]["value"] - 1) < 0.1
    assert abs(found["before"]["observed_expected"]["value"] - 1) > 0.2
    assert found["before"]["auroc"]["value"] == pytest.approx(found["after"]["auroc"]["value"], abs=0.03)
    again = run("recalibrate", *arguments, *QUICK)
    assert "not empty" in str(again.exception)


def test_nothing_is_overwritten(hospital: Path) -> None:
    before = {path: path.read_bytes() for path in (hospital / "model").rglob("*") if path.is_file()}
    for arguments in (
        ("train", "--task", TASK, "--cohort", hospital / "cohort", "--out", hospital / "model"),
        ("evaluate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", hospital / "model"),
        ("recalibrate", "--model", hospital / "model", "--cohort", hospital / "cohort", "--out", hospital / "model"),
        ("ablate", "--cohort", hospital / "cohort", "--out", hospital / "model"),
    ):
        answer = run(*arguments, *QUICK)
        assert "nothing is overwritten" in str(answer.exception)
        assert "rows read" not in answer.output
    assert {path: path.read_bytes() for path in (hospital / "model").rglob("*") if path.is_file()} == before


def test_a_cohort_built_again_is_known_by_its_patients(hospital: Path, tmp_path: Path) -> None:
    rebuilt = tmp_path / "rebuilt"
    done("cohort", "build", "--task", TASK, "--fhir", hospital / "export", "--out", rebuilt, "--split", "0.1,0.3")
    result = run("evaluate", "--model", hospital / "model", "--cohort", rebuilt, "--out", tmp_path / "e")
    assert "has seen all of them" in str(result.exception)


def test_too_few_outcomes_recalibrate_nothing(hospital: Path, tmp_path: Path) -> None:
    write(tmp_path / "export", ward(40, seed=7))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort")
    result = run("recalibrate", "--model", hospital / "model", "--cohort", tmp_path / "cohort", "--out", tmp_path / "n")
    assert "needs 20" in str(result.exception)
    assert not (tmp_path / "n").exists()


def lines(path: Path) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line) for line in path.read_text("utf-8").splitlines())


def test_bulk_scores_are_the_online_answers_bit_for_bit(hospital: Path, tmp_path: Path) -> None:
    charts = ward(12, seed=8)
    folder, out = write(tmp_path / "export", charts), tmp_path / "risks.ndjson"
    as_of = "2022-12-24T00:00:00+00:00"
    done("score", folder, "--out", out, "--task", TASK, "--model", hospital / "model", "--as-of", as_of)
    found = {item["subject"]["reference"].removeprefix("Patient/"): item for item in lines(out)}
    pipeline = Pipeline.with_model(RiskModel.open(hospital / "model"))
    with FhirFolder(folder) as source:
        absent = source.not_fetched
    assert len(found) == len(charts)
    for chart in charts:
        patient = chart[0]["id"]
        online = PatientRecord.from_resources(chart, patient, as_of, not_fetched=absent)
        assert found[patient] == json.loads(json.dumps(risk_assessment(pipeline.assess(online, TASK))))


def test_a_folder_without_open_stays_suggests_as_of(hospital: Path, tmp_path: Path) -> None:
    """Without a time a chart ends long after its last stay: sixty answers said no-inpatient-stay and no more."""
    folder, model = write(tmp_path / "export", ward(3, seed=11)), hospital / "model"
    reported = done("score", folder, "--out", tmp_path / "a.ndjson", "--task", TASK, "--model", model)
    assert "declined 3: no-inpatient-stay" in reported.output
    assert "--as-of TIME" in reported.output


def test_a_patient_that_cannot_be_read_keeps_its_line(hospital: Path, tmp_path: Path) -> None:
    charts = ward(3, seed=9)
    charts[1][0]["birthDate"] = {"not": "a date"}
    charts[1].append({**charts[1][1], "subject": {"reference": "Patient/somebody-else"}, "id": "x"})
    folder, out = write(tmp_path / "export", charts), tmp_path / "risks.ndjson"
    done_or_3 = run("score", folder, "--out", out, "--task", TASK, "--model", hospital / "model")
    assert done_or_3.exit_code == 3
    written = list(lines(out))
    assert len(written) == 4  # the fourth names the patient of whom there is no Patient resource
    assert [line["resourceType"] for line in written].count("OperationOutcome") >= 1


def test_single_patient_scoring_takes_a_model_folder(hospital: Path, tmp_path: Path) -> None:
    chart = ward(1, seed=10)[0]
    (tmp_path / "one.json").write_text(json.dumps(chart))
    result = run("score", tmp_path / "one.json", "--model", hospital / "model", "--task", TASK, "--json")
    assert result.exit_code in {0, 4}
    assert json.loads(result.stdout)["method"]["text"].startswith("readmission-30d-local")
    wrong = run("score", tmp_path / "one.json", "--model", hospital / "model", "--task", "in_hospital_mortality")
    assert isinstance(wrong.exception, ModelArtifactError)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("in_hospital_mortality", "built for the task readmission_30d"),
        ("gout", "built for the task readmission_30d, not gout"),
    ],
)
def test_a_cohort_of_another_task_is_refused(hospital: Path, tmp_path: Path, task: str, words: str) -> None:
    result = run("train", "--task", task, "--cohort", hospital / "cohort", "--out", tmp_path / "m", *QUICK)
    assert isinstance(result.exception, RiskModelError)
    assert words in str(result.exception)


def test_a_cohort_with_hardly_an_outcome_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "export", ward(60, shift=-2.5))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort")
    result = run("train", "--task", TASK, "--cohort", tmp_path / "cohort", "--out", tmp_path / "m")
    assert "too few outcomes" in str(result.exception)
    assert "rows read" not in result.output  # said before notes are read, which may take a language model hours
    assert not (tmp_path / "m").exists()


def test_a_folder_with_other_things_is_not_written_to(hospital: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = run("train", "--task", TASK, "--cohort", hospital / "cohort", "--out", tmp_path, *QUICK)
    assert "nothing is overwritten" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_flipped_byte_of_any_file_and_no_command_opens_it(hospital: Path, tmp_path: Path) -> None:
    for name in RiskModel.open(hospital / "model").manifest["files"]:
        folder = tmp_path / name
        shutil.copytree(hospital / "model", folder)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(bytes(data))
        result = run("evaluate", "--model", folder, "--cohort", hospital / "cohort", "--out", tmp_path / "out")
        assert isinstance(result.exception, ModelArtifactError)


def test_notes_and_embeddings_can_be_learned_from_and_served(tmp_path: Path) -> None:
    write(tmp_path / "export", ward(160, seed=11, shift=0.8))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort")
    arguments = ("--task", TASK, "--cohort", tmp_path / "cohort", "--out", tmp_path / "model", *QUICK)
    done("train", *arguments, "--note-reader", "rules", "--encoder", "all-MiniLM-L6-v2-int8")
    model = RiskModel.open(tmp_path / "model")
    assert {head.source for head in model.heads} == {"record", "notes"}
    with pytest.raises(ModelArtifactError, match="fitted on vectors of encoder"):
        RiskModel.open(tmp_path / "model", encoder_named("static"))
    assert any(name.startswith("finding.") for name in model.names)
    done("evaluate", "--model", tmp_path / "model", "--cohort", tmp_path / "cohort", "--out", tmp_path / "e", *QUICK)
    assert metrics(tmp_path / "e")["rows"] > 0


def test_a_model_learns_from_the_record_as_markdown_through_any_encoder(tmp_path: Path) -> None:
    write(tmp_path / "export", ward(160, seed=11, shift=0.8))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort")
    arguments = ("--task", TASK, "--cohort", tmp_path / "cohort", "--out", tmp_path / "model", *QUICK)
    done("train", *arguments, "--encoder", "static", "--serialiser", "markdown")
    model = RiskModel.open(tmp_path / "model")
    assert [head.source for head in model.heads] == ["record_markdown"]
    assert "record_markdown_embedding.logit" in model.names
    wrong = run("train", *arguments, "--encoder", "word2vec", "--out", tmp_path / "other")
    assert isinstance(wrong.exception, EncoderError)


def test_few_shot_runs_every_k_and_says_where_there_are_too_few(tmp_path: Path) -> None:
    write(tmp_path / "export", ward(150, seed=12, shift=0.8))
    done("cohort", "build", "--task", TASK, "--fhir", tmp_path / "export", "--out", tmp_path / "cohort",
         "--split", "0.25,0.25")  # fmt: skip
    done("few-shot", "--cohort", tmp_path / "cohort", "--out", tmp_path / "few", "--draws", "2", *QUICK)
    found = json.loads((tmp_path / "few" / "few_shot.json").read_text())["shots"]
    assert list(found) == ["1", "2", "4", "8", "12", "16", "24", "32", "48", "64", "128", "all"]
    assert "only" in found["128"]["reason"]
    for kind in ("embedding", "counts", "counts_boosted"):
        low, high = found["all"][kind]["auroc"]["interval"]
        assert 0 <= low <= found["all"][kind]["auroc"]["value"] <= high <= 1
