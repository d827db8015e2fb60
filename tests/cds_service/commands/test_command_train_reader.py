"""`riskcards train-reader` as a user runs it, on a tiny random model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cds_service.cli import cli
from cds_service.commands.modelling.first_stage import exclude_tuning_patients
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.errors import ModelArtifactError, TrainingError
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm_tuning.risk_examples import learned_from
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model
from tests.risk_model.ward import ward, write

QUICK = ("--examples", "8", "--max-steps", "3", "--validate-every", "2", "--batch", "2", "--rank", "2",
         "--max-tokens", "2048", "--each", "2")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["train-reader", *map(str, arguments)])


def test_an_adapter_from_generated_notes_and_a_hospitals_records(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "export", ward(6))
    sources = ("--notes", "generated", "--notes", tmp_path / "export")
    result = run("--model", model, *sources, "--out", tmp_path / "reader", *QUICK, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((tmp_path / "reader" / "manifest.json").read_text())
    assert manifest["metrics"]["steps"] == 3
    assert manifest["base"]["name"] == model.name
    assert manifest["data"]["examples"]["train"] > 8
    assert "validation loss" in result.stderr
    assert LocalLanguageModel(model, adapter=tmp_path / "reader").name.endswith("reader")


def test_an_outcome_adapter_lists_hashes_of_its_tuning_patients(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "export", ward(400))
    cohort = tmp_path / "cohort"
    build = ("cohort", "build", "--task", "readmission_30d", "--fhir", tmp_path / "export", "--out", cohort)
    assert CliRunner().invoke(cli, [*map(str, build)]).exit_code == 0
    out = tmp_path / "opinion"
    result = run("--model", model, "--task", "readmission_30d", "--cohort", cohort, "--out", out, *QUICK, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    manifest = json.loads(result.stdout)
    assert manifest["outcome_tuning"]["task"] == "readmission_30d"
    assert manifest["outcome_tuning"]["offset"] < 0
    rows = LabelledCohort.open(cohort).rows
    known = learned_from(manifest, [row.subject_id for row in rows])
    splits = {row.split for row, was in zip(rows, known, strict=True) if was}
    assert 0.3 < known.mean() < 0.6
    assert "test" not in splits
    assert not any(row.subject_id in result.stdout for row in rows)
    assert "of other patients" in result.stderr
    left = exclude_tuning_patients(LabelledCohort.open(cohort), f"{model}+{out}")
    assert left.rows == tuple(row for row, was in zip(rows, known, strict=True) if not was)
    assert exclude_tuning_patients(left, "regression") is left
    with pytest.raises(TrainingError, match="tuned among all"):
        exclude_tuning_patients(
            replace(left, rows=tuple(row for row in rows if row not in left.rows)), f"{model}+{out}"
        )
    other = run(
        "--model", model, "--task", "in_hospital_mortality", "--cohort", cohort, "--out", tmp_path / "x", *QUICK
    )
    assert isinstance(other.exception, TrainingError)
    assert run("--model", model, "--task", "readmission_30d", "--out", tmp_path / "x").exit_code == 2


def test_usage_errors_and_bad_input_have_different_exit_codes(model: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "reader")
    assert run(*out, "--notes", tmp_path / "nowhere").exit_code == 2
    assert run("--model", model).exit_code == 2
    assert isinstance(run("--model", tmp_path, *out, *QUICK).exception, ModelArtifactError)
    assert run("--model", model, *out, *QUICK).exit_code == 0
    again = run("--model", model, *out, *QUICK)
    assert isinstance(again.exception, TrainingError)
    assert "holds an adapter already" in str(again.exception)


def test_help_names_resume_exit_codes_and_the_extra() -> None:
    text = " ".join(run("--help").output.split())
    assert all(word in text for word in ("--resume", "Exit codes", "riskcards[llm]", "sha256"))
