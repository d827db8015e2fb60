"""The OpenAPI 3.1 document of registered services, for readers, for gateways that validate, and for fuzzers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cds_hooks.services import ServiceDefinition

OPERATION_OUTCOME: dict[str, Any] = {
    "type": "object",
    "required": ["resourceType", "issue"],
    "properties": {"resourceType": {"const": "OperationOutcome"}},
}
OUTCOME: dict[str, Any] = {
    "description": "An OperationOutcome that says what is wrong.",
    "content": {"application/json": {"schema": OPERATION_OUTCOME}},
}
REFUSALS = (400, 401, 403, 404, 412, 413, 415, 429, 500, 503)
"""Statuses, other than 200, of a hook and of feedback."""
_ID = {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}
_CARDS: dict[str, Any] = {
    "type": "object",
    "required": ["cards"],
    "properties": {
        "cards": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["uuid", "summary", "indicator", "source"],
                "properties": {
                    "uuid": {"type": "string", "format": "uuid"},
                    "summary": {"type": "string", "maxLength": 139},
                    "indicator": {"enum": ["info", "warning", "critical"]},
                },
            },
        }
    },
}
_FEEDBACK: dict[str, Any] = {
    "type": "object",
    "required": ["feedback"],
    "properties": {
        "feedback": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["card", "outcome", "outcomeTimestamp"],
                "properties": {
                    "card": {"type": "string"},
                    "outcome": {"enum": ["accepted", "overridden"]},
                    "outcomeTimestamp": {"type": "string", "format": "date-time"},
                    "acceptedSuggestions": {"type": "array", "items": {"type": "object", "required": ["id"]}},
                    "overrideReason": {"type": "object"},
                },
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class OpenApi:
    """What the document says of an application besides its services; `paths` are its other path items."""

    title: str = "CDS Hooks"
    version: str = "1"
    description: str = "CDS Hooks services."
    paths: Mapping[str, Any] = field(default_factory=dict)


def openapi_document(
    services: Iterable[ServiceDefinition], server: str, about: OpenApi | None = None
) -> dict[str, Any]:
    """The document of `GET /openapi.json`. `server` is the public address."""
    about = about or OpenApi()
    return {
        "openapi": "3.1.0",
        "info": {"title": about.title, "version": about.version, "description": about.description},
        "servers": [{"url": server}],
        "paths": {**_hook_paths(services), **about.paths},
    }


def _hook_paths(services: Iterable[ServiceDefinition]) -> dict[str, Any]:
    """The path items of discovery, of the services and of their feedback."""
    listed = list(services)
    service = path_parameter("service_id", sorted(each.id for each in listed))
    refused = {str(status): OUTCOME for status in REFUSALS}
    feedback = {"summary": "Feedback on cards", "responses": {"200": {"description": "Kept."}, **refused}}
    return {
        "/cds-services": {"get": operation("Discovery", {"type": "object"}, {"401": OUTCOME, "503": OUTCOME})},
        "/cds-services/{service_id}": {
            "parameters": [service],
            "post": operation("A hook", _CARDS, refused) | _body(_request(listed)),
        },
        "/cds-services/{service_id}/feedback": {
            "parameters": [service],
            "post": feedback | _body(_FEEDBACK),
        },
    }


def operation(summary: str, schema: dict[str, Any], refusals: dict[str, Any]) -> dict[str, Any]:
    """An operation that answers 200 with JSON of this schema."""
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer, **refusals}}


def path_parameter(name: str, values: list[str]) -> dict[str, Any]:
    """A path parameter with one of these values."""
    return {"name": name, "in": "path", "required": True, "schema": {"enum": values}}


def _request(services: list[ServiceDefinition]) -> dict[str, Any]:
    """The schema of a hook request; only context members that every service requires are required."""
    first = services[0].context_fields if services else ()
    required = [name for name in first if all(name in each.context_fields for each in services)]
    return {
        "type": "object",
        "required": ["hook", "hookInstance", "context"],
        "properties": {
            "hook": {"enum": sorted({each.hook for each in services})},
            "hookInstance": {"type": "string", "format": "uuid"},
            "fhirServer": {"type": "string", "format": "uri"},
            "fhirAuthorization": {
                "type": "object",
                "required": ["access_token"],
                "properties": {"access_token": {"type": "string"}, "patient": {"type": "string"}},
            },
            "context": {
                "type": "object",
                "required": required,
                "properties": {
                    "userId": {"type": "string", "examples": ["Practitioner/example"]},
                    "patientId": _ID,
                    "encounterId": _ID,
                },
            },
            "prefetch": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
        },
    }


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
