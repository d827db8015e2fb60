"""The established score that fits a patient best, and whether the estimate agrees with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.core.values import Agreement, LevelPolicy, RiskEstimate, ScoreResult

# In order of fit. SAPS II and SOFA are computed in intensive care only (`critical_care`), so a ward patient has NEWS2.
_IN_ORDER: Mapping[str, tuple[str, ...]] = {
    IN_HOSPITAL_MORTALITY: ("SAPS II", "SOFA", "NEWS2", "NEWS2 (scale 2)", "qSOFA"),
    READMISSION_30D: ("LACE", "HOSPITAL"),
}
# Scores whose published outcome is near enough to the estimate's own to compare the two numbers. SOFA's is death in
# intensive care, NEWS2's death within a day, HOSPITAL's avoidable readmission only: beside them agreement is unknown.
_COMPARABLE: Mapping[str, str] = {"SAPS II": IN_HOSPITAL_MORTALITY, "LACE": READMISSION_30D}
WIDEST_POINTS = 0.5
"""Share of a score's maximum that its range of points may span for it to be the best-fitting one."""
WIDEST_RISK = 0.5
"""Width of a published risk that can still be said to agree with an estimate; a wider one says too little."""


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """An estimate beside the established score that fits the patient best.

    compare_with_score(estimate).agreement
    """

    score: ScoreResult | None
    """None if no score of the task fits this patient, or too much is missing for each of them."""
    agreement: Agreement
    cautious: float | None
    """The probability of the more cautious reading: where they disagree, at least the lower end of the score's
    published risk. None without an estimate."""

    def deciding(self, policy: LevelPolicy, decisive: float | None) -> float | None:
        """Returns the probability that decides the level of a card; `decisive` is the estimate's own."""
        return self.cautious if policy is LevelPolicy.CAUTIOUS else decisive


def best_fitting(scores: Sequence[ScoreResult], task: str) -> ScoreResult | None:
    """Returns the score that fits best: in intensive care SAPS II or SOFA, on a ward NEWS2; LACE, then HOSPITAL.

    A score with so much missing that its points span more than half of its scale is passed over; None if all are.
    """
    by_name = {score.name: score for score in scores}
    ordered = [by_name[name] for name in _IN_ORDER.get(task, ()) if name in by_name]
    return next((score for score in ordered if score.high - score.low <= WIDEST_POINTS * score.maximum), None)


def compare_with_score(estimate: RiskEstimate) -> ScoreComparison:
    """Returns the best-fitting score of an estimate and whether the two agree.

    They disagree if no probability of the estimate's 90 % interval lies within the score's published range, which
    spans all that its missing inputs could add. They agree if one does, and the range is at most WIDEST_RISK wide.
    Unknown otherwise: no estimate, no published risk, or one of another outcome.
    """
    score = best_fitting(estimate.comparators, estimate.task)
    agreement = _agreement(estimate, score)
    cautious = estimate.decisive
    if agreement is Agreement.DISAGREES and cautious is not None and score is not None and score.published_risk:
        cautious = max(cautious, score.published_risk[0])
    return ScoreComparison(score, agreement, cautious)


def _agreement(estimate: RiskEstimate, score: ScoreResult | None) -> Agreement:
    comparable = score is not None and _COMPARABLE.get(score.name) == estimate.task
    if score is None or not comparable or score.published_risk is None or estimate.probability is None:
        return Agreement.UNKNOWN
    low, high = estimate.interval or (estimate.probability, estimate.probability)
    least, most = score.published_risk
    if high < least or low > most:
        return Agreement.DISAGREES
    return Agreement.AGREES if most - least <= WIDEST_RISK else Agreement.UNKNOWN
