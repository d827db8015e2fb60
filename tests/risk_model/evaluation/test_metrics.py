"""Metrics against plain loops: weights are repetitions, and what is counted is what a reader would count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk_model import TrainingError
from risk_model.evaluation.metrics import measure, ranking_metrics, report_metrics
from risk_model.evaluation.performance import EvaluatedRows, evaluate
from risk_model.reports.tripod import TO_WRITE, checklist


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_a_weight_is_a_repetition(seed: int) -> None:
    """The oracle: repeat the rows as often as their weight says, and measure without weights."""
    generator = np.random.default_rng(seed)
    y = np.r_[1.0, 0.0, (generator.random(40) < 0.3).astype(float)]
    p = np.round(generator.uniform(0.02, 0.9, 42), 1)
    weight = np.r_[1.0, 1.0, generator.integers(0, 4, 40).astype(float)]
    repeated = np.repeat(np.arange(42), weight.astype(int))
    expected = report_metrics(y[repeated], p[repeated])
    for name, value in report_metrics(y, p, weight).items():
        assert value == pytest.approx(expected[name], rel=1e-6, abs=1e-6), name


def test_alerts_and_net_benefit_by_hand() -> None:
    """Ten rows, two alerts at 20 per 100: one right; acting from 0.5 on: two right, one wrong."""
    y = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 1], float)
    p = np.array([0.9, 0.8, 0.7, 0.2, 0.15, 0.12, 0.11, 0.08, 0.05, 0.04])
    found = report_metrics(y, p)
    assert found["ppv_at_20_alerts_per_100"] == pytest.approx(0.5)
    assert found["sensitivity_at_20_alerts_per_100"] == pytest.approx(1 / 3)
    assert found["alerts_per_100_at_30_percent"] == pytest.approx(30)
    assert found["net_benefit_at_30_percent"] == pytest.approx((2 - 1 * 0.3 / 0.7) / 10)
    # 0.2 itself alerts at 20 %: three right or wrong above it, and one more.
    assert found["alerts_per_100_at_20_percent"] == pytest.approx(40)


def test_ties_at_the_border_are_shared_out() -> None:
    """All scores alike: any alert rate finds outcomes at the prevalence, whatever the order of the rows."""
    y = np.r_[np.ones(10), np.zeros(90)]
    found = ranking_metrics(y, np.full(100, 0.3))
    assert found["ppv_at_5_alerts_per_100"] == pytest.approx(0.1)
    assert found["auroc"] == pytest.approx(0.5)


def test_rows_of_one_patient_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    y = np.repeat((generator.random(200) < 0.3).astype(float), 5)
    p = np.repeat(generator.uniform(0.1, 0.6, 200), 5)

    def width(patients: list[str]) -> float:
        low, high = measure(y, p, patients, bootstraps=200)["auroc"]["interval"]
        return float(high - low)

    assert width([f"p{n // 5}" for n in range(1000)]) > 1.6 * width([f"p{n}" for n in range(1000)])


def evaluated_rows(rows: int, seed: int = 2) -> EvaluatedRows:
    generator = np.random.default_rng(seed)
    p = generator.uniform(0.02, 0.6, rows)
    y = (generator.random(rows) < p).astype(float)
    score = np.where(generator.random(rows) < 0.5, np.round(10 * p), np.nan)
    few = np.arange(rows) < 40
    groups = {"women": np.arange(rows) % 2 == 0, "few": few}
    return EvaluatedRows(y, p, np.arange(rows).astype(str), {"LACE": score}, groups, generator.random(rows) < 0.9)


def test_comparator_and_model_are_evaluated_on_the_same_rows() -> None:
    rows = evaluated_rows(800)
    found = evaluate(rows, bootstraps=50)["comparators"]["LACE"]
    assert found["rows"] == int(np.isfinite(rows.comparators["LACE"]).sum()) < 800
    assert found["model_on_the_same_rows"]["auroc"]["value"] > 0.6


def test_fewer_than_a_hundred_rows_are_counted_and_suppressed() -> None:
    groups = evaluate(evaluated_rows(800), bootstraps=50)["subgroups"]
    assert groups["few"]["rows"] == 40
    assert "auroc" not in groups["few"]
    assert groups["women"]["coverage"]["value"] == pytest.approx(0.9, abs=0.05)


def test_one_class_is_rejected() -> None:
    with pytest.raises(TrainingError, match="one class"):
        measure(np.zeros(10), np.linspace(0.1, 0.9, 10), list("abcdefghij"))


def test_the_checklist_holds_every_item_and_claims_nothing_it_does_not_know() -> None:
    items = {item.number: item.answer for item in checklist({"rows": 9, "patients": 8, "outcomes": 2}, {})}
    assert len(items) == 52
    assert "9 rows of 8 patients" in items["20a"]
    for number in ("17", "18a", "19"):
        assert items[number] == TO_WRITE
