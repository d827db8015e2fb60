"""Selects the patient's current resources: each one proven to belong to the patient, once, in its newest version.

A clinical resource of another patient raises ForeignPatientError, even if its type is not mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from fhir_mapping.core.errors import ForeignPatientError, PatientNotFoundError
from fhir_mapping.core.times import parse_instant
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Observation, Raw, Resource, fragment
from fhir_mapping.parsing.references import WEB, Directory, Ownership, contained
from fhir_mapping.parsing.resource_reader import ParsedInput, ResourceEntry
from fhir_mapping.resources.measurements import refusals
from fhir_mapping.terminology.codes import status_values

NOTE_TYPES = frozenset({"DocumentReference", "Composition", "DiagnosticReport"})
CLINICAL = frozenset(
    {"Observation", "Condition", "Encounter", "MedicationRequest", "MedicationStatement", "MedicationAdministration",
     "Procedure"}
)  # fmt: skip
# A mother in a newborn's chart is a RelatedPerson with the newborn as `patient`; the others hold no patient data.
_NOT_ABOUT_A_PATIENT = frozenset({"Patient", "RelatedPerson", "Person", "Practitioner", "Group", "Device", "Bundle"})
_INHERITED = ("status", "subject", "encounter", "issued", "effectiveDateTime", "effectivePeriod", "effectiveInstant")
_NEVER = frozenset({"entered-in-error", "cancelled"})
_MAPPED = CLINICAL | NOTE_TYPES
_PANELS = frozenset({"Observation", "DiagnosticReport"})
Owned = tuple[str, ResourceEntry]


def find_patient(reading: ParsedInput, directory: Directory, patient_id: str | None) -> tuple[str, Resource]:
    """Returns the id and the newest version of the requested Patient, or of the only one.

    Raises PatientNotFoundError, and ForeignPatientError if the data are about another patient than requested.
    """
    matches: dict[str, Resource] = {}
    included: dict[str, Resource] = {}
    for position, entry in enumerate(reading.entries):
        if entry.kind != "Patient":
            continue
        resource, identifier = entry.resource, entry.source(position).partition("/")[2]
        if identifier.startswith("#"):
            continue
        patients = included if entry.include else matches
        patients[identifier] = _newer(patients[identifier], resource) if identifier in patients else resource
    all_patients = included | matches
    if patient_id is not None and patient_id not in all_patients:
        if all_patients and not reading.population:
            raise ForeignPatientError("the Patient in the data is not the one requested", source="Patient")
        raise PatientNotFoundError("the data contain no Patient with the requested id", found=tuple(all_patients))
    choices = matches or included
    if patient_id is None and not choices:
        raise PatientNotFoundError("the data contain no Patient with an id")
    if patient_id is None and len(choices) > 1:
        raise PatientNotFoundError(f"the data contain {len(choices)} patients; give a patient id", found=tuple(choices))
    chosen = patient_id if patient_id is not None else next(iter(choices))
    if len(directory.servers_of(f"Patient/{chosen}")) > 1:
        raise PatientNotFoundError("the data contain this id from several servers: these are different patients")
    return chosen, all_patients[chosen]


def select_patient_resources(
    reading: ParsedInput, directory: Directory, patient: str, refused: list[Refusal]
) -> list[Owned]:
    """Returns every resource proven to belong to `patient` (`Patient/p1`): key and entry, once, in its newest version.

    Observations contained in panels and reports are listed too. `refused` gets what cannot be used.
    """
    newest: dict[str, ResourceEntry] = {}
    waiting: dict[str, ResourceEntry] = {}
    proven: set[bytes] = set()
    simple = True  # no contained members, and no duplicates without an id
    for position, entry in enumerate(reading.entries):
        kind = entry.kind
        if kind in _NOT_ABOUT_A_PATIENT:
            continue
        if kind == "OperationOutcome":
            refused.append(Refusal(entry.source(position), "operation-outcome"))
        mapped, reason = kind in _MAPPED, None
        subject, focus = _about(entry)
        if focus or not _proven(entry, subject, directory, patient, proven):
            subject = _decoded_subject(entry) if isinstance(subject, Raw) else subject
            if not (mapped or subject):
                continue
            reason = _why_not_used(entry, position, subject, focus, directory, patient, population=reading.population)
        if not mapped or reason == "":
            continue
        source = entry.source(position)
        if reason is None:
            chosen = waiting if entry.include else newest
            chosen[source] = entry if source not in chosen else _newer_entry(chosen[source], entry)
            simple = simple and "/#" not in source and not (kind in _PANELS and _has_contained(entry))
        elif not entry.include:
            refused.extend(refusals(_elements_of(entry), source, reason))
    # An entry with `mode=include` is not a match, but it counts as a member of a panel that is one.
    for member in [m for entry in newest.values() for m in _members(entry)] if waiting else ():
        key = directory.key(member)
        if key in waiting and key not in newest:
            newest[key] = waiting[key]
    return list(newest.items() if simple else _unfold(_without_duplicates(newest), directory, patient, refused))


def _proven(entry: ResourceEntry, subject: Any, directory: Directory, patient: str, proven: set[bytes]) -> bool:
    """Whether the subject is the patient; cached by its bytes, unless the fullUrl matters too."""
    has_url = entry.full_url is not None and entry.full_url.startswith(WEB)
    text = bytes(subject) if type(subject) is Raw and not has_url else b""
    if text in proven:
        return True
    owned = directory.ownership(subject, patient, entry.full_url) is Ownership.OURS
    if owned and text:
        proven.add(text)
    return owned


def _elements_of(entry: ResourceEntry) -> Observation | Resource:
    return entry.observation if entry.kind == "Observation" else entry.elements


def _about(entry: ResourceEntry) -> tuple[Any, Any]:
    """Returns subject and focus; the subject may be its bytes, which are the same for nearly every resource."""
    kind = entry.kind
    if kind != "Observation" and kind in _MAPPED:
        elements = entry.elements
        return elements.get("subject") or elements.get("patient"), elements.get("focus")
    decoded = entry.observation if kind == "Observation" else entry.owner
    return decoded.subject or decoded.patient, decoded.focus


def _decoded_subject(entry: ResourceEntry) -> Any:
    decoded = entry.observation if entry.kind == "Observation" else entry.owner
    return fragment(decoded.subject) or fragment(decoded.patient)


def _why_not_used(
    entry: ResourceEntry,
    position: int,
    subject: Any,
    focus: Any,
    directory: Directory,
    patient: str,
    *,
    population: bool,
) -> str | None:
    """Returns None for the patient's resource, "" for another patient's in a population, else why it is not used."""
    full_url = entry.full_url
    owners = {directory.ownership(s, patient, full_url) for s in (subject if isinstance(subject, list) else [subject])}
    if Ownership.FOREIGN in owners and Ownership.OURS in owners:
        # An account or a group appointment has several; a clinical resource about two patients is about neither alone.
        return "several-subjects" if entry.kind in _MAPPED else None
    if Ownership.FOREIGN in owners:
        if population:
            return ""
        source = entry.source(position)
        raise ForeignPatientError(f"{source} belongs to another patient; nothing is computed", source=source)
    if Ownership.NO_PATIENT in owners:
        return "subject-not-a-patient"
    if owners != {Ownership.OURS}:
        return "subject-unprovable"
    for item in focus if isinstance(focus, list) else [focus] if focus else ():
        if directory.ownership(item, patient, full_url) is not Ownership.OURS:
            return "focus-is-somebody-else"
    return None


def _newer(first: Resource, second: Resource) -> Resource:
    """Returns the newer of two versions of one resource, whatever their order; entered-in-error wins a tie."""
    return max(first, second, key=_version)


def _newer_entry(first: ResourceEntry, second: ResourceEntry) -> ResourceEntry:
    return first if _newer(first.resource, second.resource) is first.resource else second


def _version(resource: Resource) -> tuple[datetime, str, bool, str]:
    meta = resource.get("meta")
    updated = parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    number = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
    return (
        updated.latest if updated else datetime.min.replace(tzinfo=UTC),
        number.rjust(20, "0"),
        resource.get("status") == "entered-in-error",
        _canonical(resource),
    )


def _canonical(resource: Resource) -> str:
    try:
        return orjson.dumps(resource, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # not from JSON: integers over 64 bits, keys that are not strings
        return repr(resource)


def _without_duplicates(entries: dict[str, ResourceEntry]) -> Iterator[Owned]:
    """Yields the resources without duplicates: of those without an id, the same content counts once."""
    decoded: set[str] = set()
    for source, entry in entries.items():
        if "/#" in source:
            content = _canonical(entry.resource)
            if content in decoded:
                continue
            decoded.add(content)
        yield source, entry


def _members(entry: ResourceEntry) -> list[Any]:
    """Returns the references to the members of a panel or results of a report."""
    if entry.kind not in _PANELS:
        return []
    found = entry.observation.hasMember if entry.kind == "Observation" else entry.elements.get("result")
    return found if isinstance(found, list) else []


def _has_contained(entry: ResourceEntry) -> bool:
    held = entry.observation.contained if entry.kind == "Observation" else entry.elements.get("contained")
    return bool(held)


def _unfold(entries: Iterator[Owned], directory: Directory, patient: str, refused: list[Refusal]) -> Iterator[Owned]:
    """Yields the resources, and Observations contained in panels and reports, which inherit missing elements."""
    for source, entry in entries:
        yield source, entry
        members = _members(entry)
        if not members or not _has_contained(entry):
            continue
        resource = entry.resource
        if _status(resource) in _NEVER or resource.get("modifierExtension"):
            continue
        for member in members:
            text = member.get("reference") if isinstance(member, dict) else None
            inner = contained(resource, text[1:]) if isinstance(text, str) and text.startswith("#") else None
            if inner is None or inner.get("resourceType") != "Observation":
                continue
            if "subject" in inner and directory.ownership(inner["subject"], patient) is not Ownership.OURS:
                refused.extend(refusals(inner, f"{source}{text}", "subject-unprovable"))
                continue
            dated = any(name.startswith("effective") for name in inner)
            names = [name for name in _INHERITED if not (dated and name.startswith("effective"))]
            yield f"{source}{text}", ResourceEntry({name: resource[name] for name in names if name in resource} | inner)


def latest_time(resources: Sequence[Owned], patient: Resource) -> datetime | None:
    """Returns the latest clinical time in the data, at which all of it was known; without one, the birth date.

    Resources that never happened (errors, plans) do not count.
    """
    texts: list[Any] = []
    for _, entry in resources:
        if entry.kind == "Observation":
            texts += _measured_at(entry.observation)
        else:
            texts += _happened_at(entry.elements)
    instants = [instant for instant in map(parse_instant, _distinct(texts)) if instant is not None]
    if instants:
        return max(instant.latest for instant in instants)
    born = parse_instant(patient.get("birthDate"))
    return None if born is None else born.latest


def _status(resource: Resource) -> str:
    status = resource.get("status")
    return status if isinstance(status, str) else ""


_NOT_HAPPENED = _NEVER | {"planned", "draft", "not-done", "preparation"}
_DATE_TIMES = frozenset(
    {"effectiveDateTime", "effectiveInstant", "issued", "authoredOn", "recordedDate", "date", "performedDateTime",
     "onsetDateTime", "occurrenceDateTime"}
)  # fmt: skip
_PERIODS = frozenset({"period", "actualPeriod", "performedPeriod", "effectivePeriod", "occurrencePeriod"})


def _measured_at(decoded: Observation) -> tuple[Any, ...]:
    if isinstance(decoded.status, str) and decoded.status in _NOT_HAPPENED:
        return ()
    return decoded.effectiveDateTime, decoded.issued, decoded.effectiveInstant, *_ends(decoded.effectivePeriod)


def _happened_at(elements: Resource) -> list[Any]:
    if _status(elements) in _NOT_HAPPENED:
        return []
    if "verificationStatus" in elements and "entered-in-error" in status_values(elements["verificationStatus"]):
        return []
    times = [elements[name] for name in _DATE_TIMES & elements.keys()]
    return times + [end for name in _PERIODS & elements.keys() for end in _ends(elements[name])]


def _distinct(texts: list[Any]) -> set[str]:
    return {text for text in texts if isinstance(text, str)}


def _ends(period: Any) -> tuple[Any, ...]:
    return (period.get("start"), period.get("end")) if isinstance(period, dict) else ()
