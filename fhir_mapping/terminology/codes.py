"""Codings and code systems: known wrong spellings of a system's URI become the right one, others stay as they are."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

from fhir_mapping.core.values import Coding

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
ICD9CM = "http://hl7.org/fhir/sid/icd-9-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
NDC = "http://hl7.org/fhir/sid/ndc"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

# Other names of a system, without scheme, `urn:oid:`, version or closing slash, in lower case. The OIDs are those of
# the HL7 OID registry; the others are spellings seen in real exports.
_OTHER_NAMES = {
    "2.16.840.1.113883.6.1": LOINC,
    "loinc.org": LOINC,
    "www.loinc.org": LOINC,
    "loinc": LOINC,
    "2.16.840.1.113883.6.96": SNOMED,
    "snomed.info/sct": SNOMED,
    "snomed.info": SNOMED,
    "www.snomed.org": SNOMED,
    "ihtsdo.org": SNOMED,
    "2.16.840.1.113883.6.90": ICD10CM,
    "hl7.org/fhir/sid/icd-10-cm": ICD10CM,
    "2.16.840.1.113883.6.3": ICD10,
    "hl7.org/fhir/sid/icd-10": ICD10,
    "2.16.840.1.113883.6.103": ICD9CM,
    "hl7.org/fhir/sid/icd-9-cm": ICD9CM,
    "hl7.org/fhir/sid/icd-9-cm/diagnosis": ICD9CM,
    "terminology.hl7.org/codesystem/icd9cm": ICD9CM,
    "2.16.840.1.113883.6.88": RXNORM,
    "www.nlm.nih.gov/research/umls/rxnorm": RXNORM,
    "2.16.840.1.113883.6.73": ATC,
    "www.whocc.no/atc": ATC,
    "2.16.840.1.113883.6.69": NDC,
    "hl7.org/fhir/sid/ndc": NDC,
    "2.16.840.1.113883.5.4": ACT_CODE,
    "hl7.org/fhir/v3/actcode": ACT_CODE,
    "terminology.hl7.org/codesystem/v3-actcode": ACT_CODE,
    "2.16.840.1.113883.6.8": UCUM,
    "unitsofmeasure.org": UCUM,
}


_LONGEST_URI = 200  # nothing longer is a name we know, and the cache stays small


@lru_cache(maxsize=4096)
def _named(uri: str) -> str:
    bare = uri.strip().partition("|")[0].rstrip("/").lower()
    for prefix in ("urn:oid:", "oid:", "http://", "https://"):
        bare = bare.removeprefix(prefix)
    if bare.startswith("snomed.info/sct/"):  # an edition or version of SNOMED CT
        return SNOMED
    return _OTHER_NAMES.get(bare, uri)


def system_of(uri: Any) -> str | None:
    """The system's own URI, whatever a known wrong spelling says; others stay as they are.

    >>> system_of("urn:oid:2.16.840.1.113883.6.1"), system_of("https://loinc.org/")
    ('http://loinc.org', 'http://loinc.org')
    """
    if not isinstance(uri, str) or not uri:
        return None
    return _named(uri) if len(uri) <= _LONGEST_URI else uri


class CodeableConcept(dict[str, Any]):
    """A CodeableConcept that stands in many resources: what it says is found out once. To be looked at, never changed.

    A plain dictionary is as good everywhere, and slower.
    """

    @cached_property
    def found(self) -> tuple[Coding, ...]:
        return _codings(self)

    @cached_property
    def said(self) -> str:
        return _text_of(self)

    @cached_property
    def words(self) -> frozenset[str]:
        return _status_words(self)

    @cached_property
    def systems(self) -> frozenset[str]:
        """As written."""
        raw = self.get("coding")
        items = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
        return frozenset(item["system"] for item in items if isinstance(item.get("system"), str))


def codings(concept: Any) -> tuple[Coding, ...]:
    """The codings of a CodeableConcept, in order; anything that is not one gives none."""
    return concept.found if type(concept) is CodeableConcept else _codings(concept)


def _codings(concept: Any) -> tuple[Coding, ...]:
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
    return concept.said if type(concept) is CodeableConcept else _text_of(concept)


def _text_of(concept: Any) -> str:
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


def status_values(concept: Any) -> frozenset[str]:
    """Every word a status may be read from, in lower case: codes, a bare string as in STU3, or the text alone.

    >>> sorted(status_values({"coding": [{"code": "L-17"}, {"code": "refuted"}]}))
    ['l-17', 'refuted']
    """
    return concept.words if type(concept) is CodeableConcept else _status_words(concept)


def _status_words(concept: Any) -> frozenset[str]:
    if concept is None:
        return frozenset()
    if isinstance(concept, str):
        return frozenset({concept.strip().lower()})
    words = {coding.code.lower() for coding in codings(concept)}
    if not words and isinstance(concept, dict) and isinstance(concept.get("text"), str):
        words = {concept["text"].strip().lower()}
    return frozenset(words)


def is_set(value: Any) -> bool:
    """Whether a boolean that would take a meaning back is set: also where it is not written as one.

    >>> is_set(True), is_set("true"), is_set("false"), is_set(None)
    (True, True, False, False)
    """
    return bool(value) and not (isinstance(value, str) and value.strip().lower() == "false")
