"""Clinical scores: comparators beside every estimate, each with its missing inputs. None where it is not meant.

readmission      LACE, HOSPITAL
early_warning    NEWS2 (scales 1 and 2), MEWS, qSOFA
critical_care    SOFA, SAPS II
comorbidity      Charlson, Elixhauser (van Walraven)
"""

from __future__ import annotations

from fhir_mapping import PatientRecord
from risk_model.scores.comorbidity import charlson, elixhauser
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import mews, news2, qsofa
from risk_model.scores.readmission import LACE_EXPECTED, hospital_score, lace
from risk_model.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.values import ScoreResult

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


def comparators(record: PatientRecord, task: str) -> tuple[ScoreResult, ...]:
    """The established scores for a task whose population fits this patient; none for a task that has none."""
    choices = {
        READMISSION_30D: (lace, hospital_score),
        IN_HOSPITAL_MORTALITY: (news2, qsofa, sofa, saps2),
    }.get(task, ())
    return tuple(result for score in choices if (result := score(record)) is not None)
