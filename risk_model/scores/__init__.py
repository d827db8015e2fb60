"""Established clinical scores with their missing inputs; None if a score is not intended for the patient."""

from risk_model.scores.agreement import ScoreComparison, best_fitting, compare_with_score
from risk_model.scores.by_task import comparators, why_no_score
from risk_model.scores.comorbidity import charlson, elixhauser
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import mews, news2, qsofa
from risk_model.scores.readmission import LACE_EXPECTED, hospital_score, lace

__all__ = [
    "LACE_EXPECTED",
    "ScoreComparison",
    "best_fitting",
    "charlson",
    "comparators",
    "compare_with_score",
    "elixhauser",
    "hospital_score",
    "lace",
    "mews",
    "news2",
    "qsofa",
    "saps2",
    "sofa",
    "why_no_score",
]
