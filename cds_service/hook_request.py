"""A hook request: guarded bytes, strict JSON, checked fields (CDS Hooks 3.0, "HTTP Request")."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from cds_service.outcome import HookError
from cds_service.services import Service

MAX_DEPTH = 64
MAX_ENTRIES = 20_000
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson)/[A-Za-z0-9\-.]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class HookRequest:
    hook: str
    hook_instance: str
    user_id: str
    patient_id: str
    encounter_id: str | None
    prefetch: Mapping[str, Any]
    fhir_server: str | None = None
    access_token: str | None = field(default=None, repr=False)  # transient: never stored, logged or sent elsewhere


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body: strict, no name twice in one object, no deeper than 64.

    Raises HookError 400 for anything else, too deep ones before the parser sees them.
    """
    structure = _outside_strings(body)
    if _depth(structure) > MAX_DEPTH:
        raise HookError(400, "structure", f"the JSON nests deeper than {MAX_DEPTH} levels")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HookError(400, "structure", f"not valid JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(value, dict):
        raise HookError(400, "structure", "the body must be one JSON object")
    # The parser keeps the last of two equal names in silence: then fewer names come out than went in.
    if _outside_strings(orjson.dumps(value)).count(b":") != structure.count(b":"):
        raise HookError(400, "structure", "an object names the same member twice")
    return value


def _outside_strings(text: bytes) -> bytes:
    r"""JSON without its strings.

    >>> _outside_strings(rb'{"a:\"": [1, "b\\"], "c" : 2}')
    b'{: [1, ],  : 2}'
    """
    return b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def _depth(structure: bytes) -> int:
    """Deepest nesting of JSON without its strings."""
    brackets = np.frombuffer(structure.translate(None, _NOT_BRACKETS), dtype=np.uint8)
    return int(_STEP[brackets].cumsum(dtype=np.int32).max(initial=0))


def parse_request(body: bytes, service: Service) -> HookRequest:
    """A checked request for `service`. Raises HookError 400 with the path of the fault, 403 for mismatched grants."""
    raw = parse_json(body)
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
    prefetch = raw.get("prefetch")
    if prefetch is not None and not isinstance(prefetch, dict):
        raise HookError(400, "structure", "prefetch: expected an object")
    _check_sizes(prefetch or {})
    patient = _identifier(context["patientId"], "context.patientId")
    encounter = context.get("encounterId")
    server, token = _authorization(raw, patient)
    return HookRequest(
        hook=hook,
        hook_instance=_uuid(_text(raw, "hookInstance")),
        user_id=user,
        patient_id=patient,
        encounter_id=None if encounter is None else _identifier(encounter, "context.encounterId"),
        prefetch=prefetch or {},
        fhir_server=server,
        access_token=token,
    )


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
    if not server:
        raise HookError(400, "required", "fhirServer: required beside fhirAuthorization")
    granted = grant.get("patient")
    if granted is not None and str(granted).rpartition("/")[2] != patient:
        raise HookError(403, "forbidden", "fhirAuthorization.patient is not context.patientId")
    return server, grant["access_token"]


def _check_sizes(prefetch: Mapping[str, Any]) -> None:
    entries = 0
    for value in prefetch.values():
        listed = value.get("entry") if isinstance(value, dict) else None
        entries += len(listed) if isinstance(listed, list) else 0
    if entries > MAX_ENTRIES:
        raise HookError(413, "too-costly", f"more than {MAX_ENTRIES} entries in prefetch")
