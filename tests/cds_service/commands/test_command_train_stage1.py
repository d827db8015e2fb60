"""`riskcards train --stage1 --rubric`: a model with a first stage is saved, judged, scored, served and replayed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cds_service.application.factory import create_app
from cds_service.cli import cli
from cds_service.config.settings import Settings
from cds_service.explanations.reading import reading_words
from cds_service.hooks.estimate_records import estimate_record, replay
from fhir_mapping import PatientRecord
from risk_model import Pipeline, RiskModel, RuleNoteReader
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.artifacts import sign
from risk_model.core.errors import ModelArtifactError, TrainingError
from risk_model.first_stage.note_stage import FILE
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.models.model_files import RUBRIC_FILE
from risk_model.prompts.answers import AnswerFinding, ReaderAnswer
from tests.patience import patient
from tests.risk_model.language_fakes import SaysModel
from tests.risk_model.ward import ward, write

TASK = "readmission_30d"
RUBRIC = """
rubric: 1
task: readmission_30d
author: a clinician, by hand
items:
  - id: salt
    question: How low is sodium?
    type: level
    read: {concept: sodium, aggregate: min, levels: [130, 135]}
  - id: heart
    question: Do notes tell of heart failure?
    type: yes/no
    read: {findings: [heart failure]}
"""


def run(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env=env)


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """export/, cohort/, rubric.yaml, and model/ with a first stage and a rubric."""
    folder = tmp_path_factory.mktemp("stage1")
    write(folder / "export", ward(160, seed=11, shift=0.8))
    (folder / "rubric.yaml").write_text(RUBRIC)
    done("cohort", "build", "--task", TASK, "--fhir", folder / "export", "--out", folder / "cohort")
    done(
        "train", "--task", TASK, "--cohort", folder / "cohort", "--out", folder / "model", "--bootstraps", "20",
        "--note-reader", "rules", "--stage1", "--rubric", folder / "rubric.yaml",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model(work: Path) -> RiskModel:
    return RiskModel.open(work / "model")


@pytest.fixture(scope="module")
def records(work: Path) -> list[PatientRecord]:
    found = [record for _, record in LabelledCohort.open(work / "cohort").records("test")]
    assert len(found) >= 20
    return found


def test_the_folder_holds_the_first_stage_and_the_rubric_signed(work: Path, model: RiskModel) -> None:
    assert {FILE, RUBRIC_FILE, "heads.json"} <= set(model.manifest["files"])
    assert {"stage1.logit", "rationale_embedding.logit", "rubric.salt", "rubric.notes.heart"} <= set(model.names)
    assert not [path.name for path in (work / "model").iterdir() if path.suffix in {".pkl", ".pickle", ".joblib"}]


def test_the_card_says_that_there_is_a_first_stage_and_a_rubric(work: Path) -> None:
    card = json.loads(done("card", work / "model", "--format", "json").stdout)
    reported = card["attributes"]["development"]["relevance"]
    assert "first stage estimates the outcome from what notes say" in reported
    assert "cross-fitted by patient" in reported
    assert "A rubric (a clinician, by hand) adds 2 questions" in reported


def test_a_patient_with_notes_has_an_estimate_with_reasons(model: RiskModel, records: list[PatientRecord]) -> None:
    pipeline = Pipeline.with_model(model)
    reported = [(record, pipeline.assess(record, TASK)) for record in records if record.notes()]
    reasons = {reason for _, assessment in reported for reason in assessment.estimate.reasons}
    assert any("heart failure" in reason and "risk" in reason for reason in reasons)
    place = model.names.index("stage1.logit")
    assert len({assessment.estimate.inputs[place] for _, assessment in reported}) > 1
    assessment = next(found for _, found in reported if found.estimate.reasons)
    assert "Strongest note findings for" in " ".join(reading_words([assessment]))


def test_without_notes_the_first_stage_is_unknown_and_not_average(
    model: RiskModel, records: list[PatientRecord]
) -> None:
    measured = (record for record in records if any(item.concept == "sodium" for item in record.measurements))
    record = next(record for record in measured if not record.notes())
    inputs = dict(zip(model.names, Pipeline.with_model(model).assess(record, TASK).estimate.inputs, strict=True))
    assert all(np.isnan(inputs[name]) for name in ("stage1.logit", "rationale_embedding.logit", "rubric.notes.heart"))
    assert np.isfinite(inputs["rubric.salt"])


def test_every_estimate_is_replayed_bit_for_bit(model: RiskModel, records: list[PatientRecord]) -> None:
    """By another opening of the same folder; and a patient among others gets what he gets alone."""
    again = RiskModel.open(model.folder)
    pipeline, other = Pipeline.with_model(model), Pipeline.with_model(again)
    assert records
    for record in records:
        estimate = pipeline.assess(record, TASK).estimate
        kept = json.loads(json.dumps(estimate_record(estimate, model)))
        assert replay(kept, again).same
        np.testing.assert_array_equal(estimate.inputs, other.assess(record, TASK).estimate.inputs)


def test_score_and_the_service_say_the_same_and_replay_finds_it_again(
    work: Path, model: RiskModel, records: list[PatientRecord], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(work / "model", models / TASK)
    shutil.copytree(Path("risk_model/shipped/in_hospital_mortality"), models / "in_hospital_mortality")
    record = next(record for record in records if record.notes() and model.estimate(record).probability is not None)
    chart = tmp_path / "chart.ndjson"
    chart.write_text("\n".join(json.dumps(resource) for resource in chart_of(work, record)))
    chosen = ("--as-of", record.prediction_time.isoformat(), "--encounter", f"{record.subject_id}-a")
    scored = json.loads(done("score", chart, *chosen, "--model", work / "model", "--json").stdout)
    settings = patient(Settings(database_url=f"sqlite:///{tmp_path / 'cards.db'}", models=str(models)))
    answer = create_app(settings).test_client().post("/cds-services/readmission-30d", json=hook_of(work, record))
    card = answer.get_json()["cards"][0]
    env = {"RISKCARDS_DATABASE_URL": settings.database_url, "RISKCARDS_MODELS": str(models)}
    replayed = run("replay", card["uuid"], "--json", env=env)
    assert replayed.exit_code == 0, replayed.output
    found = next(item for item in json.loads(replayed.stdout)["estimates"] if item["task"] == TASK)
    assert found["recorded"] == found["replayed"]
    assert scored["prediction"][0]["probabilityDecimal"] == round(found["recorded"], 4)


def chart_of(work: Path, record: PatientRecord) -> list[dict[str, Any]]:
    kept = [json.loads(line) for path in sorted((work / "export").iterdir()) for line in path.read_text().splitlines()]
    return [r for r in kept if f"Patient/{record.subject_id}" in json.dumps(r) or r["id"] == record.subject_id]


def hook_of(work: Path, record: PatientRecord) -> dict[str, Any]:
    """An encounter-discharge of that patient's stay with everything prefetched."""
    own = chart_of(work, record)

    def bundle(kind: str) -> dict[str, Any]:
        found = [{"resource": resource} for resource in own if resource["resourceType"] == kind]
        return {"resourceType": "Bundle", "type": "searchset", "entry": found}

    stay = f"{record.subject_id}-a"
    return {
        "hook": "encounter-discharge",
        "hookInstance": "7f7a1f6a-35b5-4d3c-9d5e-111111111111",
        "context": {"userId": "Practitioner/1", "patientId": record.subject_id, "encounterId": stay},
        "prefetch": {
            "patient": next(r for r in own if r["resourceType"] == "Patient"),
            "encounter": next(r for r in own if r["id"] == stay),
            "encounters": bundle("Encounter"),
            "conditions": bundle("Condition"),
            "labs": bundle("Observation"),
            "vitals": bundle("nothing"),
            "surveys": bundle("nothing"),
            "medications": bundle("MedicationRequest"),
            "procedures": bundle("Procedure"),
            "documents": bundle("DocumentReference"),
            "compositions": bundle("Composition"),
        },
    }


@pytest.mark.parametrize("name", [FILE, RUBRIC_FILE])
def test_missing_altered_or_replaced_files_are_reported(work: Path, tmp_path: Path, name: str) -> None:
    gone, altered, unsigned, other = (tmp_path / word for word in ("gone", "altered", "unsigned", "other"))
    for folder in (gone, altered, unsigned, other):
        shutil.copytree(work / "model", folder)
    (gone / name).unlink()
    with pytest.raises(ModelArtifactError, match="missing"):
        RiskModel.open(gone)
    (altered / name).write_bytes((altered / name).read_bytes() + b" ")
    with pytest.raises(ModelArtifactError, match="altered since it was written"):
        RiskModel.open(altered)
    manifest = json.loads((unsigned / "manifest.json").read_text())
    del manifest["files"][name]
    (unsigned / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelArtifactError, match="names no file that makes"):
        RiskModel.open(unsigned)
    (other / name).write_text('{"format": 99}')
    sign(other, [name])
    with pytest.raises(ModelArtifactError, match="of this version"):
        RiskModel.open(other)


def test_reasons_embedded_by_another_encoder_are_refused(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "model", tmp_path / "model")
    stage = json.loads((tmp_path / "model" / FILE).read_text()) | {"encoder_fingerprint": "another"}
    (tmp_path / "model" / FILE).write_text(json.dumps(stage))
    sign(tmp_path / "model", [FILE])
    with pytest.raises(ModelArtifactError, match="its reasons were embedded by encoder another"):
        RiskModel.open(tmp_path / "model")


def test_an_evaluation_and_a_recalibration_keep_the_first_stage(work: Path, tmp_path: Path) -> None:
    done("evaluate", "--model", work / "model", "--cohort", work / "cohort", "--out", tmp_path / "e",
         "--bootstraps", "20")  # fmt: skip
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["rows"] > 0


def test_what_a_language_model_read_reaches_the_first_stage_within_the_bound(
    model: RiskModel, records: list[PatientRecord]
) -> None:
    """It says of every note that the heart fails; the anchor, and so every level, is the record's without notes."""
    said = ReaderAnswer(
        (AnswerFinding("pneumonia", "Pneumonia"), AnswerFinding("heart failure", "Heart Failure"))
    ).to_text()
    lies = Pipeline.with_model(model, lambda rules: LanguageNoteReader(SaysModel(lambda _: said), rules))
    moved = 0
    for record in [record for record in records if record.notes()][:8]:
        estimate = lies.assess(record, TASK).estimate
        if estimate.probability is None:
            continue
        alone = model.estimate(record, None)
        assert estimate.anchor == pytest.approx(alone.probability, abs=1e-5)
        assert estimate.anchor is not None
        odds = [p / (1 - p) for p in (estimate.probability, estimate.anchor)]
        assert abs(np.log(odds[0] / odds[1])) <= 0.7 + 1e-9
        moved += estimate.probability != estimate.anchor
    assert moved > 0
    assert isinstance(Pipeline.with_model(model).reader, RuleNoteReader)


def test_usage_errors_differ_from_bad_input(work: Path, tmp_path: Path) -> None:
    arguments = ("train", "--task", TASK, "--cohort", work / "cohort", "--out", tmp_path / "m", "--bootstraps", "20")
    assert run(*arguments, "--stage1").exit_code == 2
    unread = run(*arguments, "--rubric", work / "rubric.yaml")
    assert isinstance(unread.exception, TrainingError)
    assert "(heart), so --note-reader is needed" in str(unread.exception)
    (tmp_path / "other.yaml").write_text(RUBRIC.replace(TASK, "gout"))
    other = run(*arguments, "--rubric", tmp_path / "other.yaml", "--note-reader", "rules")
    assert "written for the task gout" in str(other.exception)
