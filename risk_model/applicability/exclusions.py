"""Patients excluded from every model: hospice and palliative care, pregnancy and childbirth.

Children are excluded by each model's minimum age, deceased patients by `eligibility`. Codes decide: of diagnoses, of
the class and service of the encounter, of procedures and of the discharge; free text does not.
"""

from __future__ import annotations

from fhir_mapping import PatientRecord
from fhir_mapping.record import is_in_hospice, is_pregnant
from risk_model.core.values import Abstention


def excluded(record: PatientRecord) -> Abstention | None:
    """Returns the reason why this patient is excluded from every model, or None.

    >>> from datetime import UTC, datetime
    >>> patient = {"resourceType": "Patient", "id": "p"}
    >>> code = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z51.5"}]}
    >>> care = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}, "code": code}
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> excluded(PatientRecord.from_resources([patient, care], prediction_time=at)).code
    'hospice'
    >>> excluded(PatientRecord.from_resources([patient], prediction_time=at)) is None
    True
    """
    stay = record.current_stay
    if stay is not None and stay.destination == "hospice":
        return Abstention("died-or-hospice", "The stay ended in hospice: no model of ours is meant for its patients.")
    if is_in_hospice(record):
        return Abstention(
            "hospice", "The record shows hospice or palliative care: no model of ours is meant for its patients."
        )
    if is_pregnant(record):
        return Abstention(
            "obstetric", "The record shows pregnancy, childbirth or the weeks after: no model of ours is meant for it."
        )
    return None
