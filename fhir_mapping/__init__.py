"""Maps FHIR JSON to plain frozen values, without network, clock or machine learning."""

from fhir_mapping.core.errors import FhirMappingError, ForeignPatientError, InvalidInputError, PatientNotFoundError
from fhir_mapping.core.values import (
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
from fhir_mapping.record.patient_record import PatientRecord
from fhir_mapping.site_maps.site_map import SiteMap
from fhir_mapping.terminology.concepts import DefinitionError

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
