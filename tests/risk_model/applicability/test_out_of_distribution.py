"""Patients unlike the training patients are told apart; training patients themselves seldom are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from risk_model.applicability.out_of_distribution import REFUSED, WARNED, Distribution
from risk_model.first_stage.training_rows import patient_folds
from tests.risk_model.simulated import NAMES, simulated


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    cohort = simulated(6000)
    return Distribution.fit(cohort.names, cohort.x, patient_folds(cohort.patients))


def shares(distribution: Distribution, x: NDArray[np.float32]) -> tuple[float, float]:
    verdicts = [distribution.outlier_score(row).verdict for row in x]
    return float(np.mean([v != "typical" for v in verdicts])), float(np.mean([v == "outlier" for v in verdicts]))


def test_false_alarms_are_as_rare_as_stated(distribution: Distribution) -> None:
    warned, refused = shares(distribution, simulated(6000, seed=9).x)
    assert warned == pytest.approx(WARNED, abs=0.006)
    assert refused == pytest.approx(REFUSED, abs=0.002)


def scaled(name: str, factor: float) -> NDArray[np.float32]:
    x = simulated(1000, seed=10).x.copy()
    x[:, NAMES.index(name)] *= factor
    return x


@pytest.mark.parametrize(("name", "factor"), [("sodium.last", 0.1), ("sodium.last", 10), ("heart_rate.last", 5)])
def test_a_value_in_another_unit_is_refused_and_named(distribution: Distribution, name: str, factor: float) -> None:
    x = scaled(name, factor)
    assert shares(distribution, x)[1] > 0.99
    assert name.partition(".")[0] in distribution.outlier_score(x[0]).concepts


def test_missing_an_always_known_input_is_an_outlier(distribution: Distribution) -> None:
    x = simulated(200, seed=11).x.copy()
    x[:, [NAMES.index("sodium.last"), NAMES.index("heart_rate.last")]] = np.nan
    assert shares(distribution, x)[1] > 0.99


def test_empty_charts_in_training_hide_no_lost_feed() -> None:
    """Two stays in a hundred hold nothing; by their scores a patient without any vital sign passed for usual."""
    x = simulated(3000).x.copy()
    x[:60] = np.nan
    patients = [f"p{n}" for n in range(len(x))]
    distribution = Distribution.fit(NAMES, x, patient_folds(patients))
    held = simulated(200, seed=11).x.copy()
    held[:, [NAMES.index("sodium.last"), NAMES.index("heart_rate.last")]] = np.nan
    assert shares(distribution, held)[0] > 0.99


def test_a_rare_diagnosis_alone_is_not_an_outlier(distribution: Distribution) -> None:
    """Yes and no have no distance: a disease of eight in a hundred once made each such patient an alarm."""
    x = simulated(2000, seed=12).x.copy()
    x[:, NAMES.index("group.cerebrovascular")] = 1
    assert shares(distribution, x)[0] < 0.03


def test_it_survives_json(distribution: Distribution) -> None:
    again = Distribution.from_json(json.loads(json.dumps(distribution.to_json())))
    row = simulated(1).x[0]
    assert again.outlier_score(row) == distribution.outlier_score(row)


@pytest.mark.parametrize("damage", [{"knots": [[1.0]]}, {"known": []}, {"places": ["x"]}])
def test_a_damaged_description_is_refused(distribution: Distribution, damage: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Distribution.from_json(distribution.to_json() | damage)


def test_no_checked_inputs_is_typical() -> None:
    x = np.zeros((100, 1), np.float32)
    distribution = Distribution.fit(("group.cerebrovascular",), x, np.arange(100) % 5)
    assert distribution.outlier_score(x[0]).verdict == "typical"
    assert Distribution.from_json(distribution.to_json()).names == ()


def test_skewed_values_far_too_low_and_far_too_high_are_outliers() -> None:
    """A bilirubin in another unit was refused when seventeen times too high, and looked usual when as much too low."""
    drawn = np.random.default_rng(3)
    x = np.column_stack([np.exp(drawn.normal(0, 1.0, 4000)), drawn.normal(138, 4, 4000)]).astype(np.float32)
    distribution = Distribution.fit(("bilirubin.last", "sodium.last"), x, np.arange(4000) % 5)
    for factor in (1000, 1 / 1000):
        moved = x[:500].copy()
        moved[:, 0] *= factor
        assert shares(distribution, moved)[0] > 0.9
    assert shares(distribution, x)[0] < 0.02


def test_one_value_far_out_is_not_hidden_among_many_usual_ones() -> None:
    """In a sum over forty concepts one that was five deviations off passed as usual."""
    drawn = np.random.default_rng(4)
    x = np.exp(drawn.normal(0, 0.5, (4000, 40))).astype(np.float32)
    distribution = Distribution.fit(tuple(f"c{n}.last" for n in range(40)), x, np.arange(4000) % 5)
    moved = x[:400].copy()
    moved[:, 0] /= 100
    assert shares(distribution, moved)[0] > 0.9
    assert shares(distribution, np.exp(drawn.normal(0, 0.5, (2000, 40))).astype(np.float32))[0] < 0.02
    old = {name: value for name, value in distribution.to_json().items() if name != "furthest"}
    assert Distribution.from_json(old).furthest == np.inf
