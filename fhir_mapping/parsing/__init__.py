"""Parses JSON, NDJSON and Bundles into resources, resolves references, and validates against FHIR."""

from fhir_mapping.parsing.bundles import Bundle, unread
from fhir_mapping.parsing.elements import Resource, decode_json
from fhir_mapping.parsing.entries import ParsedInput, ResourceEntry, source_of
from fhir_mapping.parsing.prefetch import FhirPrefetch
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import check_utf8, read_bytes
from fhir_mapping.parsing.validation import FhirFault, Validator, Version

__all__ = [
    "Bundle",
    "Directory",
    "FhirFault",
    "FhirPrefetch",
    "ParsedInput",
    "Resource",
    "ResourceEntry",
    "Validator",
    "Version",
    "check_utf8",
    "decode_json",
    "read_bytes",
    "source_of",
    "unread",
]
