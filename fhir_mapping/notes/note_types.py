"""The type of a note, by its LOINC document code, else by the text of its type; and its author's role."""

from __future__ import annotations

import re
from typing import Any

from fhir_mapping.notes.formats.plain import clean
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.terminology.codes import LOINC, codings, text_of

OTHER = "other"
# LOINC document ontology: the types in use in US Core, C-CDA and Synthea (https://loinc.org/document-ontology/).
_BY_LOINC = {
    code: kind
    for kind, codes in {
        "discharge_summary": "18842-5 34105-7 28655-9 11490-0 34106-5 34745-0 59258-4 59259-2 68817-6",
        "history_and_physical": "34117-2 47039-3 34115-6 34116-4 34094-3 28626-0 34776-5 34861-5 51849-8 34774-0",
        "progress_note": "11506-3 18733-6 28569-4 34130-5 34131-3 11507-1 11510-5 28575-9 34125-5 11509-7 28580-9",
        "consultation": "11488-4 34104-0 34100-8 34099-2 34101-6 34102-4 34103-2 51845-6 77429-9",
        "emergency_note": "34111-5 34878-9 51846-4 51852-2 15507-7 28568-6 34112-3",
        "operative_note": "11504-8 34137-0 34868-0 34870-6 59843-3",
        "procedure_note": "28570-0 18745-0 11505-5 34122-2 34121-4",
        "nursing_note": "34746-8 28651-8 34118-0 34119-8 28623-7 46208-5",
        "imaging_report": "18748-4 18726-0 18747-6 18755-9 18760-9 24627-2 30746-2 36643-5 42148-7 11522-0 34552-0",
        "pathology_report": "11526-1 11529-5 60567-5 22637-3",
        "laboratory_report": "11502-2 26436-6 18723-7 18725-2",
        "patient_summary": "34133-9 60591-5 52521-2",
        "referral": "57133-1 57170-3 28616-1 18761-7 28650-0",
        "discharge_instructions": "8653-8 69730-0 74213-0 69981-9",
        "initial_evaluation": "28636-9 34120-6 51855-5 75476-2",
        "care_plan": "18776-5 34847-4 64295-9",
        "telephone_encounter": "34748-4 34139-6 34844-1",
        "advance_directive": "42348-3 64298-3 81334-5",
    }.items()
    for code in codes.split()
}
_BY_TEXT = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("discharge_instructions", r"discharge instruction|after.visit|patient instruction"),
        ("discharge_summary", r"discharge|death (summary|note)|summary of stay"),
        ("history_and_physical", r"history (and|&) physical|\bh ?& ?p\b|admission note|admission history"),
        ("consultation", r"consult"),
        ("operative_note", r"operati|surgical"),
        ("procedure_note", r"procedure"),
        ("emergency_note", r"emergency|\bed\b|triage"),
        ("nursing_note", r"nurs"),
        ("imaging_report", r"radiolog|imaging|x-?ray|\bct\b|\bmri\b|ultrasound|echocardiog|mammogra"),
        ("pathology_report", r"patholog|cytolog|histolog"),
        ("laboratory_report", r"laborator|microbiolog"),
        ("telephone_encounter", r"telephone|phone"),
        ("referral", r"referral|transfer|transition"),
        ("care_plan", r"care plan|plan of care"),
        ("progress_note", r"progress|daily note|soap|follow.?up|visit note|clinic note"),
        ("initial_evaluation", r"evaluation|intake|assessment"),
        ("patient_summary", r"summary"),
    )
)


def kind_of(concept: Any) -> str:
    """Returns the kind of note of a type CodeableConcept, or `other`.

    >>> kind_of({"coding": [{"system": "http://loinc.org", "code": "18842-5"}]}), kind_of({"text": "ICU Progress Note"})
    ('discharge_summary', 'progress_note')
    """
    for coding in codings(concept):
        if coding.system == LOINC and coding.code in _BY_LOINC:
            return _BY_LOINC[coding.code]
    return _kind_by_text(text_of(concept))


def _kind_by_text(text: str) -> str:
    return next((kind for kind, pattern in _BY_TEXT if pattern.search(text.lower())), OTHER)


def type_and_kind(resource: Resource) -> tuple[str, str]:
    """Returns display name and kind of a note: by `type` or `code`, else by its title or description."""
    concept = resource.get("type") or resource.get("code")
    text, kind = text_of(concept), kind_of(concept)
    if not any(character.isalpha() for character in text):
        text = kind.replace("_", " ") if kind != OTHER else _title(resource) or text
    return text or str(resource["resourceType"]), kind if kind != OTHER else _kind_by_text(text)


def _title(resource: Resource) -> str:
    text_found = resource.get("title") or resource.get("description")
    return " ".join(clean(text_found).split())[:100] if isinstance(text_found, str) else ""


def author_role(resource: Resource, directory: Directory) -> str | None:
    """Returns the first author's role as text, else its resource type (`practitioner`, `device`, ...), else None."""
    for name in ("author", "performer", "resultsInterpreter", "authenticator"):
        listed = resource.get(name)
        for author in listed if isinstance(listed, list) else [listed]:
            role = _role(author, resource, directory)
            if role:
                return role
    return None


def _role(author: Any, resource: Resource, directory: Directory) -> str | None:
    if not isinstance(author, dict):
        return None
    found = directory.resolve(author, resource)
    if found is not None:
        return _role_text(found) or str(found.get("resourceType") or "").lower() or None
    key = directory.key(author) or str(author.get("reference") or "")
    kind = key.split("/")[-2] if "/" in key else author.get("type")
    return kind.lower() if isinstance(kind, str) and kind.isalpha() else None


def _role_text(person: Resource) -> str:
    """Returns the text of PractitionerRole.code or specialty, or of Practitioner.qualification."""
    for name in ("code", "specialty", "qualification"):
        listed = person.get(name)
        for item in listed if isinstance(listed, list) else ():
            text_found = text_of(item.get("code") if name == "qualification" and isinstance(item, dict) else item)
            if text_found:
                return text_found
    return ""
