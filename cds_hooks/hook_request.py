"""A hook request: strict JSON, checked fields (CDS Hooks, "HTTP Request").

request = parse_request(body, hook="patient-view", required_context=("userId", "patientId"))
request.patient_id, request.prefetch["patient"]
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cds_hooks.errors import ForbiddenError, HookError, MalformedRequestError
from cds_hooks.prefetch import Prefetch, Reader, check_entries, checked_members
from cds_hooks.strict_json import MAX_DEPTH, parse_json, split_prefetch

FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}\Z")  # it is sent in a header: no spaces, no line ends
_USER = re.compile(r"(Practitioner|PractitionerRole|Patient|RelatedPerson)/[A-Za-z0-9\-.]{1,64}\Z")

HOOK_CONTEXT: Mapping[str, tuple[str, ...]] = {
    "patient-view": ("userId", "patientId"),
    "encounter-start": ("userId", "patientId", "encounterId"),
    "encounter-discharge": ("userId", "patientId", "encounterId"),
    "order-select": ("userId", "patientId", "selections", "draftOrders"),
    "order-sign": ("userId", "patientId", "draftOrders"),
    "order-dispatch": ("patientId", "dispatchedOrders"),
    "appointment-book": ("userId", "patientId", "appointments"),
}
"""Required members of `context` by hook, as the hook definitions have them; other hooks name theirs when registered."""
_OBJECTS = {"draftOrders": dict, "appointments": dict, "selections": list, "dispatchedOrders": list}


@dataclass(frozen=True, slots=True)
class FhirAuthorization:
    """The grant to read the client's FHIR server: never stored, logged or sent to another host."""

    access_token: str = field(repr=False)
    scope: str = ""
    subject: str = ""
    patient: str | None = None
    expires_in: int | None = None
    """Seconds."""

    def to_json(self) -> dict[str, Any]:
        """As a client sends it."""
        members = {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope or None,
            "subject": self.subject or None,
            "patient": self.patient,
        }
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class HookRequest:
    """One call of a service. Its repr has only `hook` and `hook_instance`: the rest is patient data.

    Ids in `context` have no type: `Patient/1` as patientId is read as 1.
    """

    hook: str
    hook_instance: str
    context: Mapping[str, Any] = field(repr=False)
    prefetch: Prefetch = field(default_factory=Prefetch, repr=False)
    fhir_server: str | None = field(default=None, repr=False)
    authorization: FhirAuthorization | None = field(default=None, repr=False)
    extension: Mapping[str, Any] = field(default_factory=dict, repr=False)
    caller: Any = field(default=None, repr=False)
    """The result of the trust object's `verify`; None without trust."""
    body: bytes = field(default=b"", repr=False)
    """The whole request, while its prefetch is unparsed."""
    required_context: tuple[str, ...] = field(default=(), repr=False)

    @property
    def user_id(self) -> str:
        """`Practitioner/1`. Raises MalformedRequestError where the context of this hook has none."""
        return _required_text(self.context, "userId", "context.")

    @property
    def patient_id(self) -> str:
        """Raises MalformedRequestError where the context of this hook has none."""
        return _required_text(self.context, "patientId", "context.")

    @property
    def encounter_id(self) -> str | None:
        found = self.context.get("encounterId")
        return found if isinstance(found, str) else None

    @property
    def access_token(self) -> str | None:
        return None if self.authorization is None else self.authorization.access_token

    def read_prefetch(self, reader: Reader = parse_json) -> HookRequest:
        """The request with its prefetch parsed, by `reader` if given.

        Raises MalformedRequestError 400, TooLargeError 413.
        """
        if self.prefetch.parsed:
            return self
        try:
            members = reader(self.prefetch.raw, MAX_DEPTH - 1)
        except MalformedRequestError:
            # Either the prefetch is invalid, which is reported with its position in the body, or the body was split in
            # the wrong place, and other members were cut out with it.
            return replace(_whole(self.body, self.hook, self.required_context), caller=self.caller)
        check_entries(members)
        return replace(self, prefetch=Prefetch(members, sha256=self.prefetch.sha256), body=b"")

    def without_secrets(self) -> HookRequest:
        """The request without token and prefetch, which may be kept."""
        return replace(self, authorization=None, prefetch=Prefetch(), body=b"")


def parse_request(
    body: bytes, hook: str, required_context: Iterable[str] | None = None, *, lazy: bool = False
) -> HookRequest:
    """A checked request for a service of this hook. With `lazy` its prefetch stays unparsed until `read_prefetch`.

    `required_context` defaults to that of the hook's definition. Unknown members and extensions are accepted.
    Raises MalformedRequestError 400 with the path of the fault, ForbiddenError 403 for a grant of another patient,
    TooLargeError 413.
    """
    required = HOOK_CONTEXT.get(hook, ()) if required_context is None else tuple(required_context)
    parted = split_prefetch(body) if lazy else None
    if parted is not None:
        rest, raw = parted
        with suppress(HookError):
            return replace(_checked(rest, hook, required), prefetch=Prefetch.unparsed(raw), body=body)
    # If the split request is invalid, the whole body is parsed to report the error.
    return _whole(body, hook, required)


def _whole(body: bytes, hook: str, required: tuple[str, ...]) -> HookRequest:
    raw = parse_json(body)
    return replace(_checked(raw, hook, required), prefetch=Prefetch(checked_members(raw.get("prefetch"))))


def _checked(raw: Mapping[str, Any], hook: str, required: tuple[str, ...]) -> HookRequest:
    """The request without its prefetch, validated."""
    if _required_text(raw, "hook") != hook:
        raise MalformedRequestError("value", f"hook: this service answers {hook}")
    context = raw.get("context")
    if not isinstance(context, dict):
        raise MalformedRequestError("required", "context: an object is required")
    for name in required:
        if name in _OBJECTS:
            if not isinstance(context.get(name), _OBJECTS[name]):
                raise MalformedRequestError("required", f"context.{name}: required")
        else:
            _required_text(context, name, "context.")
    context = dict(context)
    has_user = "userId" in required or context.get("userId") is not None
    if has_user and not _USER.match(_required_text(context, "userId", "context.")):
        raise MalformedRequestError("value", "context.userId: expected Practitioner/id or PractitionerRole/id")
    for name in ("patientId", "encounterId"):
        if name in required or context.get(name) is not None:
            context[name] = _identifier(context[name], f"context.{name}")
    server, authorization = _authorization(raw, context.get("patientId"))
    extension = raw.get("extension")
    return HookRequest(
        hook=hook,
        hook_instance=_uuid(_required_text(raw, "hookInstance")),
        context=context,
        fhir_server=server,
        authorization=authorization,
        extension=extension if isinstance(extension, dict) else {},
        required_context=required,
    )


def _required_text(holder: Mapping[str, Any], name: str, path: str = "") -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value.strip():
        raise MalformedRequestError("required", f"{path}{name}: a non-empty string is required")
    return value


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise MalformedRequestError("value", "hookInstance: a UUID is required") from None


def _identifier(value: Any, path: str) -> str:
    kind = path.rpartition(".")[2].removesuffix("Id").capitalize()
    text = value.removeprefix(f"{kind}/") if isinstance(value, str) else ""
    if not FHIR_ID.match(text) or text in {".", ".."}:
        raise MalformedRequestError("value", f"{path}: a FHIR id is required")
    return text


def _authorization(raw: Mapping[str, Any], patient: str | None) -> tuple[str | None, FhirAuthorization | None]:
    server, grant = raw.get("fhirServer"), raw.get("fhirAuthorization")
    if server is not None and not isinstance(server, str):
        raise MalformedRequestError("value", "fhirServer: expected a URL")
    if grant is None:
        return server, None
    if not isinstance(grant, dict) or not isinstance(grant.get("access_token"), str):
        raise MalformedRequestError("structure", "fhirAuthorization: expected an object with access_token")
    if not _TOKEN.match(grant["access_token"]):
        raise MalformedRequestError("value", "fhirAuthorization.access_token: expected a bearer token")
    if not server:
        raise MalformedRequestError("required", "fhirServer: required beside fhirAuthorization")
    granted = grant.get("patient")
    if granted is not None and str(granted).rpartition("/")[2] != patient:
        raise ForbiddenError("fhirAuthorization.patient is not context.patientId")
    seconds = grant.get("expires_in")
    return server, FhirAuthorization(
        grant["access_token"],
        _text_or_empty(grant.get("scope")),
        _text_or_empty(grant.get("subject")),
        None if granted is None else str(granted),
        seconds if type(seconds) is int else None,
    )


def _text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""
