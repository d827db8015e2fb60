"""The audit chain as FHIR R4 AuditEvent (https://hl7.org/fhir/R4/auditevent.html), for a hospital's audit repository.

Each event carries the number and the hash of its entry: what was exported can be held against the chain later. Patients
appear as in the store, by a salted hash; estimates and inputs are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cds_service.store.audit import AuditEntry

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_URI = "urn:ietf:rfc:3986"


@dataclass(frozen=True, slots=True)
class _Kind:
    """The DICOM audit codes of an entry kind. `outcome`: 0 success, 4 minor failure."""

    code: str
    display: str
    action: str
    outcome: str = "0"


_KINDS: Mapping[str, _Kind] = {
    "card": _Kind("110112", "Query", "E"),
    "feedback": _Kind("110110", "Patient Record", "C"),
    "outcomes": _Kind("110107", "Import", "C"),
    "mode": _Kind("110100", "Application Activity", "U"),
    "ward-list": _Kind("110112", "Query", "E"),
    "write-back": _Kind("110110", "Patient Record", "U"),
    "purge": _Kind("110110", "Patient Record", "D"),
    "foreign-patient": _Kind("110113", "Security Alert", "R", "4"),
}
_SHORT_FACTS = (
    "service", "hook_instance", "indicator", "shown", "tenant", "outcome", "mode", "before", "cards", "new",
)  # fmt: skip
_OTHER = _Kind("110100", "Application Activity", "E")


def audit_event(entry: AuditEntry, public_url: str) -> dict[str, Any]:
    """Returns an entry as AuditEvent with the entry's hash as id; entries emptied by retention are marked."""
    base, kind, body = public_url.rstrip("/"), _KINDS.get(entry.kind, _OTHER), entry.body or {}
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": entry.hash,
        "type": {"system": _DICOM, "code": kind.code, "display": kind.display},
        "subtype": [{"system": f"{base}/audit-kinds", "code": entry.kind}],
        "action": kind.action,
        "recorded": entry.at,
        "outcome": kind.outcome,
        "agent": list(_agents(entry, body, base)),
        "source": {
            "observer": {"identifier": {"system": _URI, "value": base}, "display": "riskcards"},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
        "entity": list(_entities(entry, body, base)),
    }
    if kind.outcome != "0":
        event["outcomeDesc"] = "Another patient's data were in the request; nothing was estimated."
    return event


def _agents(entry: AuditEntry, body: Mapping[str, Any], base: str) -> Iterator[dict[str, Any]]:
    """The user by a keyed hash, the requesting client by its name in the clients file or the operator, the service."""
    asked = entry.kind in {"card", "feedback", "foreign-patient", "ward-list"}
    user = body.get("user_hash")
    if user:
        yield {"who": {"identifier": {"system": f"{base}/user-hashes", "value": str(user)}}, "requestor": True}
    client = str(body.get("client") or ("a client without a token" if asked else body.get("by") or "an operator"))
    yield {"name": client, "requestor": not user}
    yield {"who": {"identifier": {"system": _URI, "value": base}, "display": "riskcards"}, "requestor": False}


def _entities(entry: AuditEntry, body: Mapping[str, Any], base: str) -> Iterator[dict[str, Any]]:
    detail = {"entry": str(entry.seq), "hash": entry.hash} | dict(_details(entry, body))
    yield {
        "what": {"identifier": {"system": f"{base}/audit-subjects", "value": entry.subject or entry.kind}},
        "type": {"system": _ENTITY_TYPE, "code": "2", "display": "System Object"},
        "detail": [{"type": name, "valueString": value} for name, value in detail.items()],
    }
    patients = [body["patient_hash"]] if "patient_hash" in body else body.get("patient_hashes", ())
    for patient in patients:
        yield {
            "what": {"identifier": {"system": f"{base}/patient-hashes", "value": patient}},
            "type": {"system": _ENTITY_TYPE, "code": "1", "display": "Person"},
            "role": {"system": _OBJECT_ROLE, "code": "1", "display": "Patient"},
        }


def _details(entry: AuditEntry, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The details of an entry that contain no patient data."""
    if entry.body is None:
        yield "content", "removed by retention"
    for name in (
        "service",
        "hook_instance",
        "indicator",
        "shown",
        "tenant",
        "outcome",
        "mode",
        "before",
        "cards",
        "new",
    ):
        if body.get(name) not in (None, ""):
            yield name, str(body[name])
    for estimate in body.get("estimates", ()):
        yield f"model {estimate['task']}", f"{estimate['model_id']} {estimate['model_version']}"
