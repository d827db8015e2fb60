"""A 2.0 client and a 3.0 client, as their requests differ, and requests of real clients of both versions."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.contract.conftest import whole_request
from tests.contract.rules import assert_outcome, assert_valid_discovery, assert_valid_response

CASE = "diabetic-heart-failure-discharge"
URL = "/cds-services/readmission-30d"
ORIGIN = "https://sandbox.cds-hooks.org"
Body = dict[str, Any]

CLIENTS: dict[str, tuple[dict[str, str], Body]] = {
    "2.0": (
        {"Accept": "application/json+fhir", "Origin": ORIGIN, "Content-Type": "application/json"},
        {"token_type": "Bearer", "expires_in": 300, "scope": "user/Patient.read user/Observation.read", "subject": "s"},
    ),
    "3.0": (
        {"Accept": "application/json", "Content-Type": "application/json; charset=UTF-8"},
        {"token_type": "Bearer", "expires_in": 300, "scope": "patient/*.rs", "subject": "s", "patient": "walter"},
    ),
}


@pytest.fixture(params=sorted(CLIENTS))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(client: FlaskClient, version: str, change: Callable[[Body], object] = lambda body: None) -> Any:
    headers, grant = CLIENTS[version]
    body = whole_request(CASE) | {"fhirServer": "https://ehr.example/r4"}
    body["fhirAuthorization"] = {"access_token": "a-token.of_both~kinds+/=", **grant}
    if version == "3.0":
        body["extension"] = {"com.example.timestamp": "2026-01-01", "empty": {}}
        body["context"]["extension"] = {"com.example.ward": ["7"]}
    change(body)
    return client.post(URL, data=json.dumps(body), headers=headers)


def test_discovery_call_and_feedback(client: FlaskClient, version: str) -> None:
    headers, _ = CLIENTS[version]
    listed = client.get("/cds-services", headers=headers)
    assert listed.mimetype == "application/json"
    assert_valid_discovery(listed.get_json())
    answer = ask(client, version)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert_valid_response(answer.get_json())
    card = answer.get_json()["cards"][0]
    # A card has all that a 2.0 client requires; 3.0 only adds to it.
    assert {"summary", "indicator", "source"} <= card.keys()
    said = {"card": card["uuid"].upper(), "outcome": "overridden", "outcomeTimestamp": "2026-01-01T08:00:00.123+01:00"}
    answer = client.post(f"{URL}/feedback", data=json.dumps({"feedback": [said]}), headers=headers)
    assert answer.status_code == 200


def test_cors_allows_browser_clients(client: FlaskClient) -> None:
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for address in ("/cds-services", URL, f"{URL}/feedback"):
        answer = client.options(address, headers={"Origin": ORIGIN} | wish)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] in {"*", ORIGIN}
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert "authorization" in allowed
        assert "content-type" in allowed
    refused = client.post(URL, data="{}", headers={"Origin": ORIGIN, "Content-Type": "application/json"})
    assert refused.headers["Access-Control-Allow-Origin"], "a browser must be able to read why"


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(hookInstance=str(uuid.uuid4()).upper()),
        lambda body: body["context"].update(patientId="Patient/walter"),
        lambda body: body["prefetch"].update(labs=None, surveys=None),
        lambda body: body["prefetch"].update(unknown={"resourceType": "Basic"}, other="text"),
        lambda body: body.pop("fhirServer") and body.pop("fhirAuthorization"),
        lambda body: body.update(fhirAuthorization=None),
        lambda body: body["prefetch"].update(labs={"resourceType": "OperationOutcome"}),
        lambda body: body["context"].update(userId="PractitionerRole/A2340113"),
    ],
)
def test_requests_of_real_clients_are_answered(
    client: FlaskClient, version: str, change: Callable[[Body], object]
) -> None:
    answer = ask(client, version, change)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert len(answer.get_json()["cards"]) == 1


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (400, lambda body: body.update(hook="encounter-discharge ")),
        (400, lambda body: body.update(hookInstance="1")),
        (400, lambda body: body.update(context=[])),
        (400, lambda body: body["context"].update(patientId="../walter")),
        (400, lambda body: body["context"].update(userId="https://ehr.example/Practitioner/1")),
        (400, lambda body: body.update(prefetch=[])),
        (400, lambda body: body["fhirAuthorization"].update(access_token="a\r\nHost: evil.example")),
        (400, lambda body: body["fhirAuthorization"].update(access_token="")),
        (400, lambda body: body.pop("fhirServer")),
        (403, lambda body: body["fhirAuthorization"].update(patient="somebody-else")),
        (412, lambda body: body.update(prefetch=None)),
        (412, lambda body: body["prefetch"].update(patient={"resourceType": "Practitioner", "id": "walter"})),
        (412, lambda body: body["prefetch"].update(encounters={"resourceType": "Basic"}, encounter=None)),
    ],
)
def test_requests_that_cannot_be_answered_are_explained(
    client: FlaskClient, version: str, status: int, change: Callable[[Body], object]
) -> None:
    assert assert_outcome(ask(client, version, change), status)


def test_a_resource_of_another_type_counts_as_not_fetched(client: FlaskClient, version: str) -> None:
    """It was read as an empty answer: no earlier stays, and an estimate of 9 instead of 21 percent."""
    wrong = ask(client, version, lambda body: body["prefetch"].update(encounters={"resourceType": "Basic"}))
    none = ask(client, version, lambda body: body["prefetch"].update(encounters=None))
    assert wrong.get_json()["cards"][0]["detail"] == none.get_json()["cards"][0]["detail"]
    assert "Not available to this service: encounters" in wrong.get_json()["cards"][0]["detail"]


def test_a_405_lists_the_allowed_methods(client: FlaskClient) -> None:
    for method in ("get", "put", "delete", "patch"):
        answer = getattr(client, method)(URL)
        assert assert_outcome(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_one_invalid_feedback_entry_rejects_all(client: FlaskClient) -> None:
    card = client.post(URL, json=whole_request(CASE)).get_json()["cards"][0]
    good = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-03-01T00:00:00Z"}
    store = client.application.extensions["riskcards"].store
    before = len(store.feedback())
    for bad in ({"card": str(uuid.uuid4())}, {"outcome": "Overridden"}, {"outcomeTimestamp": 1}, {"card": None}):
        answer = client.post(f"{URL}/feedback", json={"feedback": [copy.copy(good), good | bad]})
        assert answer.status_code in {400, 404}
    assert len(store.feedback()) == before
