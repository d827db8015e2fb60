"""A service as discovery describes it (CDS Hooks, "Discovery"), and the check of its definition at registration."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cds_hooks.errors import ServiceDefinitionError
from cds_hooks.hook_request import HOOK_CONTEXT, FhirAuthorization, HookRequest, parse_request
from cds_hooks.prefetch import Fetch, PrefetchTemplate, fetch_templates, resource_type
from cds_hooks.prefetch_tokens import Surroundings

SPECIFICATION_VERSION = "2.0.0"
HOOK_VERSION = "1.0"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}\Z")  # unreserved characters of a URL path (RFC 3986)
_HOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_USUAL_CONTEXT = frozenset({"userId", "patientId", "encounterId"})


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """ServiceDefinition("readmission-30d", "encounter-discharge", "Risk of readmission", prefetch={"patient": "..."})

    `prefetch` is key -> template. Raises ServiceDefinitionError.
    """

    id: str
    hook: str
    description: str
    title: str | None = None
    prefetch: Mapping[str, str] = field(default_factory=dict)
    usage_requirements: str | None = None
    version: str | None = SPECIFICATION_VERSION
    """Semantic version of the CDS Hooks specification."""
    hook_version: str | None = HOOK_VERSION
    required_context: tuple[str, ...] | None = None
    """Members of `context`; by default those of the hook's definition."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.match(self.id):
            raise ServiceDefinitionError(f"{self.id!r}: id: letters, digits and . _ ~ - are allowed")
        if not isinstance(self.hook, str) or not _HOOK.match(self.hook):
            raise ServiceDefinitionError(f"{self.id}.hook: the name of a hook is required")
        if not isinstance(self.description, str) or not self.description.strip():
            raise ServiceDefinitionError(f"{self.id}.description: a non-empty string is required")

    @property
    def name(self) -> str:
        """For people: the title, or the id of a service without one."""
        return self.title or self.id

    @property
    def context_fields(self) -> tuple[str, ...]:
        """Members of `context` that a request must have."""
        return HOOK_CONTEXT.get(self.hook, ()) if self.required_context is None else self.required_context

    def expected(self) -> dict[str, str]:
        """The resource type of each prefetch key's value."""
        return {key: resource_type(template) for key, template in self.prefetch.items()}

    def check_templates(self) -> None:
        """Raises ServiceDefinitionError for a template that is invalid or needs a member the hook's context lacks."""
        known, earlier = _USUAL_CONTEXT | set(self.context_fields), set[str]()
        for key, text in self.prefetch.items():
            try:
                template = PrefetchTemplate(text)
                needed = template.context_fields
            except ServiceDefinitionError as error:
                raise ServiceDefinitionError(f"{self.id}.prefetch.{key}: {error}") from None
            if not needed <= known:
                missing = sorted(needed - known)[0]
                raise ServiceDefinitionError(f"{self.id}.prefetch.{key}: {self.hook} has no context.{missing}")
            if not template.keys <= earlier:
                later = sorted(template.keys - earlier)[0]
                raise ServiceDefinitionError(f"{self.id}.prefetch.{key}: {later} must be a key before it")
            earlier.add(key)

    def fill_prefetch(self, context: Mapping[str, Any], read: Fetch, server: str = "") -> dict[str, Any]:
        """The prefetch that the service asks its client for; what cannot be read is null.

        Templates with a token that the context lacks are left out (CDS Hooks, "Prefetch Template"). `server` is the
        base URL whose absolute references may be read. Raises ServiceDefinitionError if templates need each other.
        """
        found, failed = fetch_templates(self.prefetch, Surroundings(context, server=server), read)
        return {key: found.get(key) for key in self.prefetch if key in found or key in failed}

    def request_body(
        self,
        context: Mapping[str, Any],
        prefetch: Mapping[str, Any] | None = None,
        *,
        fhir_server: str | None = None,
        authorization: FhirAuthorization | None = None,
        hook_instance: str | None = None,
    ) -> dict[str, Any]:
        """The JSON that a client posts for one firing of the hook."""
        members = {
            "hook": self.hook,
            "hookInstance": hook_instance or str(uuid.uuid4()),
            "context": dict(context),
            "fhirServer": fhir_server,
            "fhirAuthorization": None if authorization is None else authorization.to_json(),
            "prefetch": None if prefetch is None else dict(prefetch),
        }
        return {name: value for name, value in members.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The service as listed by discovery."""
        members = {
            "id": self.id,
            "hook": self.hook,
            "title": self.title,
            "description": self.description,
            "prefetch": dict(self.prefetch),
            "usageRequirements": self.usage_requirements,
            "version": self.version,
            "hookVersion": self.hook_version,
        }
        return {name: value for name, value in members.items() if value}

    @classmethod
    def from_json(cls, raw: Any) -> ServiceDefinition:
        """A service as a client receives it; its templates may be more general than `PrefetchTemplate`.

        Raises ServiceDefinitionError.
        """
        if not isinstance(raw, Mapping):
            raise ServiceDefinitionError("a service must be an object")
        prefetch = raw.get("prefetch") or {}
        if not isinstance(prefetch, Mapping) or not all(isinstance(text, str) for text in prefetch.values()):
            raise ServiceDefinitionError(f"{raw.get('id')}.prefetch: expected an object of templates")
        return cls(
            id=raw.get("id", ""),
            hook=raw.get("hook", ""),
            description=raw.get("description", ""),
            title=raw.get("title"),
            prefetch=dict(prefetch),
            usage_requirements=raw.get("usageRequirements"),
            version=raw.get("version"),
            hook_version=raw.get("hookVersion"),
        )


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request for a service whose body has not been parsed. The repr has no content: it is patient data."""

    service: ServiceDefinition
    body: bytes = field(repr=False)
    caller: Any = field(default=None, repr=False)
    """The result of the trust object's `verify`; None without trust."""
    seconds: float = 0.0
    """That it has taken so far, without the time in which the client sent the body."""

    def open(self) -> HookRequest:
        """Checked but for its prefetch, which stays bytes until `HookRequest.read_prefetch` parses it.

        Raises MalformedRequestError 400, ForbiddenError 403.
        """
        request = parse_request(self.body, self.service.hook, self.service.context_fields, lazy=True)
        return replace(request, caller=self.caller)

    def parse(self) -> HookRequest:
        """Checked as a whole. Raises as `open`, and TooLargeError 413."""
        request = parse_request(self.body, self.service.hook, self.service.context_fields)
        return replace(request, caller=self.caller)
