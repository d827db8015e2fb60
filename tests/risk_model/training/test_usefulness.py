"""Models that learned nothing are named before anything is saved."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from risk_model.evaluation.metrics import calibration_slope, measure
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.training.gradient_boosting import Fit, fit
from risk_model.training.usefulness import caution, why_useless
from tests.risk_model.simulated import QUICK, simulated


@pytest.fixture(scope="module")
def cohort() -> TrainingRows:
    return simulated(800)


@pytest.fixture(scope="module")
def fitted(cohort: TrainingRows) -> Fit:
    return fit(cohort, parameters=QUICK)


def figures(auroc: float, slope: float, low: float = 0.6) -> dict[str, Any]:
    return {"auroc": {"value": auroc, "interval": [low, 0.9]}, "calibration_slope": {"value": slope}}


CASES = [
    (figures(0.75, 1.0), None),
    (figures(0.52, 0.3), None),
    (figures(0.5, 1.0), "no better than chance"),
    (figures(0.36, 1.0), "backwards"),
    (figures(0.564, -3.9), "calibration slope is -3.9"),
    (figures(0.564, 0.0), "calibration slope is 0.0"),
    (figures(1.0, math.nan), "cannot be calibrated"),
]


@pytest.mark.parametrize(("metrics", "reason"), CASES)
def test_figures_of_a_useless_model(fitted: Fit, metrics: dict[str, Any], reason: str | None) -> None:
    found = why_useless(fitted, metrics)
    assert (found is None) if reason is None else (found is not None and reason in found and "bring more" in found)


def test_a_model_without_a_split(cohort: TrainingRows) -> None:
    stump = fit(cohort, parameters={**QUICK, "min_child_weight": 1e9})
    assert "no split" in str(why_useless(stump, figures(0.7, 1.0)))


def test_a_model_with_an_inverted_calibration(fitted: Fit) -> None:
    assert "backwards" in str(why_useless(replace(fitted, calibration=(0.0, -0.4)), figures(0.6, 1.0)))


@pytest.mark.parametrize(("low", "said"), [(0.51, False), (0.5, True), (0.4, True)])
def test_an_interval_that_holds_chance_is_a_caution(low: float, said: bool) -> None:
    assert (caution(figures(0.6, 1.0, low)) is not None) is said


OUTCOME = np.array([0.0] * 10 + [1.0] * 10)
SLOPES = [
    ("all the same", np.full(20, 0.5)),
    ("separated", np.where(OUTCOME == 1, 0.9, 0.1)),
    ("separated backwards", np.where(OUTCOME == 1, 0.1, 0.9)),
]


@pytest.mark.parametrize(("name", "probability"), SLOPES, ids=[row[0] for row in SLOPES])
def test_a_slope_that_does_not_exist_is_no_number(
    name: str, probability: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    assert math.isnan(calibration_slope(OUTCOME, probability))
    found = measure(OUTCOME, probability, [f"p{n}" for n in range(20)], bootstraps=20)
    assert math.isnan(found["calibration_slope"]["value"])
    assert all(math.isnan(end) for end in found["calibration_slope"]["interval"])
    assert math.isfinite(found["auroc"]["value"])


def test_a_slope_that_exists_is_measured() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.05, 0.95, 4000)
    outcome = (generator.random(4000) < probability).astype(float)
    assert calibration_slope(outcome, probability) == pytest.approx(1, abs=0.1)
