"""The established scores that are shown with an estimate, by task."""

from __future__ import annotations

from fhir_mapping import PatientRecord
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.core.values import ScoreResult
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import news2, qsofa
from risk_model.scores.readmission import hospital_score, lace


def comparators(record: PatientRecord, task: str) -> tuple[ScoreResult, ...]:
    """Returns the established scores of a task that are intended for this patient; none for a task without any."""
    choices = {
        READMISSION_30D: (lace, hospital_score),
        IN_HOSPITAL_MORTALITY: (news2, qsofa, sofa, saps2),
    }.get(task, ())
    return tuple(result for score in choices if (result := score(record)) is not None)
