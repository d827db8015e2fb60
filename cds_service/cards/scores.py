"""The established score beside an estimate, in words: its published risk, and where the two disagree."""

from __future__ import annotations

from cds_service.cards.wording import percent_range
from risk_model import Agreement, RiskEstimate, ScoreResult, compare_with_score

# Scores whose published risk is about the estimate's own outcome. That of NEWS2 is death within a day: on a card it
# would be read as the risk of dying in hospital.
_SAME_OUTCOME = frozenset({"SAPS II", "LACE"})
_INTENSIVE_CARE_SCORES = frozenset({"SAPS II", "SOFA"})
_WARD_SCORES = frozenset({"NEWS2", "NEWS2 (scale 2)", "qSOFA"})


def fitting_scores(estimate: RiskEstimate) -> tuple[ScoreResult, ...]:
    """Returns the scores for the patient's place: in intensive care its own, not those that call for it."""
    names = {score.name for score in estimate.comparators}
    ward = _WARD_SCORES if names & _INTENSIVE_CARE_SCORES else frozenset()
    return tuple(score for score in estimate.comparators if score.name not in ward)


def leading_score(estimate: RiskEstimate) -> ScoreResult | None:
    """Returns the score that fits best; else one that gives a level in spite of what is missing, else None."""
    best = compare_with_score(estimate).score
    levels = (score for score in fitting_scores(estimate) if score.inputs and score.band is not None)
    if best is None or (best.band is None and best.published_risk is None):
        return next(levels, best)
    return best


def disagreement(estimate: RiskEstimate) -> str:
    """Returns one plain sentence where estimate and score disagree, else an empty text."""
    found = compare_with_score(estimate)
    if found.score is None or found.score.published_risk is None or found.agreement is not Agreement.DISAGREES:
        return ""
    return f"Scores disagree: {found.score.name} suggests {percent_range(*found.score.published_risk)}."


def comparable_risk(score: ScoreResult) -> tuple[float, float] | None:
    """Returns the published risk if it is about the estimate's own outcome."""
    return score.published_risk if score.name in _SAME_OUTCOME else None


def points_words(score: ScoreResult) -> str:
    """Returns points, or their range where inputs are missing: `50–70`."""
    return f"{score.low}" if score.low == score.high else f"{score.low}–{score.high}"


def score_words(score: ScoreResult) -> str:
    """Returns name, points, level and published risk: `SAPS II 50–70, published risk 46–81 %`."""
    level = f" ({score.band})" if score.band else ""
    risk = comparable_risk(score)
    shown = "" if risk is None else f", published risk {percent_range(*risk)}"
    return f"{score.name} {points_words(score)}{level}{shown}"
