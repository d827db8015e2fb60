"""The statements beside a probability keep their promise on patients that took no part in making them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk_model.models.conformal import (
    ALL,
    LEVEL,
    Conformal,
    categories_of,
    cross_calibrated,
    describe_prediction_set,
    one_row_each,
)


def forecasts(rows: int, seed: int, *, miscalibrated: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, stated probabilities and a category of each row; `miscalibrated` shifts what is stated."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(-1.8, 1.2, rows)
    y = (generator.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    stated = 1 / (1 + np.exp(-(logit + miscalibrated)))
    return y, stated, np.where(generator.random(rows) < 0.3, "men under 65", "women under 65")


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_prediction_sets_cover_new_patients_within_two_points_also_by_category_and_outcome(shift: float) -> None:
    """Distribution-free: the promise holds for a miscalibrated model too."""
    y, p, kinds = forecasts(12_000, 1, miscalibrated=shift)
    statement = Conformal.calibrate(y, p, np.arange(len(y)).astype(str), kinds)
    y, p, kinds = forecasts(30_000, 2, miscalibrated=shift)
    held = np.array([bool(t) in statement.outcomes(q, k) for t, q, k in zip(y, p.tolist(), kinds, strict=True)])
    for kind in np.unique(kinds):
        for outcome in (0, 1):
            assert held[(kinds == kind) & (y == outcome)].mean() == pytest.approx(LEVEL, abs=0.03)
        assert held[kinds == kind].mean() == pytest.approx(LEVEL, abs=0.02)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_rates_of_new_groups_lie_inside_the_interval(shift: float) -> None:
    y, p, kinds = forecasts(60_000, 3, miscalibrated=shift)
    statement = Conformal.calibrate(y, p, np.arange(len(y)).astype(str), kinds)
    y, p, _ = forecasts(60_000, 4, miscalibrated=shift)
    groups = np.argsort(p)[: len(p) // statement.group * statement.group].reshape(-1, statement.group)
    spans = [statement.interval(float(p[group].mean())) for group in groups]
    inside = [low <= y[group].mean() <= high for group, (low, high) in zip(groups, spans, strict=True)]
    # Calibrated on 600 groups and judged on 600: two points, and as much again for chance.
    assert np.mean(inside) == pytest.approx(LEVEL, abs=0.04)


def test_cross_calibration_measures_what_it_promises() -> None:
    y, p, kinds = forecasts(20_000, 5)
    patients = [f"p{n // 2}" for n in range(len(y))]
    fold = np.array([int(name[1:]) % 5 for name in patients])
    covered, distances = cross_calibrated(y, p, patients, kinds, fold)
    assert covered.mean() == pytest.approx(LEVEL, abs=0.02)
    assert (distances <= 1).mean() == pytest.approx(LEVEL, abs=0.05)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=30))
def test_intervals_hold_their_estimate_stay_within_zero_and_one_and_rise_with_it(estimates: list[float]) -> None:
    y, p, kinds = forecasts(3000, 6)
    statement = Conformal.calibrate(y, p, np.arange(len(y)).astype(str), kinds)
    spans = [statement.interval(estimate) for estimate in sorted(estimates)]
    for estimate, (low, high) in zip(sorted(estimates), spans, strict=True):
        assert 0 <= low <= estimate <= high <= 1
    assert spans == sorted(spans)


def test_the_set_follows_the_estimate() -> None:
    y, p, kinds = forecasts(20_000, 7)
    statement = Conformal.calibrate(y, p, np.arange(len(y)).astype(str), kinds)
    assert statement.outcomes(0.001, ALL) == (False,)
    assert statement.outcomes(0.999, ALL) == (True,)
    assert "without this outcome, fewer than 1 in 10" in describe_prediction_set((True,))


def test_too_few_patients_promise_nothing() -> None:
    """Nine outcomes cannot bound the tenth: nothing is ruled out, and the interval is everything."""
    y = np.array([0.0, 1.0] * 4)
    statement = Conformal.calibrate(y, np.full(8, 0.5), [f"p{n}" for n in range(8)], [ALL] * 8)
    assert statement.outcomes(0.0001, ALL) == (False, True)
    low, high = statement.interval(0.5)
    assert (low, high) == (0.0, 1.0)


def test_it_survives_json_and_small_categories_fall_back_to_all() -> None:
    y, p, kinds = forecasts(5000, 8)
    kinds[:20] = "men 80 and over"
    statement = Conformal.calibrate(y, p, np.arange(len(y)).astype(str), kinds)
    again = Conformal.from_json(json.loads(json.dumps(statement.to_json())))
    assert again == statement
    assert "men 80 and over" not in statement.borders
    assert again.outcomes(0.2, "men 80 and over") == again.outcomes(0.2, ALL)


def test_categories_are_sex_by_age_band_and_unknown_is_its_own() -> None:
    x = np.array([[70, 1], [40, 0], [np.nan, 1], [90, np.nan]], np.float32)
    assert categories_of(("age.last", "sex.female"), x).tolist() == ["women 65 to 79", "men under 65", ALL, ALL]
    assert categories_of(("sodium.last",), x[:, :1]).tolist() == [ALL] * 4


def test_one_row_of_each_patient() -> None:
    patients = [f"p{n % 7}" for n in range(50)]
    chosen = one_row_each(patients)
    assert sorted(patients[i] for i in chosen) == [f"p{n}" for n in range(7)]


def test_sets_hold_for_rows_also_where_the_ill_have_more_of_them() -> None:
    """One row drawn for each patient once gave sets that held for 0.875 of readmission rows instead of 0.90."""
    generator = np.random.default_rng(9)
    risk = generator.normal(-1.8, 1.2, 8000)
    stays = 1 + generator.poisson(np.exp(np.clip(risk + 1, -3, 2)))
    logit = np.repeat(risk, stays) + generator.normal(0, 0.3, stays.sum())
    p = 1 / (1 + np.exp(-logit))
    y = (generator.random(len(p)) < p).astype(float)
    patients = np.repeat(np.arange(8000), stays).astype(str)
    fold = np.repeat(np.arange(8000) % 5, stays)
    covered, _ = cross_calibrated(y, p, patients.tolist(), np.full(len(p), ALL), fold)
    for outcome in (0, 1):
        assert covered[y == outcome].mean() == pytest.approx(LEVEL, abs=0.02)
