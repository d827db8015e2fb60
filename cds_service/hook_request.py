"""A hook request: guarded bytes, strict JSON, checked fields (CDS Hooks 3.0, "HTTP Request")."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cds_service.outcome import HookError
from cds_service.services import Service
from cds_service.strict_json import MAX_DEPTH, parse_json, parse_prefetch, part
from fhir_mapping.reading import Bundle

MAX_ENTRIES = 20_000
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}\Z")  # it becomes a header: no spaces, no line ends
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson)/[A-Za-z0-9\-.]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class HookRequest:
    hook: str
    hook_instance: str
    user_id: str
    patient_id: str
    encounter_id: str | None
    prefetch: Mapping[str, Any]
    """As parsed, but for Bundles, whose resources nobody has read."""
    fhir_server: str | None = None
    access_token: str | None = field(default=None, repr=False)  # transient: never stored, logged or sent elsewhere
    content: str = ""
    """sha256 of the prefetch as it came; "" where it could not be told apart from the rest without reading all."""
    unread: bytes = field(default=b"", repr=False)  # that prefetch, while nobody has read it
    body: bytes = field(default=b"", repr=False)


def open_request(body: bytes, service: Service) -> HookRequest:
    """A request for `service` with everything checked but its prefetch, which may still be unread.

    Raises HookError 400 with the path of the fault, 403 for mismatched grants.
    """
    parted = part(body)
    if parted is not None:
        rest, unread = parted
        with suppress(HookError):
            content = hashlib.sha256(unread).hexdigest()
            return replace(_checked(rest, service), content=content, unread=unread, body=body)
    # Also where the parted request has a fault: the whole is then read to say what is wrong with it.
    return _whole(body, service)


def read_prefetch(request: HookRequest, service: Service) -> HookRequest:
    """The request with its prefetch read and checked. Raises HookError 400, 413."""
    if not request.unread:
        return request
    try:
        found = parse_prefetch(request.unread, MAX_DEPTH - 1)
    except HookError:
        # Not one object: either a fault, to be told at its place in the body, or the cut was in the wrong place.
        return _whole(request.body, service)
    return replace(request, prefetch=_prefetch(found), unread=b"", body=b"")


def parse_request(body: bytes, service: Service) -> HookRequest:
    """A checked request for `service`, whole. Raises HookError 400, 403, 413."""
    return read_prefetch(open_request(body, service), service)


def _whole(body: bytes, service: Service) -> HookRequest:
    raw = parse_json(body)
    return replace(_checked(raw, service), prefetch=_prefetch(raw.get("prefetch")))


def _checked(raw: Mapping[str, Any], service: Service) -> HookRequest:
    """Everything but the prefetch."""
    hook = _text(raw, "hook")
    if hook != service.hook:
        raise HookError(400, "value", f"hook: this service answers {service.hook}")
    context = raw.get("context")
    if not isinstance(context, dict):
        raise HookError(400, "required", "context: an object is required")
    for name in service.required_context:
        _text(context, name, "context.")
    user = _text(context, "userId", "context.")
    if not _USER.match(user):
        raise HookError(400, "value", "context.userId: expected Practitioner/id or PractitionerRole/id")
    patient = _identifier(context["patientId"], "context.patientId")
    encounter = context.get("encounterId")
    server, token = _authorization(raw, patient)
    return HookRequest(
        hook=hook,
        hook_instance=_uuid(_text(raw, "hookInstance")),
        user_id=user,
        patient_id=patient,
        encounter_id=None if encounter is None else _identifier(encounter, "context.encounterId"),
        prefetch={},
        fhir_server=server,
        access_token=token,
    )


def _prefetch(found: Any) -> Mapping[str, Any]:
    if found is not None and not isinstance(found, dict):
        raise HookError(400, "structure", "prefetch: expected an object")
    _check_sizes(found or {})
    return found or {}


def _text(holder: Mapping[str, Any], name: str, path: str = "") -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value.strip():
        raise HookError(400, "required", f"{path}{name}: a non-empty string is required")
    return value


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise HookError(400, "value", "hookInstance: a UUID is required") from None


def _identifier(value: Any, path: str) -> str:
    """A FHIR id; a client that writes `Patient/1` for patientId means 1."""
    kind = path.rpartition(".")[2].removesuffix("Id").capitalize()
    text = value.removeprefix(f"{kind}/") if isinstance(value, str) else ""
    if not ID.match(text) or text in {".", ".."}:
        raise HookError(400, "value", f"{path}: a FHIR id is required")
    return text


def _authorization(raw: Mapping[str, Any], patient: str) -> tuple[str | None, str | None]:
    server, grant = raw.get("fhirServer"), raw.get("fhirAuthorization")
    if server is not None and not isinstance(server, str):
        raise HookError(400, "value", "fhirServer: expected a URL")
    if grant is None:
        return server, None
    if not isinstance(grant, dict) or not isinstance(grant.get("access_token"), str):
        raise HookError(400, "structure", "fhirAuthorization: expected an object with access_token")
    if not _TOKEN.match(grant["access_token"]):
        raise HookError(400, "value", "fhirAuthorization.access_token: expected a bearer token")
    if not server:
        raise HookError(400, "required", "fhirServer: required beside fhirAuthorization")
    granted = grant.get("patient")
    if granted is not None and str(granted).rpartition("/")[2] != patient:
        raise HookError(403, "forbidden", "fhirAuthorization.patient is not context.patientId")
    return server, grant["access_token"]


def _check_sizes(prefetch: Mapping[str, Any]) -> None:
    entries = 0
    for value in prefetch.values():
        listed = value.entry if isinstance(value, Bundle) else value.get("entry") if isinstance(value, dict) else None
        entries += len(listed) if isinstance(listed, list) else 0
    if entries > MAX_ENTRIES:
        raise HookError(413, "too-costly", f"more than {MAX_ENTRIES} entries in prefetch")
