"""Each category is judged by its own thresholds, where it has them."""

from __future__ import annotations

import numpy as np
import pytest

from risk_model.models.conformal import ALL, FEWEST_OUTCOMES, GROUP_SIZES, Conformal

BORDERS = {ALL: (0.1, 0.8), "men under 65": (0.3, 0.6), "women 80 and over": (0.7, 0.2)}


@pytest.mark.parametrize(
    ("category", "probability", "expected"),
    [
        (ALL, 0.2, (False, True)), (ALL, 0.05, (False,)), (ALL, 0.9, (True,)),
        (ALL, 0.1, (False, True)), (ALL, 0.8, (False, True)),
        ("men under 65", 0.2, (False,)), ("men under 65", 0.7, (True,)), ("men under 65", 0.4, (False, True)),
        ("women 80 and over", 0.5, ()),
        ("men 80 and over", 0.2, (False, True)),
    ],
)  # fmt: skip
def test_a_category_has_its_own_borders(category: str, probability: float, expected: tuple[bool, ...]) -> None:
    assert Conformal(0.9, 20, 1.0, BORDERS).outcomes(probability, category) == expected


def test_calibrated_borders_of_categories_differ_where_the_categories_do() -> None:
    """Two categories with 4 and 40 % outcomes at other estimates, and one too small for borders of its own."""
    chance = np.random.default_rng(5)
    kinds = np.array(["men under 65"] * 3000 + ["women 80 and over"] * 3000 + ["women 65 to 79"] * 60)
    centre = np.where(kinds == "men under 65", 0.04, 0.4)
    stated = np.clip(centre * chance.uniform(0.5, 1.5, len(kinds)), 0, 1)
    outcome = (chance.random(len(kinds)) < stated).astype(float)
    found = Conformal.calibrate(outcome, stated, np.arange(len(kinds)).astype(str), kinds)
    assert set(found.borders) == {ALL, "men under 65", "women 80 and over"}
    young, old = found.borders["men under 65"], found.borders["women 80 and over"]
    assert max(young) < 0.07 < 0.2 < min(old)
    assert found.outcomes(0.1, "men under 65") == (True,)
    assert found.outcomes(0.1, "women 80 and over") == (False,)
    assert found.outcomes(0.1, "women 65 to 79") == found.outcomes(0.1, ALL)


@pytest.mark.parametrize(("deaths", "has_own"), [(FEWEST_OUTCOMES, True), (FEWEST_OUTCOMES - 1, False)])
def test_a_category_needs_fifty_patients_of_each_outcome(deaths: int, has_own: bool) -> None:
    """Patients, not rows: a patient's second row adds none."""
    outcome = np.array([1.0] * deaths + [0.0] * 200)
    names = [f"p{n}" for n in range(len(outcome))]
    kinds = ["men under 65"] * len(outcome)
    stated = np.linspace(0.9, 0.1, len(outcome))
    assert ("men under 65" in Conformal.calibrate(outcome, stated, names, kinds).borders) is has_own
    twice = (np.r_[outcome, outcome], np.r_[stated, stated], names * 2, kinds * 2)
    assert ("men under 65" in Conformal.calibrate(*twice).borders) is has_own


def test_an_interval_is_wider_for_smaller_groups_and_holds_the_estimate() -> None:
    widths = []
    for size in GROUP_SIZES:
        low, high = Conformal(0.9, size, 1.6, {ALL: (0.1, 0.9)}).interval(0.2)
        assert 0 <= low <= 0.2 <= high <= 1
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    assert Conformal(0.9, 10, 9.0, {ALL: (0.1, 0.9)}).interval(0.0)[0] == 0.0
    assert Conformal(0.9, 10, 9.0, {ALL: (0.1, 0.9)}).interval(1.0)[1] == 1.0
