"""Reads FHIR resources into values: patients, stays, conditions, medications, procedures, measurements."""

from fhir_mapping.resources.admissions import DISPOSITIONS, admission_source, destination_of, disposition
from fhir_mapping.resources.measurements import meaning_of
from fhir_mapping.resources.stays import starts_stay

__all__ = [
    "DISPOSITIONS",
    "admission_source",
    "destination_of",
    "disposition",
    "meaning_of",
    "starts_stay",
]
