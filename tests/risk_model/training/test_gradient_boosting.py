"""Fitting: what cannot teach is refused by name, and what was fitted is whole, monotone and additive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact_store import Workers
from risk_model import ModelArtifactError, RiskModel, TrainingError
from risk_model.evaluation.metrics import auroc, calibration_slope, logistic_fit
from risk_model.first_stage.training_rows import TrainingRows, patient_folds
from risk_model.training.gradient_boosting import Fit, fit, predict, save
from tests.risk_model.simulated import NAMES, QUICK, informative_block, simulated

POPULATION = {"minimum_age": 16, "needs": [], "needs_at_least": 0, "in_words": "simulated patients"}


@pytest.fixture(scope="module")
def cohort() -> TrainingRows:
    return simulated(2500)


@pytest.fixture(scope="module")
def fitted(cohort: TrainingRows) -> Fit:
    return fit(cohort, parameters=QUICK)


def written(folder: Path, fitted: Fit, cohort: TrainingRows) -> RiskModel:
    save(folder, fitted, cohort, model_id="simulated", version="1", population=POPULATION, card={})
    return RiskModel.open(folder)


def test_constant_inputs_are_dropped_named_and_said(cohort: TrainingRows) -> None:
    x = np.column_stack([cohort.x, np.full(len(cohort.y), 3), np.full(len(cohort.y), np.nan)]).astype(np.float32)
    said: list[str] = []
    result = fit(
        replace(cohort, names=(*NAMES, "albumin.last", "ph.last"), x=x), progress=said.append, parameters=QUICK
    )
    assert result.dropped == ("albumin.last", "ph.last")
    assert result.names == NAMES
    assert any("albumin.last, ph.last" in line for line in said)


def test_known_or_not_is_something_to_learn_from(cohort: TrainingRows) -> None:
    """A value that is always the same but not always known is no constant."""
    x = np.where(np.arange(len(cohort.y))[:, None] % 2, 1.0, np.nan).astype(np.float32)
    assert replace(cohort, names=("mechanical_ventilation.last",), x=x).constants() == ()


def test_nothing_but_constants_is_refused(cohort: TrainingRows) -> None:
    with pytest.raises(TrainingError, match="nothing to learn"):
        fit(replace(cohort, names=("a.last",), x=np.ones((len(cohort.y), 1), np.float32)))


def test_outcomes_of_too_few_patients_leave_a_fold_with_one_class(cohort: TrainingRows) -> None:
    """Thirty outcomes, all of one patient: enough rows, and still nothing to hold out."""
    patients = tuple("ill" if outcome else f"p{n}" for n, outcome in enumerate(cohort.y))
    with pytest.raises(TrainingError, match=r"fold \d of 5.*one class only"):
        fit(replace(cohort, patients=patients))


def test_folds_share_out_the_patients_with_an_outcome(cohort: TrainingRows) -> None:
    fold = patient_folds(cohort.patients, y=cohort.y)
    counts = [cohort.y[fold == number].sum() for number in range(5)]
    assert max(counts) - min(counts) <= 1
    np.testing.assert_array_equal(fold, patient_folds(cohort.patients, y=cohort.y))


def test_out_of_fold_probabilities_are_honest(cohort: TrainingRows, fitted: Fit) -> None:
    new = simulated(4000, seed=30)
    expected = auroc(new.y, predict(fitted, new))
    assert auroc(cohort.y, fitted.out_of_fold) == pytest.approx(expected, abs=0.04)
    assert calibration_slope(new.y, predict(fitted, new)) == pytest.approx(1, abs=0.2)


def test_folds_on_workers_give_the_same_fit() -> None:
    small = simulated(300)
    options: dict[str, Any] = {"parameters": {**QUICK, "rounds": 5}, "search": True, "note_bound": 0.5}
    alone, shared = (fit(small, workers=Workers(count), **options) for count in (1, 2))
    assert shared.out_of_fold.tobytes() == alone.out_of_fold.tobytes()
    assert shared.calibration == alone.calibration
    assert shared.predictor.to_bytes() == alone.predictor.to_bytes()


def test_what_was_written_answers_as_what_was_fitted(tmp_path: Path, cohort: TrainingRows, fitted: Fit) -> None:
    model = written(tmp_path, fitted, cohort)
    np.testing.assert_array_equal(model.probabilities(cohort.x[:50]), predict(fitted, cohort)[:50])
    assert model.conformal == fitted.conformal
    assert model.distribution is not None
    assert model.distribution.refuse == fitted.distribution.refuse


def test_heads_are_written_without_pickle_and_checked(tmp_path: Path) -> None:
    cohort = replace(simulated(600), blocks=())
    result = fit(replace(cohort, blocks=(replace(informative_block(cohort), source="notes"),)), parameters=QUICK)
    model = written(tmp_path, result, replace(cohort, blocks=(replace(informative_block(cohort), source="notes"),)))
    assert model.names[-1] == "notes_embedding.logit"
    np.testing.assert_array_equal(model.heads[0].weights, result.heads[0].weights)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".ubj"}
    (tmp_path / "heads.json").write_text("[]")
    with pytest.raises(ModelArtifactError, match="altered"):
        RiskModel.open(tmp_path)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.2, 3.0), st.floats(-2, 2))
def test_the_calibration_map_is_monotone_for_any_forecast_that_ranks(seed: int, slope: float, shift: float) -> None:
    """Plain Newton from a slope of one ran away to infinity when log-odds came at a fifth of their scale."""
    generator = np.random.default_rng(seed)
    raw = generator.normal(-1, 1.5, 2000)
    y = (generator.random(2000) < 1 / (1 + np.exp(-raw))).astype(float)
    intercept, fitted_slope = logistic_fit(y, (raw - shift) / slope)
    assert fitted_slope == pytest.approx(slope, rel=0.35)
    points = 1 / (1 + np.exp(-(intercept + fitted_slope * np.linspace(-5, 5, 200))))
    assert (np.diff(points) > 0).all()


def test_where_a_language_model_reads_held_out_probabilities_are_as_served(
    cohort: TrainingRows, tmp_path: Path
) -> None:
    """Notes that tell the outcome: out of fold, too, they move a probability no further than the bound, so metrics,
    intervals and prediction sets are those of what would be served."""
    said = np.where(np.random.default_rng(3).random(len(cohort.y)) < 0.9, cohort.y, 1 - cohort.y)
    noted = replace(cohort, names=(*NAMES, "finding.Sepsis"), x=np.column_stack([cohort.x, said]).astype(np.float32))
    free, held_near = fit(noted, parameters=QUICK, note_bound=50.0), fit(noted, parameters=QUICK, note_bound=0.7)
    assert (
        auroc(noted.y, cohort_only(cohort)) < auroc(noted.y, held_near.out_of_fold) < auroc(noted.y, free.out_of_fold)
    )
    assert np.abs(logit(held_near.out_of_fold) - logit(free.out_of_fold)).max() > 0.7
    save(
        tmp_path, held_near, noted, model_id="m", version="1", population=POPULATION, card={}, facts={"note_bound": 0.7}
    )
    model = RiskModel.open(tmp_path)
    rows = noted.x[:200]
    served = [model.bounded(p, row).probability for p, row in zip(model.probabilities(rows), rows, strict=True)]
    assert model.manifest["note_bound"] == 0.7
    without = np.where([name == "finding.Sepsis" for name in noted.names], np.nan, rows).astype(np.float32)
    assert np.abs(logit(np.array(served)) - logit(model.probabilities(without))).max() <= 0.7 + 1e-6


def cohort_only(cohort: TrainingRows) -> np.ndarray:
    return fit(cohort, parameters=QUICK).out_of_fold


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))
