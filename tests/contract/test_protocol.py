"""The rules of the protocol for the product and for the minimal example of the library."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from requests.adapters import BaseAdapter

from cds_hooks import CallRefusedError, OverriddenFeedback, fill
from cds_hooks.client import HookClient
from tests.cds_hooks.conftest import minimal_app
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_outcome, assert_valid_discovery, assert_valid_response
from tests.contract.test_contract import BODIES, put, without

PATIENT_VIEW = {
    "hook": "patient-view",
    "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "context": {"userId": "Practitioner/7", "patientId": "1"},
    "prefetch": {"patient": {"resourceType": "Patient", "id": "1"}},
}
Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class ServiceUnderTest:
    """A service, a request that it answers with a card, and its client."""

    client: FlaskClient
    url: str
    request: dict[str, Any]

    def post(self, body: Any) -> Any:
        return self.client.post(self.url, json=body)

    def as_client(self) -> HookClient:
        """The library's client, which calls the service in this process."""
        session = requests.Session()
        session.mount("http://cds.test", _InProcess(self.client))
        return HookClient("http://cds.test", session)


class _InProcess(BaseAdapter):
    def __init__(self, client: FlaskClient) -> None:
        super().__init__()
        self._client = client

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        found = self._client.open(
            request.path_url, method=request.method, data=request.body, headers=dict(request.headers)
        )
        answer = requests.Response()
        answer.status_code, answer.raw = found.status_code, io.BytesIO(found.get_data())
        return answer

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(params=["riskcards", "minimal-example"])
def under_test(request: pytest.FixtureRequest) -> ServiceUnderTest:
    if request.param == "minimal-example":
        return ServiceUnderTest(minimal_app().test_client(), "/cds-services/birthday", copy.deepcopy(PATIENT_VIEW))
    app: Flask = request.getfixturevalue("app")
    whole = whole_request("diabetic-heart-failure-discharge")
    return ServiceUnderTest(app.test_client(), "/cds-services/readmission-30d", whole)


def test_discovery_is_valid(under_test: ServiceUnderTest) -> None:
    assert_valid_discovery(under_test.client.get("/cds-services").get_json())


def test_a_whole_request_gets_a_valid_card(under_test: ServiceUnderTest) -> None:
    under_test.request["extension"] = {"com.example.more": {"deep": [1, 2]}}
    answer = under_test.post(under_test.request)
    assert answer.status_code == 200
    assert_valid_response(answer.get_json())
    assert answer.get_json()["cards"]


def test_the_librarys_client_discovers_calls_and_sends_feedback(under_test: ServiceUnderTest) -> None:
    client, request = under_test.as_client(), under_test.request
    service = next(each for each in client.discover() if under_test.url.endswith(each.id))
    assert service.hook == request["hook"]
    given = {template: request["prefetch"].get(key) for key, template in service.prefetch.items()}
    by_query = {fill(template, request["context"]): value for template, value in given.items()}
    prefetch = service.fill_prefetch(request["context"], by_query.__getitem__)
    assert prefetch == {key: request["prefetch"].get(key) for key in service.prefetch}
    (card,) = client.call(service, request["context"], prefetch).cards
    client.send_feedback(service, [OverriddenFeedback(card.uuid, "2026-06-01T10:00:00Z")])
    with pytest.raises(CallRefusedError) as refused:
        client.call(service, request["context"], {})
    assert refused.value.status == 412
    assert refused.value.outcome is not None


CHANGES: list[tuple[str, Change, int, str]] = [
    ("no hook", without("hook"), 400, "hook"),
    ("another hook", put("order-sign", "hook"), 400, "hook"),
    ("no hookInstance", without("hookInstance"), 400, "hookInstance"),
    ("hookInstance no UUID", put("42", "hookInstance"), 400, "hookInstance"),
    ("no context", without("context"), 400, "context"),
    ("no userId", without("context", "userId"), 400, "userId"),
    ("userId a device", put("Device/1", "context", "userId"), 400, "userId"),
    ("patientId a path", put("../../etc", "context", "patientId"), 400, "patientId"),
    ("prefetch a list", put([], "prefetch"), 400, "prefetch"),
    ("token without server", put({"access_token": "t"}, "fhirAuthorization"), 400, "fhirServer"),
    ("no patient", put(None, "prefetch", "patient"), 412, "Patient/{{context.patientId}}"),
    ("no prefetch at all", without("prefetch"), 412, "patient"),
]


@pytest.mark.parametrize(("name", "change", "status", "said"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_malformed_request_is_an_outcome(
    under_test: ServiceUnderTest, name: str, change: Change, status: int, said: str
) -> None:
    change(under_test.request)
    assert said in assert_outcome(under_test.post(under_test.request), status)


@pytest.mark.parametrize(("name", "body", "kind", "status"), BODIES, ids=[row[0] for row in BODIES])
def test_a_hostile_body_is_an_outcome(
    under_test: ServiceUnderTest, name: str, body: bytes, kind: str, status: int
) -> None:
    assert_outcome(under_test.client.post(under_test.url, data=body, content_type=kind), status)


def test_unknown_service_other_method_and_empty_feedback(under_test: ServiceUnderTest) -> None:
    assert_outcome(under_test.client.post("/cds-services/nothing", json={}), 404)
    assert_outcome(under_test.client.get(under_test.url), 405)
    assert_outcome(under_test.client.post(f"{under_test.url}/feedback", json={"feedback": []}), 400)


def test_preflight(under_test: ServiceUnderTest) -> None:
    asked = {"Origin": "https://ehr.example.org", "Access-Control-Request-Method": "POST"}
    answer = under_test.client.options(under_test.url, headers=asked)
    assert answer.status_code == 200
    allowed = {name.strip() for name in answer.headers["Access-Control-Allow-Headers"].lower().split(",")}
    assert {"authorization", "content-type"} <= allowed
