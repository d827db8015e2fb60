"""A small application with every feature of the library, and the example application."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cds_hooks import Card, CdsHooks, Feedback, HookRequest, Source, UnknownCardError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cds_hooks_minimal" / "app.py"
URL = "/cds-services/echo"
REQUEST: dict[str, Any] = {
    "hook": "encounter-discharge",
    "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "context": {"userId": "Practitioner/7", "patientId": "1", "encounterId": "e1"},
    "prefetch": {"patient": {"resourceType": "Patient", "id": "1"}, "labs": {"resourceType": "Bundle"}},
}
SOURCE = Source("Example hospital")


def minimal_app() -> Flask:
    """The app of `examples/cds_hooks_minimal`."""
    spec = importlib.util.spec_from_file_location("cds_hooks_minimal", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Flask = module.app
    return found


def echo_hooks(kept: list[Any] | None = None, **options: Any) -> CdsHooks:
    """A service whose card repeats its input; feedback on the card "unknown" is refused."""
    hooks = CdsHooks(**options)
    templates = {"patient": "Patient/{{context.patientId}}", "labs": "Observation?patient={{context.patientId}}"}

    @hooks.service(
        "echo",
        hook="encounter-discharge",
        title="Echo",
        description="Says what it got.",
        prefetch=templates,
        optional_prefetch=["labs"],
    )
    def echo(request: HookRequest) -> list[Card]:
        got = ", ".join(sorted(key for key, value in request.prefetch.items() if value is not None))
        return [Card(f"{request.patient_id}: {got}"[:139], SOURCE)]

    @hooks.on_feedback
    def keep(service: str, feedback: tuple[Feedback, ...], caller: Any) -> None:
        if any(entry.card == "unknown" for entry in feedback):
            raise UnknownCardError("feedback[0].card: this service sent no such card")
        if kept is not None:
            kept.append((service, feedback, caller))

    return hooks


def app_of(hooks: CdsHooks) -> Flask:
    app = Flask("echo")
    app.register_blueprint(hooks.blueprint())
    return app


@pytest.fixture
def kept() -> list[Any]:
    return []


@pytest.fixture
def client(kept: list[Any]) -> FlaskClient:
    return app_of(echo_hooks(kept)).test_client()


@pytest.fixture
def body() -> dict[str, Any]:
    return copy.deepcopy(REQUEST)
