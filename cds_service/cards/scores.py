"""The established score beside an estimate: which one fits best, its published risk, and whether the two agree."""

from __future__ import annotations

from cds_service.cards.wording import percent_range
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, RiskEstimate, ScoreResult

# In the order in which they fit: intensive care scores exist only for patients in intensive care.
_BEST = {
    IN_HOSPITAL_MORTALITY: ("SAPS II", "SOFA", "NEWS2", "qSOFA"),
    READMISSION_30D: ("LACE", "HOSPITAL"),
}
DISAGREES = "disagrees"


def best_score(estimate: RiskEstimate) -> ScoreResult | None:
    """Returns the first score that gives a level or a published risk, else the first with a known input, else None."""
    by_name = {score.name: score for score in estimate.comparators if score.inputs}
    fitting = [by_name[name] for name in _BEST.get(estimate.task, ()) if name in by_name]
    telling = [score for score in fitting if score.band is not None or published_risk(score) is not None]
    return next(iter(telling or fitting), None)


def first_choice(estimate: RiskEstimate) -> str:
    """Returns the name of the score that fits best, calculated or not."""
    names = {score.name for score in estimate.comparators}
    return next((name for name in _BEST.get(estimate.task, ()) if name in names), estimate.comparators[0].name)


def published_risk(score: ScoreResult) -> tuple[float, float] | None:
    """Returns the lowest and the highest published risk of the score's points; None if none is published."""
    known: tuple[float, float] | None = getattr(score, "published_risk", None)
    if known is None and score.expected_risk is not None:
        known = (score.expected_risk, score.expected_risk)
    return known


def agreement(estimate: RiskEstimate) -> str:
    """Returns "agrees", "disagrees" or "unknown": whether the estimate and the best-fitting score's published risk do.

    They disagree where the estimate lies outside the published range and its interval does not reach that range.
    """
    known: str | None = getattr(estimate, "agreement", None)
    return known or _compared(estimate)


def _compared(estimate: RiskEstimate) -> str:
    score = best_score(estimate)
    risk = None if score is None else published_risk(score)
    if risk is None or estimate.probability is None:
        return "unknown"
    low, high = estimate.interval or (estimate.probability, estimate.probability)
    return DISAGREES if high < risk[0] or low > risk[1] else "agrees"


def disagreement(estimate: RiskEstimate) -> str:
    """Returns one plain sentence where estimate and score disagree, else an empty text."""
    score = best_score(estimate)
    risk = None if score is None else published_risk(score)
    if score is None or risk is None or agreement(estimate) != DISAGREES:
        return ""
    return f"Scores disagree: {score.name} suggests {percent_range(*risk)}."


def cautious_risk(estimate: RiskEstimate) -> float | None:
    """Returns the higher of the estimate and, where they disagree, the highest published risk of the score."""
    score, risk = best_score(estimate), estimate.decisive
    published = None if score is None else published_risk(score)
    if risk is None or published is None or agreement(estimate) != DISAGREES:
        return risk
    return max(risk, published[1])


def score_words(score: ScoreResult) -> str:
    """Returns name, points, level and published risk: `SAPS II 50–70, published risk 46–81 %`."""
    points = f"{score.low}" if score.low == score.high else f"{score.low}–{score.high}"
    level = f" ({score.band})" if score.band else ""
    risk = published_risk(score)
    return f"{score.name} {points}{level}" + ("" if risk is None else f", published risk {percent_range(*risk)}")
