"""Reads CodeableConcepts and normalises code system URIs; unknown URIs stay unchanged."""

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

# Other URIs of a system, without scheme, `urn:oid:`, version or trailing slash, in lower case. The OIDs are those of
# the HL7 OID registry; the others occur in real exports.
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


_MAX_URI = 200  # characters; known URIs are shorter, and the cache stays small


def bare_uri(uri: str) -> str:
    """Returns a code system URI without scheme, `urn:oid:`, version and trailing slash, in lower case.

    >>> bare_uri("https://www.nubc.org/CodeSystem/PointOfOrigin|2.0"), bare_uri("urn:oid:1.2.3")
    ('www.nubc.org/codesystem/pointoforigin', '1.2.3')
    """
    bare = uri.strip().partition("|")[0].rstrip("/").lower()
    for prefix in ("urn:oid:", "oid:", "http://", "https://"):
        bare = bare.removeprefix(prefix)
    return bare


@lru_cache(maxsize=4096)
def _canonical(uri: str) -> str:
    bare = bare_uri(uri)
    if bare.startswith("snomed.info/sct/"):  # an edition or version of SNOMED CT
        return SNOMED
    return _OTHER_NAMES.get(bare, uri)


def system_of(uri: Any) -> str | None:
    """Returns the canonical URI of a code system; an unknown URI is returned unchanged.

    >>> system_of("urn:oid:2.16.840.1.113883.6.1"), system_of("https://loinc.org/")
    ('http://loinc.org', 'http://loinc.org')
    """
    if not isinstance(uri, str) or not uri:
        return None
    return _canonical(uri) if len(uri) <= _MAX_URI else uri


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
        """Code system URIs as written."""
        raw = self.get("coding")
        items = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
        return frozenset(item["system"] for item in items if isinstance(item.get("system"), str))


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
