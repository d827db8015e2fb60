"""Reads FHIR resources into values: patients, stays, conditions, medications, procedures, measurements, site maps."""

from fhir_mapping.resources.admissions import DISPOSITIONS, admission_source, destination_of, disposition
from fhir_mapping.resources.concept_maps import CodeMapping, SiteMapImport, check_document, imported, read_mappings
from fhir_mapping.resources.local_codes import CodeProposal, LocalCodes
from fhir_mapping.resources.measurements import meaning_of
from fhir_mapping.resources.stays import starts_stay

__all__ = [
    "DISPOSITIONS",
    "CodeMapping",
    "CodeProposal",
    "LocalCodes",
    "SiteMapImport",
    "admission_source",
    "check_document",
    "destination_of",
    "disposition",
    "imported",
    "meaning_of",
    "read_mappings",
    "starts_stay",
]
