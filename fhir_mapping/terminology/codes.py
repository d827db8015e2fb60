"""Reads CodeableConcepts: `codings` yields every coding, each with the canonical URI of its code system."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

from artifact_store import CodeSystem, canonical_system
from fhir_mapping.core.values import Coding

LOINC = CodeSystem.LOINC
SNOMED = CodeSystem.SNOMED
ICD10 = CodeSystem.ICD10
ICD10CM = CodeSystem.ICD10CM
ICD9CM = CodeSystem.ICD9CM
RXNORM = CodeSystem.RXNORM
ATC = CodeSystem.ATC
NDC = CodeSystem.NDC
NPU = CodeSystem.NPU
DMD = CodeSystem.DMD
UCUM = CodeSystem.UCUM
ACT_CODE = CodeSystem.ACT_CODE
DATA_ABSENT = CodeSystem.DATA_ABSENT
NULL_FLAVOR = CodeSystem.NULL_FLAVOR


def system_of(uri: Any) -> str | None:
    """Returns the canonical URI of a code system; an unknown URI is returned unchanged.

    >>> system_of("urn:oid:2.16.840.1.113883.6.1"), system_of("https://loinc.org/")
    ('http://loinc.org', 'http://loinc.org')
    """
    if not isinstance(uri, str) or not uri:
        return None
    return canonical_system(uri)


class CodeableConcept(dict[str, Any]):
    """A CodeableConcept shared by many resources; its properties are computed once, so it must not be modified.

    A plain dictionary works everywhere too, but slower.
    """

    @cached_property
    def found(self) -> tuple[Coding, ...]:
        return _codings(self)

    @cached_property
    def display_text(self) -> str:
        return _text_of(self)

    @cached_property
    def statuses(self) -> frozenset[str]:
        return _status_values(self)

    @cached_property
    def systems(self) -> frozenset[str]:
        """Canonical URIs of its code systems."""
        return frozenset(coding.system for coding in self.found if coding.system is not None)


def codings(concept: Any) -> tuple[Coding, ...]:
    """Returns the codings of a CodeableConcept in order; none for anything else."""
    return concept.found if type(concept) is CodeableConcept else _codings(concept)


def _codings(concept: Any) -> tuple[Coding, ...]:
    raw = concept.get("coding") if isinstance(concept, dict) else None
    if not isinstance(raw, list):
        return ()
    return tuple([_coding(item) for item in raw if isinstance(item, dict) and _is_code(item.get("code"))])


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def coding(item: Any) -> tuple[Coding, ...]:
    """Returns a single Coding, such as `Encounter.class` in R4, as a tuple of one; none without a code.

    >>> coding({"system": "urn:oid:2.16.840.1.113883.6.1", "code": "2951-2"})[0].system, coding({"display": "x"})
    ('http://loinc.org', ())
    """
    return (_coding(item),) if isinstance(item, dict) and _is_code(item.get("code")) else ()


def _coding(item: dict[str, Any]) -> Coding:
    display = item.get("display")
    return _cached_coding(system_of(item.get("system")), item["code"], display if isinstance(display, str) else None)


# A chart repeats the same few hundred codings thousands of times.
_cached_coding = lru_cache(maxsize=8192)(Coding)


def text_of(concept: Any) -> str:
    """Returns the display text: `text`, else the first display, else the first code, else an empty string."""
    return concept.display_text if type(concept) is CodeableConcept else _text_of(concept)


def _text_of(concept: Any) -> str:
    if not isinstance(concept, dict):
        return ""
    text = concept.get("text")
    if isinstance(text, str) and text.strip():
        return text.strip()
    found = codings(concept)
    return next((coding.display for coding in found if coding.display), found[0].code if found else "")


def first_code(concept: Any) -> str | None:
    """Returns the code of the first coding, or None."""
    found = codings(concept)
    return found[0].code if found else None


def status_values(concept: Any) -> frozenset[str]:
    """Returns the values of a status in lower case: its codes, a plain string (STU3), or, without codes, its text.

    >>> sorted(status_values({"coding": [{"code": "L-17"}, {"code": "refuted"}]}))
    ['l-17', 'refuted']
    """
    return concept.statuses if type(concept) is CodeableConcept else _status_values(concept)


def _status_values(concept: Any) -> frozenset[str]:
    if concept is None:
        return frozenset()
    if isinstance(concept, str):
        return frozenset({concept.strip().lower()})
    statuses = {coding.code.lower() for coding in codings(concept)}
    if not statuses and isinstance(concept, dict) and isinstance(concept.get("text"), str):
        statuses = {concept["text"].strip().lower()}
    return frozenset(statuses)


def is_set(value: Any) -> bool:
    """Whether a negating boolean (such as `notDone`) is set, even if it is not written as a boolean.

    >>> is_set(True), is_set("true"), is_set("false"), is_set(None)
    (True, True, False, False)
    """
    return bool(value) and not (isinstance(value, str) and value.strip().lower() == "false")
