"""Codings and code systems: known wrong spellings of a system's URI become the right one, others stay as they are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_mapping.values import Coding

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
ICD9CM = "http://hl7.org/fhir/sid/icd-9-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

# OIDs are those of the HL7 OID registry; the others are spellings seen in real exports.
_SYSTEMS = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "https://loinc.org": LOINC,
    "http://loinc.org/": LOINC,
    "LOINC": LOINC,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "https://snomed.info/sct": SNOMED,
    "http://snomed.info/sct/": SNOMED,
    "urn:oid:2.16.840.1.113883.6.90": ICD10CM,
    "urn:oid:2.16.840.1.113883.6.103": ICD9CM,
    "http://hl7.org/fhir/sid/icd-9-cm/diagnosis": ICD9CM,
    "http://terminology.hl7.org/CodeSystem/icd9cm": ICD9CM,
    "urn:oid:2.16.840.1.113883.6.88": RXNORM,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
}


def system_of(uri: Any) -> str | None:
    """
    >>> system_of("urn:oid:2.16.840.1.113883.6.1")
    'http://loinc.org'
    """
    if not isinstance(uri, str) or not uri:
        return None
    return _SYSTEMS.get(uri, uri)


def codings(concept: Any) -> tuple[Coding, ...]:
    """The codings of a CodeableConcept, in order; anything that is not one gives none."""
    raw = concept.get("coding") if isinstance(concept, dict) else None
    if not isinstance(raw, list):
        return ()
    return tuple([_coding(item) for item in raw if isinstance(item, dict) and _is_code(item.get("code"))])


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _coding(item: dict[str, Any]) -> Coding:
    display = item.get("display")
    return _shared(system_of(item.get("system")), item["code"], display if isinstance(display, str) else None)


# A chart repeats the same few hundred codings thousands of times.
_shared = lru_cache(maxsize=8192)(Coding)


def text_of(concept: Any) -> str:
    """What a person would read: `text`, else the first display, else the first code, else nothing."""
    if not isinstance(concept, dict):
        return ""
    text = concept.get("text")
    if isinstance(text, str) and text.strip():
        return text.strip()
    found = codings(concept)
    return next((coding.display for coding in found if coding.display), found[0].code if found else "")


def first_code(concept: Any) -> str | None:
    """The code of the first coding of a status-like CodeableConcept."""
    found = codings(concept)
    return found[0].code if found else None
