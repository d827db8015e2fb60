"""Contenders on the same rows: what helps is seen to help, what is left out is missed, and nothing is overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from risk_model.core.errors import TrainingError
from risk_model.evaluation.dataset import Dataset
from risk_model.evaluation.metrics import auroc
from risk_model.features.encoding import Encoding
from risk_model.first_stage.training_rows import TrainingRows, patient_folds
from risk_model.training import forests
from risk_model.training.ablation import ablate, block_of, write_ablation
from risk_model.training.learners import LEARNERS, learners

PLAIN = Encoding.plain([f"f{place}" for place in range(5)])
NAMES = ("age.last", "sodium.last", "heart_rate.last", "condition.count", "sex.female")


def study(rows: int = 400) -> Dataset:
    """Sodium decides, age helps a little, the rest is noise; two rows of each patient; a tenth is unknown."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(rows, len(NAMES)))
    y = (generator.random(rows) < 1 / (1 + np.exp(1.5 - 2 * x[:, 1] - 0.3 * x[:, 0]))).astype(float)
    score = np.where(generator.random(rows) < 0.3, np.nan, x[:, 0])
    x[generator.random(x.shape) < 0.1] = np.nan
    people = tuple(f"p{number // 2}" for number in range(rows))
    cohort = TrainingRows("my_task", NAMES, x.astype(np.float32), y, people)
    return Dataset((), cohort, {"SCORE": score}, {}, ("",) * rows)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return ablate(study(), ["logistic-regression"], bootstraps=100)


def test_what_matters_is_seen_to_matter(found: dict[str, Any]) -> None:
    by_name = {item["name"]: item for item in found["contenders"]}
    reference = by_name["logistic-regression"]
    assert reference["auroc"]["value"] > 0.8
    assert reference["auroc_difference"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert by_name["logistic-regression without laboratory"]["auroc_difference"]["interval"][1] < -0.1
    low, high = by_name["logistic-regression without diagnoses"]["auroc_difference"]["interval"]
    assert low <= 0.01
    assert high >= -0.01
    assert by_name["SCORE"]["rows"] < found["rows"]
    assert by_name["SCORE"]["auroc_difference"]["value"] < 0
    assert found["blocks"] == {"age and sex": 2, "diagnoses": 1, "laboratory": 1, "vital signs": 1}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_ranks_patients_it_has_not_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forests, "_TREES", 20)
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="the extra [benchmark] is not installed")
    rows = study(200).cohort
    (learner,), missing = learners([name], {"max_depth": 2, "eta": 0.3, "rounds": 20})
    fold = patient_folds(rows.patients, 5, rows.y)
    scores = learner.held_out(rows.x, rows.y, rows.patients, fold, PLAIN)
    assert not missing
    assert auroc(rows.y, scores) > 0.7
    # A row's score does not depend on its own outcome.
    turned = rows.y.copy()
    turned[fold == 0] = 1 - turned[fold == 0]
    again = learner.held_out(rows.x, turned, rows.patients, np.where(fold == 0, 0, 1), PLAIN)
    once = learner.held_out(rows.x, rows.y, rows.patients, np.where(fold == 0, 0, 1), PLAIN)
    np.testing.assert_allclose(again[fold == 0], once[fold == 0])


def test_the_answer_is_the_same_each_time(found: dict[str, Any]) -> None:
    assert ablate(study(), ["logistic-regression"], bootstraps=100) == found


def test_files_are_written_once(found: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [report] is not installed")
    write_ablation(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == found
    page = (tmp_path / "out" / "ablation.html").read_text("utf-8")
    assert page.count("<svg") == 1
    assert page.count("<tr>") == len(found["contenders"]) + 1
    with pytest.raises(TrainingError, match="nothing is overwritten"):
        write_ablation(found, tmp_path / "out")


def test_an_unknown_learner_is_named() -> None:
    with pytest.raises(TrainingError, match="choose one of xgboost"):
        ablate(study(), ["perceptron"])


BLOCKS = [
    ("medication.count", "medications"), ("finding.pneumonia", "notes"), ("earlier_stay.count_365d", "earlier care"),
    ("length_of_stay.last", "this stay"), ("sodium.min_24h", "laboratory"), ("spo2.last", "vital signs"),
    ("comorbidity_charlson_dementia.last", "diagnoses"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_inputs_belong_to_blocks(name: str, block: str) -> None:
    assert block_of(name) == block


def test_a_sequence_model_is_a_contender_or_has_a_reason() -> None:
    names = ["logistic-regression", "lstm"]
    nothing = ablate(study(200), names, bootstraps=20)
    assert set(nothing["not_compared"]) == {"lstm"}
    pytest.importorskip("torch", reason="the extra [llm] is not installed")
    assert nothing["not_compared"]["lstm"] == "nothing was measured in these stays"
    rows = study(200)
    measured = replace(rows, series=rows.cohort.x[:, None, 1:3].repeat(2, axis=1))
    found = ablate(measured, names, bootstraps=20)
    by_name = {item["name"]: item for item in found["contenders"]}
    assert by_name["lstm"]["kind"] == "learner"
    assert by_name["lstm"]["auroc"]["value"] > 0.7
