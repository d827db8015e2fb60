"""What the OpenAPI document says of the routes beside the hooks, for readers, gateways that validate, and fuzzers."""

from __future__ import annotations

from typing import Any

from cds_hooks import OpenApi
from cds_hooks.openapi import OUTCOME, operation, path_parameter
from risk_model import TASKS


def described() -> OpenApi:
    """Title, version, and the path items of model cards, SMART launch, health and metrics."""
    paths = {
        "/model-cards/{task}": {
            "parameters": [path_parameter("task", list(TASKS))],
            "get": {
                "summary": "A model card",
                "parameters": [
                    {
                        "name": "format",
                        "in": "query",
                        "schema": {"enum": ["html", "json", "chai-xml"], "default": "html"},
                    }
                ],
                "responses": {"200": {"description": "The card."}, "404": OUTCOME},
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
        "/.well-known/jwks.json": {"get": operation("Our public keys", {"type": "object"}, {})},
        "/health/live": {"get": operation("The process runs", {"type": "object"}, {})},
        "/health/ready": {"get": operation("It can answer", {"type": "object"}, {"503": OUTCOME})},
        "/metrics": {"get": {"summary": "Prometheus", "responses": {"200": {"description": "Text."}}}},
    }
    return OpenApi("riskcards", "0.1.0", "CDS Hooks risk cards.", paths)


def _page(description: str) -> dict[str, Any]:
    """Answers to a browser: a redirect, or an error page."""
    wrong = {
        str(status): {"description": "A page that says what is wrong."} for status in (400, 401, 403, 404, 502, 503)
    }
    return {"302": {"description": description}, **wrong}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}}
