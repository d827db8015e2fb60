"""Every learner: served as it was fitted, without the library behind it; explained exactly; held to physiology."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cds_service.commands.modelling.learners import LEARNERS as NAMED
from risk_model import ModelArtifactError, RiskModel, TrainingError
from risk_model.evaluation.metrics import auroc
from risk_model.features.encoding import Encoding, encoding_for
from risk_model.predictors.file_formats import open_predictor
from risk_model.predictors.linear_model import LinearModel
from risk_model.predictors.tree_ensemble import TreeEnsemble
from risk_model.training.gradient_boosting import Fit, fit, predict
from risk_model.training.learners import LEARNERS, learner_named
from risk_model.training.usefulness import why_useless
from tests.risk_model.simulated import NAMES, QUICK, simulated
from tests.risk_model.training.test_gradient_boosting import written

COHORT = simulated(500)
SICK = (85, 0, 130, 128, 139, 6, 1)  # age, female, heart rate (last, mean), sodium, lactate, stroke


def fitted(name: str) -> Fit:
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="the extra [benchmark] is not installed")
    return fit(COHORT, parameters=QUICK, learner=name)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_the_command_names_every_learner() -> None:
    assert tuple(LEARNERS) == NAMED


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_served_and_explained(tmp_path: Path, name: str) -> None:
    found = fitted(name)
    model = written(tmp_path, found, COHORT)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".ubj"}
    assert model.manifest["learner"] == name
    new = simulated(300, seed=9)
    probabilities = model.probabilities(new.x)
    np.testing.assert_array_equal(probabilities, predict(found, new))
    assert auroc(new.y, probabilities) > 0.65
    assert why_useless(found, {"auroc": {"value": 0.7}, "calibration_slope": {"value": 1.0}}) is None
    for values in (SICK, (40, 1, 70, 72, 120, math.nan, 0), (70, 1, 45, 41, 150, 1.0, 0)):
        row = np.array(values, np.float32)
        answer = model.explain(row)
        whole = logit(answer.reference) + sum(answer.contributions.values())
        assert whole == pytest.approx(logit(answer.probability), abs=1e-4)
        assert all(answer.contributions.get(c, 0) >= 0 for c in ("heart_rate", "lactate", "sodium", "cerebrovascular"))
        assert ("lactate" in answer.contributions) <= (values[5] > 2)


@pytest.mark.parametrize("known", [1.0, 0.7])
def test_trees_of_lightgbm_answer_as_lightgbm_does(monkeypatch: pytest.MonkeyPatch, known: float) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="the extra [benchmark] is not installed")
    kept: list[Any] = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a, **k: kept.append(train(*a, **k)) or kept[-1])
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 4)).astype(np.float32)
    y = (generator.random(400) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    x[generator.random(x.shape) > known] = np.nan
    encoding = Encoding.plain(["a", "b", "c", "d"])
    learner = learner_named("lightgbm", {})
    predictor = learner.fit(x, y, encoding, learner.grid[0])
    asked = np.vstack([x, np.full((1, 4), np.nan, np.float32)])
    np.testing.assert_allclose(predictor.margins(asked), kept[0].predict(asked, raw_score=True), atol=1e-9)


def test_trees_of_a_forest_answer_as_scikit_learn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import ensemble

    kept: list[Any] = []

    class Forest(ensemble.RandomForestClassifier):  # type: ignore[misc]
        def fit(self, *arguments: Any, **options: Any) -> Any:
            kept.append(self)
            return super().fit(*arguments, **options)

    monkeypatch.setattr(ensemble, "RandomForestClassifier", Forest)
    encoding = encoding_for(COHORT.task, NAMES)
    learner = learner_named("random-forest", {})
    predictor = learner.fit(COHORT.x, COHORT.y, encoding, learner.grid[0])
    columns = encoding.columns_of(COHORT.x)
    filled = np.where(np.isfinite(columns), columns, np.nanmedian(columns, axis=0))
    np.testing.assert_allclose(predictor.margins(columns), kept[0].predict_proba(filled)[:, 1], atol=1e-6)


def test_a_logistic_regression_is_that_of_scikit_learn_where_no_direction_is_known() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 3)).astype(np.float32)
    y = (generator.random(300) < 1 / (1 + np.exp(1 - x[:, 0]))).astype(float)
    learner = learner_named("logistic-regression", {})
    predictor = learner.fit(x, y, Encoding.plain(["a", "b", "c"]), {"C": 0.1})
    z = ((x - np.median(x, axis=0)) / x.std(axis=0)).astype(float)
    expected = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(z, y).decision_function(z)
    np.testing.assert_allclose(predictor.margins(x), expected, atol=1e-3)


def test_a_search_keeps_what_does_best_within_the_folds() -> None:
    found = fit(simulated(400), parameters=QUICK, learner="logistic-regression", search=True)
    assert found.parameters in learner_named("logistic-regression", {}).grid
    assert auroc(simulated(400).y, found.out_of_fold) > 0.6


def test_unknown_learners_are_answered_with_the_choice() -> None:
    with pytest.raises(TrainingError, match=r"perceptron.*choose one of xgboost, lightgbm, logistic-regression"):
        fit(COHORT, learner="perceptron")


LEAF = {
    "left_children": [-1], "right_children": [-1], "split_indices": [0], "split_conditions": [0.5],
    "default_left": [True],
}  # fmt: skip
LINE = {"format": "linear", "columns": ["a"], "intercept": 0.0, "weights": [1.0], "typical": [0.0], "unknown": [0.0]}
DAMAGED = {
    "no json": b"{",
    "a list": b"[]",
    "no format": json.dumps({"columns": ["a"]}),
    "another format": json.dumps({"format": "pickle"}),
    "weights that do not fit": json.dumps(LINE | {"weights": [1.0, 2.0]}),
    "a weight that is no number": json.dumps(LINE | {"weights": [None]}),
    "an intercept that is none": json.dumps(LINE | {"intercept": "high"}),
    "no trees": json.dumps({"format": "trees", "columns": ["a"], "trees": []}),
    "a cycle": json.dumps(
        {"format": "trees", "columns": ["a"], "trees": [LEAF | {"left_children": [0], "right_children": [0]}]}
    ),
    "a child that is not there": json.dumps(
        {"format": "trees", "columns": ["a"], "trees": [LEAF | {"left_children": [5], "right_children": [6]}]}
    ),
    "a column that is none": json.dumps(
        {
            "format": "trees",
            "columns": ["a"],
            "trees": [
                {
                    "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [1, 0, 0],
                    "split_conditions": [0.5, 0, 1], "default_left": [True, False, False],
                }
            ],
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_model_file_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelArtifactError, match="not a model of this version"):
        open_predictor(path)


def test_only_a_file_that_the_manifest_lists_is_opened(tmp_path: Path) -> None:
    """A model.json put beside a listed model.ubj is not looked at; two listed ones are refused."""
    written(tmp_path, fitted("xgboost"), COHORT)
    (tmp_path / "model.json").write_text("{")
    assert RiskModel.open(tmp_path).predictor.file == "model.ubj"
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["model.json"] = manifest["files"]["model.ubj"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelArtifactError, match="must name one of"):
        RiskModel.open(tmp_path)


def test_files_read_back_as_they_were_written(tmp_path: Path) -> None:
    line = LinearModel.from_json(LINE)
    tree = TreeEnsemble.of(["a"], [LEAF])
    for predictor in (line, tree):
        (tmp_path / "model.json").write_bytes(predictor.to_bytes())
        again = open_predictor(tmp_path / "model.json")
        assert again.to_bytes() == predictor.to_bytes()
        assert again.is_constant is (predictor is tree)
