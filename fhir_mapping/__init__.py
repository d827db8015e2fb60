"""FHIR JSON in, plain values out. No network, no clock, no machine learning."""

from fhir_mapping.definitions import DefinitionError
from fhir_mapping.errors import FhirMappingError, ForeignPatientError, InvalidInputError, PatientNotFoundError
from fhir_mapping.record import PatientRecord
from fhir_mapping.site_map import SiteMap
from fhir_mapping.values import (
    Administration,
    Availability,
    Coding,
    Condition,
    CopiedBlock,
    FeatureValue,
    FeatureVector,
    Instant,
    Measurement,
    Medication,
    Note,
    Procedure,
    Refusal,
    Section,
    Stay,
    StayClass,
)

__all__ = [
    "Administration",
    "Availability",
    "Coding",
    "Condition",
    "CopiedBlock",
    "DefinitionError",
    "FeatureValue",
    "FeatureVector",
    "FhirMappingError",
    "ForeignPatientError",
    "Instant",
    "InvalidInputError",
    "Measurement",
    "Medication",
    "Note",
    "PatientNotFoundError",
    "PatientRecord",
    "Procedure",
    "Refusal",
    "Section",
    "SiteMap",
    "Stay",
    "StayClass",
]
