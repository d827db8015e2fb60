"""The established scores that are shown with an estimate, by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fhir_mapping import PatientRecord
from fhir_mapping.record import is_pregnant
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.core.values import ScoreResult
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import news2, qsofa
from risk_model.scores.readmission import hospital_score, lace


def comparators(record: PatientRecord, task: str) -> tuple[ScoreResult, ...]:
    """Returns the established scores of a task that are intended for this patient; none for a task without any."""
    return tuple(result for score in _SCORES.get(task, ()) if (result := score(record)) is not None)


def why_no_score(record: PatientRecord, task: str) -> str:
    """Returns why a task has no established score for a patient, as a sentence; empty if none of the reasons holds.

    The reasons are those for which all scores of a task return None, the first that holds: to be asked only for a
    patient without `comparators`.
    """
    if task not in _SCORES:
        return "No established score: none is calculated for this question."
    age, youngest = record.features().number("age.last"), _YOUNGEST[task]
    if age is None:
        return "No established score: they are for adults, and the patient's age is not known."
    if age < youngest:
        return f"No established score: they are for patients of {youngest} years and over."
    if is_pregnant(record):
        return "No established score: they are not intended for use in pregnancy."
    if task == READMISSION_30D and record.current_stay is None:
        return "No established score: they need an inpatient stay, and none is known."
    return ""


_SCORES: Mapping[str, tuple[Callable[[PatientRecord], ScoreResult | None], ...]] = {
    READMISSION_30D: (lace, hospital_score),
    IN_HOSPITAL_MORTALITY: (news2, qsofa, sofa, saps2),
}
_YOUNGEST: Mapping[str, int] = {READMISSION_30D: 18, IN_HOSPITAL_MORTALITY: 16}
"""Years; NEWS2 is the score for the youngest."""
