"""Clinical scores: comparators beside every estimate, each with its missing inputs. None where it is not meant.

readmission      LACE, HOSPITAL
early_warning    NEWS2 (scales 1 and 2), MEWS, qSOFA
critical_care    SOFA, SAPS II
comorbidity      Charlson, Elixhauser (van Walraven)
"""

from risk_model.scores.comorbidity import charlson, elixhauser
from risk_model.scores.comparators import comparators
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import mews, news2, qsofa
from risk_model.scores.readmission import LACE_EXPECTED, hospital_score, lace

__all__ = [
    "LACE_EXPECTED",
    "charlson",
    "comparators",
    "elixhauser",
    "hospital_score",
    "lace",
    "mews",
    "news2",
    "qsofa",
    "saps2",
    "sofa",
]
