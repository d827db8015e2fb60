"""A question of the user's own: a task file goes the whole way from cohort to card, as the service's own tasks do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from risk_model import RiskModel, model_card
from risk_model.core.errors import ModelArtifactError, TrainingError
from tests.cds_service.commands.test_commands_learning import QUICK, done, lines, metrics, run
from tests.risk_model.ward import ward, write

COMES_BACK = """
id: back_in_a_quarter
definition: house-rule
title: Back within a quarter
outcome: coming back to any ward within 90 days
trigger: {event: discharge}
include: {adult: {age: {at_least: 18}}}
exclude: {died in hospital: {death: in_stay}}
window: {from: 1 min, to: 90 d}
label: {encounter: {class: inpatient}}
"""
LOW_HAEMOGLOBIN = """
id: low_haemoglobin
title: Haemoglobin below 12 at the next look
trigger: {event: measurement, concept: hemoglobin, at: -1 min}
window: {to: 1 min}
label: {concept: {name: hemoglobin, below: 12}}
"""
LONG = """
id: a_week_or_more
title: Stay of a week or more
trigger: {event: admission, at: 24 h}
window: {to: end of stay}
label: {stay: {days: {at_least: 7}}}
"""


def built(folder: Path, text: str, charts: int = 400) -> tuple[Path, Path]:
    """(task file, cohort folder)"""
    task = folder / "task.yaml"
    task.write_text(text, "utf-8")
    write(folder / "export", ward(charts, seed=21))
    done("cohort", "build", "--task", task, "--fhir", folder / "export", "--out", folder / "cohort")
    return task, folder / "cohort"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    task, cohort = built(folder, COMES_BACK)
    done("train", "--task", task, "--cohort", cohort, "--out", folder / "model", *QUICK)
    return folder


def test_a_task_file_of_ones_own_is_learned_from_what_its_rows_hold(own: Path) -> None:
    model = RiskModel.open(own / "model")
    assert metrics(own / "model")["auroc"]["value"] > 0.6
    assert model.task == "back_in_a_quarter"
    assert {"sodium.last", "hemoglobin.min", "group.heart_failure", "earlier_stay.count", "age.last"} <= set(
        model.names
    )
    assert model.names
    assert not [name for name in model.names if name.startswith(("lactate.", "gcs."))]
    assert not [name for name in model.names if name in {"sodium.count", "creatinine.count"}]
    assert model.question.outcome == "coming back to any ward within 90 days"
    assert model.question.horizon == "within 90 days"
    assert model.question.label == "house-rule"


def test_it_is_evaluated_on_patients_it_never_saw(own: Path, tmp_path: Path) -> None:
    done("evaluate", "--model", own / "model", "--cohort", own / "cohort", "--out", tmp_path, *QUICK)
    assert metrics(tmp_path)["rows"] > 20
    assert "Back within a quarter" in (tmp_path / "report.html").read_text("utf-8")


def test_score_takes_the_task_from_the_model(own: Path, tmp_path: Path) -> None:
    # As at discharge: nothing that came after the stay is in the export.
    charts = [[r for r in chart if not r["id"].endswith(("-b", "-later"))] for chart in ward(60, seed=21)]
    write(tmp_path / "today", charts)
    done("score", tmp_path / "today", "--model", own / "model", "--out", tmp_path / "risks.ndjson")
    answers = list(lines(tmp_path / "risks.ndjson"))
    reported = [a for a in answers if "probabilityDecimal" in a["prediction"][0]]
    assert len(answers) == 60
    assert len(reported) > 40
    assert reported[0]["prediction"][0]["outcome"] == {"text": "Back within a quarter"}
    assert reported[0]["code"]["text"] == "Back within a quarter (label house-rule)"
    (tmp_path / "one.json").write_text(json.dumps(charts[0]))
    one = run("score", tmp_path / "one.json", "--model", own / "model")
    assert one.exit_code in {0, 4}, one.output
    assert "Back within a quarter" in one.output


def test_its_card_says_all_31_things_in_three_forms(own: Path) -> None:
    texts = [text for group in model_card(own / "model").attributes.values() for text in group.values()]
    assert len(texts) == 31
    assert any("coming back to any ward within 90 days (within 90 days)" in text for text in texts)
    assert "Model card: Back within a quarter" in done("card", own / "model", "--format", "html").output
    assert "house-rule" in done("card", own / "model", "--format", "chai-xml").output
    assert json.loads(done("card", own / "model", "--format", "json").output)["task"] == "back_in_a_quarter"


@pytest.mark.parametrize("text", [LOW_HAEMOGLOBIN, LONG], ids=["measurement", "admission"])
def test_every_kind_of_trigger_goes_the_whole_way(tmp_path: Path, text: str) -> None:
    _, cohort = built(tmp_path, text, 250)
    task = json.loads((cohort / "cohort.json").read_text())["task"]
    # Whether this ward's inputs predict such an event at all is not what is tested.
    done("train", "--task", task, "--cohort", cohort, "--out", tmp_path / "model", "--force", *QUICK)
    done("evaluate", "--model", tmp_path / "model", "--cohort", cohort, "--out", tmp_path / "e", *QUICK)
    assert metrics(tmp_path / "e")["rows"] > 10
    population = RiskModel.open(tmp_path / "model").manifest["population"]
    assert population.get("without_stay", False) == (task == "low_haemoglobin")
    assert ("maximum_hours" in population) == (task == "a_week_or_more")


def test_another_task_is_refused_by_name(own: Path, tmp_path: Path) -> None:
    wrong = run("train", "--task", "gout", "--cohort", own / "cohort", "--out", tmp_path / "m")
    assert isinstance(wrong.exception, TrainingError)
    assert "built for the task back_in_a_quarter, not gout" in str(wrong.exception)
    other = run("score", own / "export", "--model", own / "model", "--out", tmp_path / "o", "--task", "readmission_30d")
    assert isinstance(other.exception, ModelArtifactError)
    unknown = run("score", own / "export", "--out", tmp_path / "o", "--task", "gout")
    assert unknown.exit_code == 2
    assert "the shipped models answer in_hospital_mortality, readmission_30d" in unknown.output
