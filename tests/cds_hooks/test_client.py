"""The client against services over a real HTTP server on 127.0.0.1, from discovery to feedback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, Response
from werkzeug.serving import make_server

from cds_hooks import (
    AcceptedFeedback,
    CallFailedError,
    CallRefusedError,
    Card,
    CdsHooks,
    FetchError,
    FhirAuthorization,
    HookRequest,
    InvalidAnswerError,
    OverriddenFeedback,
    OverrideReason,
    TokenSigner,
    Trust,
    TrustedIssuer,
)
from cds_hooks.client import FhirServer, HookClient
from tests.cds_hooks.conftest import EXAMPLE, app_of, echo_hooks, minimal_app
from tests.cds_hooks.test_cards import whole_card
from tests.cds_service.access.ehr import ISSUER, Ehr

CONTEXT = {"userId": "Practitioner/7", "patientId": "1", "encounterId": "e1"}
NOW = "2026-06-01T10:00:00Z"


@contextmanager
def served(make: Callable[[str], Flask]) -> Iterator[str]:
    """The URL of a running app, which is given its own URL."""
    app = Flask("later")
    server = make_server("127.0.0.1", 0, lambda environ, start: app.wsgi_app(environ, start), threaded=True)
    address = f"http://127.0.0.1:{server.server_port}"
    app = make(address)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fhir_app(_: str = "") -> Flask:
    app = Flask("fhir")

    @app.get("/fhir/Patient/<id>")
    def patient(id: str) -> dict[str, Any]:
        return {"resourceType": "Patient", "id": id, "birthDate": "1948-03-11"}

    @app.get("/fhir/Moved/1")
    def moved() -> Response:
        return Response(status=302, headers={"Location": "/fhir/Patient/1"})

    return app


def test_the_minimal_example_answers_an_ehr() -> None:
    with served(fhir_app) as fhir, served(lambda _: minimal_app()) as address:
        client = HookClient(address)
        (service,) = client.discover()
        assert (service.id, service.hook) == ("birthday", "patient-view")
        context = {"userId": "Practitioner/7", "patientId": "1"}
        prefetch = service.fill_prefetch(context, FhirServer(f"{fhir}/fhir").read)
        (card,) = client.call(service, context, prefetch).cards
        assert card.summary == "Date of birth: 1948-03-11"
        client.send_feedback(service, [OverriddenFeedback(card.uuid, NOW, OverrideReason(comment="I know"))])


def test_discovery_call_and_feedback_with_signed_tokens() -> None:
    ehr, kept = Ehr(), []

    def make(address: str) -> Flask:
        trust = Trust(address, [TrustedIssuer(ISSUER, jwks=ehr.jwks())])
        hooks = echo_hooks(kept, trust=trust)

        @hooks.service("whole", hook="patient-view", description="A card with all its parts.")
        def whole(request: HookRequest) -> list[Card]:
            assert request.fhir_server == "https://ehr.example.org/fhir"
            assert request.authorization == FhirAuthorization("t", "patient/*.rs", "riskcards", "1", 300)
            return [whole_card()]

        return app_of(hooks)

    with served(make) as address:
        client = HookClient(address, signer=TokenSigner(ISSUER, ehr.ec_key, "ec-1"))
        echo, whole = client.discover()
        card = client.call(
            whole,
            {"userId": "Practitioner/7", "patientId": "1"},
            fhir_server="https://ehr.example.org/fhir",
            authorization=FhirAuthorization("t", "patient/*.rs", "riskcards", "1", 300),
        ).cards[0]
        assert card.links[1].app_context == "x"
        client.send_feedback(whole, [AcceptedFeedback(card.uuid, NOW, (card.suggestions[0].uuid,))])
        assert kept[0][1][0].suggestions == (card.suggestions[0].uuid,)
        with pytest.raises(CallRefusedError) as caught:
            client.call(echo, CONTEXT)
        assert caught.value.status == 412
        assert caught.value.outcome is not None
        forger = TokenSigner(ISSUER, ec.generate_private_key(ec.SECP384R1()), "ec-1")
        for signer in (None, forger):
            with pytest.raises(CallRefusedError) as caught:
                HookClient(address, signer=signer).discover()
            assert caught.value.status == 401


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"services": [{}]}', b'{"services": 1}', b'{"cards": [{}]}'])
def test_an_answer_that_breaks_the_specification_is_an_error(answer: bytes) -> None:
    def broken(_: str) -> Flask:
        app = Flask("broken")
        app.add_url_rule("/cds-services", "d", lambda: Response(answer, mimetype="application/json"))
        app.add_url_rule(
            "/cds-services/echo", "c", lambda: Response(answer, mimetype="application/json"), methods=["POST"]
        )
        return app

    with served(broken) as address:
        client = HookClient(address)
        with pytest.raises(InvalidAnswerError):
            client.discover()
        with pytest.raises(InvalidAnswerError):
            client.call(echo_hooks().services["echo"], CONTEXT)


def test_an_unreachable_service_is_an_error() -> None:
    with served(fhir_app) as address:
        with pytest.raises(CallRefusedError) as caught:
            HookClient(address).discover()
        assert (caught.value.status, caught.value.outcome) == (404, None)
    with pytest.raises(CallFailedError):
        HookClient(address, timeout=60.0).discover()


def test_a_fhir_server_that_fails_or_redirects_leaves_a_null() -> None:
    with served(fhir_app) as fhir:
        server = FhirServer(f"{fhir}/fhir")
        for query in ("Observation?patient=1", "Moved/1"):
            with pytest.raises(FetchError):
                server.read(query)
        hooks = CdsHooks()
        templates = {
            "patient": "Patient/{{context.patientId}}",
            "labs": "Observation?patient={{context.patientId}}",
            "stay": "Encounter/{{context.encounterId}}",
        }
        hooks.service("a", hook="patient-view", description="A.", prefetch=templates)(lambda request: [])
        filled = hooks.services["a"].fill_prefetch({"userId": "Practitioner/7", "patientId": "1"}, server.read)
        assert filled["patient"]["id"] == "1"
        assert filled == {"patient": filled["patient"], "labs": None}


def test_the_readme_shows_the_example_that_runs() -> None:
    readme = (EXAMPLE.parents[2] / "cds_hooks" / "README.md").read_text("utf-8")
    code = EXAMPLE.read_text("utf-8").split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in readme
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    sample = re.search(r"A test needs no server:\n\n```python\n(.*?)```", readme, re.DOTALL)
    assert sample is not None
    place: dict[str, Any] = {"json": json, "__name__": "readme"}
    exec(code, place)
    exec(sample[1], place)
