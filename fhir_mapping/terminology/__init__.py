"""Code systems, and the tables that define concepts, note terms, drug classes and diagnosis groups."""

from fhir_mapping.terminology.codes import ACT_CODE, ICD9CM, ICD10, ICD10CM, LOINC, RXNORM, SNOMED, codings
from fhir_mapping.terminology.concepts import ConceptDefinition, definitions
from fhir_mapping.terminology.definition_files import DefinitionField, check_fields, read_yaml
from fhir_mapping.terminology.diagnosis_tables import Scheme, diagnosis_groups, diagnosis_table, scheme_groups
from fhir_mapping.terminology.drug_classes import classes_of, drug_class_table
from fhir_mapping.terminology.icd import icd_code
from fhir_mapping.terminology.note_terms import GRADES, NoteConcept, note_phrases

__all__ = [
    "ACT_CODE",
    "GRADES",
    "ICD9CM",
    "ICD10",
    "ICD10CM",
    "LOINC",
    "RXNORM",
    "SNOMED",
    "ConceptDefinition",
    "DefinitionField",
    "NoteConcept",
    "Scheme",
    "check_fields",
    "classes_of",
    "codings",
    "definitions",
    "diagnosis_groups",
    "diagnosis_table",
    "drug_class_table",
    "icd_code",
    "note_phrases",
    "read_yaml",
    "scheme_groups",
]
