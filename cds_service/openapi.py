"""The service's routes as OpenAPI 3.1: for people who read, gateways that check, and the fuzzer of our tests."""

from __future__ import annotations

from typing import Any

from cds_service.services import SERVICES
from risk_model import TASKS

_OPERATION_OUTCOME = {
    "type": "object",
    "required": ["resourceType", "issue"],
    "properties": {"resourceType": {"const": "OperationOutcome"}},
}
_OUTCOME = {
    "description": "An OperationOutcome that says what is wrong.",
    "content": {"application/json": {"schema": _OPERATION_OUTCOME}},
}
_FORMATS = {"enum": ["html", "json", "chai-xml"], "default": "html"}
_ID = {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}
_REQUEST = {
    "type": "object",
    "required": ["hook", "hookInstance", "context"],
    "properties": {
        "hook": {"enum": sorted({service.hook for service in SERVICES.values()})},
        "hookInstance": {"type": "string", "format": "uuid"},
        "fhirServer": {"type": "string", "format": "uri"},
        "fhirAuthorization": {
            "type": "object",
            "required": ["access_token"],
            "properties": {"access_token": {"type": "string"}, "patient": {"type": "string"}},
        },
        "context": {
            "type": "object",
            "required": ["userId", "patientId"],
            "properties": {
                "userId": {"type": "string", "examples": ["Practitioner/example"]},
                "patientId": _ID,
                "encounterId": _ID,
            },
        },
        "prefetch": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
}
_CARDS = {
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
_FEEDBACK = {
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


def openapi(public_url: str) -> dict[str, Any]:
    """The document of `GET /openapi.json`."""
    service = _parameter("service_id", sorted(SERVICES))
    refusals = {str(status): _OUTCOME for status in (400, 401, 403, 404, 412, 413, 415, 429, 503)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "riskcards", "version": "0.1.0", "description": "CDS Hooks risk cards."},
        "servers": [{"url": public_url}],
        "paths": {
            "/cds-services": {"get": _operation("Discovery", {"type": "object"}, {"401": _OUTCOME, "503": _OUTCOME})},
            "/cds-services/{service_id}": {
                "parameters": [service],
                "post": _operation("A hook", _CARDS, refusals) | _body(_REQUEST),
            },
            "/cds-services/{service_id}/feedback": {
                "parameters": [service],
                "post": {"summary": "Feedback on cards", "responses": {"200": {"description": "Kept."}, **refusals}}
                | _body(_FEEDBACK),
            },
            "/model-cards/{task}": {
                "parameters": [_parameter("task", list(TASKS))],
                "get": {
                    "summary": "A model card",
                    "parameters": [
                        {
                            "name": "format",
                            "in": "query",
                            "schema": {"enum": ["html", "json", "chai-xml"], "default": "html"},
                        }
                    ],
                    "responses": {"200": {"description": "The card."}, "404": _OUTCOME},
                },
            },
            "/launch": {
                "get": {
                    "summary": "SMART App Launch",
                    "parameters": [_query("iss"), _query("launch")],
                    "responses": _page("To the authorisation server."),
                }
            },
            "/smart/callback": {
                "get": {
                    "summary": "Back from the authorisation server",
                    "parameters": [_query("code"), _query("state"), _query("error")],
                    "responses": _page("To the app."),
                }
            },
            "/.well-known/jwks.json": {"get": _operation("Our public keys", {"type": "object"}, {})},
            "/health/live": {"get": _operation("The process runs", {"type": "object"}, {})},
            "/health/ready": {"get": _operation("It can answer", {"type": "object"}, {"503": _OUTCOME})},
            "/metrics": {"get": {"summary": "Prometheus", "responses": {"200": {"description": "Text."}}}},
        },
    }


def _operation(summary: str, schema: dict[str, Any], refusals: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer, **refusals}}


def _page(description: str) -> dict[str, Any]:
    """Answers to a person's browser: a redirect, or a page that says what went wrong."""
    wrong = {
        str(status): {"description": "A page that says what is wrong."} for status in (400, 401, 403, 404, 502, 503)
    }
    return {"302": {"description": description}, **wrong}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _parameter(name: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"enum": values}}
