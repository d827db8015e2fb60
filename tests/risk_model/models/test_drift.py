"""Drift: quiet where nothing changed, loud where something did, silent about what nobody can know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from risk_model import READMISSION_30D, RiskModel
from risk_model.models.drift import (
    Bins,
    compare_distributions,
    compare_sample,
    compare_training_input,
    compare_training_probabilities,
    missingness,
    psi,
)
from risk_model.models.estimator import shipped_folder


@pytest.fixture(scope="module")
def model() -> RiskModel:
    return RiskModel.open(shipped_folder(READMISSION_30D))


def normal(rows: int, shift: float = 0.0, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(shift, 1.0, rows)


@pytest.mark.parametrize("rows", [100, 300, 3000])
def test_two_samples_of_one_population_are_steady(rows: int) -> None:
    """Of 300 pairs hardly one is called anything else, however few patients there are."""
    pairs = [(normal(rows, seed=2 * n), compare_sample(normal(rows, seed=2 * n + 1))) for n in range(300)]
    verdicts = [compare_distributions("x", now, reference, "").verdict for now, reference in pairs]
    assert verdicts.count("steady") >= 297


def test_a_shift_is_found_and_grows() -> None:
    reference = compare_sample(normal(2000))
    found = [compare_distributions("x", normal(500, shift, 3), reference, "") for shift in (0.0, 0.4, 1.0)]
    assert [item.verdict for item in found] == ["steady", "watch", "shifted"]


def test_fewer_than_a_hundred_say_nothing() -> None:
    assert compare_distributions("x", normal(99), compare_sample(normal(2000)), "").psi is None
    assert compare_distributions("x", normal(500), compare_sample(normal(99)), "").verdict == "too few"


def test_counts_and_yes_and_no_are_binned_by_their_values() -> None:
    yes = np.array([1.0] * 30 + [0.0] * 270)
    bins = compare_sample(yes)
    assert bins is not None
    assert bins.shares.tolist() == [0.9, 0.1]
    assert compare_distributions("x", 1 - yes, bins, "").verdict == "shifted"
    constant = compare_sample(np.zeros(300))
    assert constant is not None
    assert compare_distributions("x", np.zeros(300), constant, "").verdict == "too few"


def test_an_empty_bin_is_finite_and_psi_is_symmetric() -> None:
    one, other = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    assert psi(one, other, 0.001) == pytest.approx(psi(other, one, 0.001))
    assert np.isfinite(psi(one, 1 - one, 0.001))


def test_training_probabilities_drawn_again_are_steady_and_moved_ones_are_not(model: RiskModel) -> None:
    kept = model.manifest["reliability"]
    drawn = np.random.default_rng(1).choice([b["probability"] for b in kept], 2000)
    reference = compare_training_probabilities(model)
    assert reference is not None
    assert reference.rows == sum(b["patients"] for b in kept)
    assert compare_distributions("p", drawn, reference, "training").verdict == "steady"
    assert compare_distributions("p", np.minimum(1.0, 1.8 * drawn), reference, "training").verdict == "shifted"


def test_a_training_input_is_compared_only_where_its_quantiles_are_apart(model: RiskModel) -> None:
    described = model.distribution
    assert described is not None
    name = described.names[0]
    knots = described.knots.copy()
    knots[0] = np.linspace(0.5, 12.75, knots.shape[1])
    apart = replace(model, distribution=replace(described, knots=knots))
    bins = compare_training_input(apart, name)
    assert bins is not None
    assert bins.shares.sum() == pytest.approx(1)
    knots[0] = np.round(knots[0])
    assert compare_training_input(replace(model, distribution=replace(described, knots=knots)), name) is None
    assert compare_training_input(model, "no.such") is None
    assert compare_training_input(replace(model, distribution=None), name) is None


def test_missingness_moves_only_beyond_chance_and_a_tenth() -> None:
    rows = np.zeros((400, 3), dtype=np.float32)
    rows[:200, 0] = np.nan
    rows[:20, 1] = np.nan
    found = missingness(("a", "b", "c"), (1.0, 1.0, 1.0), rows)
    assert [item["moved"] for item in found] == [True, False, False]
    assert found[0]["now"] == 0.5
    assert missingness(("a",), (1.0,), rows[:99, :1]) == []


def test_bins_without_two_parts_compare_nothing() -> None:
    assert compare_distributions("x", normal(500), Bins(np.array([]), np.array([1.0]), 500), "").verdict == "too few"
