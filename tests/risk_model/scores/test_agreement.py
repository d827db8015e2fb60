"""The best-fitting score of a patient, and whether the estimate agrees with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from risk_model import (
    IN_HOSPITAL_MORTALITY,
    READMISSION_30D,
    Abstention,
    Agreement,
    LevelPolicy,
    RiskEstimate,
    ScoreResult,
    best_fitting,
    compare_with_score,
    lace,
    saps2,
)
from risk_model.scores.critical_care import saps_mortality
from risk_model.scores.early_warning import news2_risk
from risk_model.scores.items import ScoreItem, total, with_risk
from risk_model.scores.readmission import LACE_EXPECTED
from tests.risk_model.models.test_estimator import home, icu


def score(name: str, low: int, high: int, maximum: int, risk: tuple[float, float] | None = None) -> ScoreResult:
    return ScoreResult(name, low, high, maximum, None, (), (("age", "70 years", low),), published_risk=risk)


def estimate(
    probability: float | None,
    interval: tuple[float, float] | None,
    *scores: ScoreResult,
    task: str = IN_HOSPITAL_MORTALITY,
    anchor: float | None = None,
) -> RiskEstimate:
    abstention = Abstention("outside", "none") if probability is None else None
    return RiskEstimate(
        task, "p", datetime(2024, 1, 1, tzinfo=UTC), probability, interval, 0.14, (), scores, (), abstention, "m", "1",
        anchor=anchor,
    )  # fmt: skip


NEWS2, SOFA = score("NEWS2", 9, 9, 20), score("SOFA", 8, 10, 24)
SAPS, EMPTY_SAPS = score("SAPS II", 54, 65, 163, (0.55, 0.77)), score("SAPS II", 12, 140, 163, (0.02, 1.0))
LACE, HOSPITAL = score("LACE", 10, 10, 19, (0.122, 0.122)), score("HOSPITAL", 3, 6, 13, (0.058, 0.119))


@pytest.mark.parametrize(
    ("scores", "task", "expected"),
    [
        ((NEWS2, SOFA, SAPS), IN_HOSPITAL_MORTALITY, "SAPS II"),
        ((NEWS2, SOFA, EMPTY_SAPS), IN_HOSPITAL_MORTALITY, "SOFA"),
        ((NEWS2,), IN_HOSPITAL_MORTALITY, "NEWS2"),
        ((HOSPITAL, LACE), READMISSION_30D, "LACE"),
        ((HOSPITAL, score("LACE", 2, 14, 19)), READMISSION_30D, "HOSPITAL"),
        ((EMPTY_SAPS,), IN_HOSPITAL_MORTALITY, None),
        ((), IN_HOSPITAL_MORTALITY, None),
        ((LACE,), "a_task_of_ones_own", None),
    ],
)
def test_the_best_fitting_score(scores: tuple[ScoreResult, ...], task: str, expected: str | None) -> None:
    found = best_fitting(scores, task)
    assert (found.name if found is not None else None) == expected


@pytest.mark.parametrize(
    ("probability", "interval", "scores", "expected"),
    [
        (0.17, (0.09, 0.25), (SAPS,), Agreement.DISAGREES),
        (0.60, (0.50, 0.70), (SAPS,), Agreement.AGREES),
        (0.50, (0.40, 0.56), (SAPS,), Agreement.AGREES),
        (0.90, (0.85, 0.95), (SAPS,), Agreement.DISAGREES),
        (0.17, None, (SAPS,), Agreement.DISAGREES),
        (0.17, (0.09, 0.25), (score("SAPS II", 20, 80, 163, (0.04, 0.92)),), Agreement.UNKNOWN),
        (0.01, (0.0, 0.02), (score("SAPS II", 20, 80, 163, (0.04, 0.92)),), Agreement.DISAGREES),
        (0.17, (0.09, 0.25), (NEWS2,), Agreement.UNKNOWN),
        (0.17, (0.09, 0.25), (score("SOFA", 12, 13, 24, (0.8, 1.0)),), Agreement.UNKNOWN),
        (0.17, (0.09, 0.25), (), Agreement.UNKNOWN),
        (None, None, (SAPS,), Agreement.UNKNOWN),
    ],
)
def test_agreement(
    probability: float | None,
    interval: tuple[float, float] | None,
    scores: tuple[ScoreResult, ...],
    expected: Agreement,
) -> None:
    assert compare_with_score(estimate(probability, interval, *scores)).agreement is expected


def test_avoidable_readmissions_are_no_measure_of_all_readmissions() -> None:
    compared = compare_with_score(estimate(0.3, (0.25, 0.35), HOSPITAL, task=READMISSION_30D))
    assert compared.score is HOSPITAL
    assert compared.agreement is Agreement.UNKNOWN


@pytest.mark.parametrize(
    ("probability", "interval", "anchor", "cautious"),
    [
        (0.17, (0.09, 0.25), None, 0.55),
        (0.90, (0.85, 0.95), None, 0.90),
        (0.60, (0.50, 0.70), None, 0.60),
        # A language model moved the estimate: the anchor without notes decides, and the score may raise it.
        (0.17, (0.09, 0.25), 0.11, 0.55),
        (0.60, (0.50, 0.70), 0.52, 0.52),
    ],
)
def test_the_more_cautious_reading(
    probability: float, interval: tuple[float, float], anchor: float | None, cautious: float
) -> None:
    asked = estimate(probability, interval, SAPS, anchor=anchor)
    compared = compare_with_score(asked)
    assert compared.deciding(LevelPolicy.CAUTIOUS, asked.decisive) == cautious
    assert compared.deciding(LevelPolicy.ESTIMATE, asked.decisive) == asked.decisive


def test_without_an_estimate_nothing_decides() -> None:
    compared = compare_with_score(estimate(None, None, SAPS))
    assert compared.cautious is None


def test_published_risks_of_a_real_chart_span_what_is_missing() -> None:
    found = saps2(icu())
    assert found is not None
    assert found.missing
    assert found.published_risk == (saps_mortality(found.low), saps_mortality(found.high))
    assert found.published_outcome == "death in hospital"
    assert found.expected_risk is None
    readmission = lace(home())
    assert readmission is not None
    assert readmission.published_risk == (LACE_EXPECTED[readmission.low], LACE_EXPECTED[readmission.high])


@pytest.mark.parametrize(
    ("points", "expected"),
    [(0, 0.0007), (2, 0.0007), (3, None), (6, None), (7, 0.078), (20, 0.078)],
)
def test_news2_has_a_published_risk_of_death_within_a_day(points: int, expected: float | None) -> None:
    assert news2_risk(points) == (None if expected is None else (expected, expected))


@pytest.mark.parametrize(
    ("low", "most", "expected"), [(1, 0, (0.1, 0.1)), (1, 1, (0.1, 0.2)), (2, 1, None), (3, 0, None)]
)
def test_a_range_needs_both_ends(low: int, most: int, expected: tuple[float, float] | None) -> None:
    published = {1: (0.1, 0.1), 2: (0.2, 0.2)}
    points = total("X", 9, [ScoreItem("a", "1", low), ScoreItem("b", "", None, 0, most)], None, "nobody")
    found = with_risk(points, published.get, "death in hospital")
    assert found.published_risk == expected
    assert replace(found, missing=()).expected_risk == (0.1 if expected == (0.1, 0.1) else None)
