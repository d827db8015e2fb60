"""Valid and invalid requests, prefetch, failing handlers, feedback, CORS, methods and admission over HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_hooks import (
    AcceptedFeedback,
    Card,
    CdsHooks,
    Feedback,
    FeedbackError,
    FetchError,
    HookError,
    HookRequest,
    HookResponse,
    Incoming,
    Observer,
    OverriddenFeedback,
    OverrideReason,
    ReceivedRequest,
    ServiceDefinition,
    ServiceDefinitionError,
    UnavailableError,
    parse_request,
)
from tests.cds_hooks.conftest import REQUEST, SOURCE, URL, app_of, echo_hooks
from tests.contract.rules import assert_outcome
from tests.contract.test_contract import put, without

FEEDBACK_URL = f"{URL}/feedback"
NOW = "2026-06-01T10:00:00Z"

MALFORMED: list[tuple[str, Callable[[dict[str, Any]], None], int, str]] = [
    ("no hook", without("hook"), 400, "hook"),
    ("another hook", put("patient-view", "hook"), 400, "hook"),
    ("hook a number", put(1, "hook"), 400, "hook"),
    ("no hookInstance", without("hookInstance"), 400, "hookInstance"),
    ("hookInstance no UUID", put("1", "hookInstance"), 400, "hookInstance"),
    ("no context", without("context"), 400, "context"),
    ("context null", put(None, "context"), 400, "context"),
    ("no userId", without("context", "userId"), 400, "context.userId"),
    ("userId a device", put("Device/1", "context", "userId"), 400, "context.userId"),
    ("no patientId", without("context", "patientId"), 400, "context.patientId"),
    ("patientId a path", put("../1", "context", "patientId"), 400, "context.patientId"),
    ("encounterId a number", put(1, "context", "encounterId"), 400, "context.encounterId"),
    ("prefetch a list", put([], "prefetch"), 400, "prefetch"),
    ("token without server", put({"access_token": "t"}, "fhirAuthorization"), 400, "fhirServer"),
    ("authorization a string", put("t", "fhirAuthorization"), 400, "fhirAuthorization"),
    ("server a number", put(1, "fhirServer"), 400, "fhirServer"),
    ("no patient", without("prefetch", "patient"), 412, "patient = Patient/{{context.patientId}}"),
    ("patient null", put(None, "prefetch", "patient"), 412, "patient"),
    ("patient an outcome", put({"resourceType": "OperationOutcome"}, "prefetch", "patient"), 412, "patient"),
    ("patient a list", put([], "prefetch", "patient"), 412, "patient"),
]


@pytest.mark.parametrize(("name", "change", "status", "said"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_a_malformed_request_is_an_outcome_that_names_the_fault(
    client: FlaskClient, body: dict[str, Any], name: str, change: Callable[[Any], None], status: int, said: str
) -> None:
    change(body)
    assert said in assert_outcome(client.post(URL, json=body), status)


def test_a_whole_request_gets_a_card(client: FlaskClient, body: dict[str, Any]) -> None:
    body["context"]["patientId"] = "Patient/1"
    body["extension"] = {"com.example": [1]}
    assert client.post(URL, json=body).get_json()["cards"][0]["summary"] == "1: labs, patient"


def test_a_grant_for_another_patient_is_403(client: FlaskClient, body: dict[str, Any]) -> None:
    body |= {"fhirServer": "https://ehr.example.org", "fhirAuthorization": {"access_token": "t", "patient": "2"}}
    assert_outcome(client.post(URL, json=body), 403)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from([*REQUEST, *REQUEST["context"], "fhirServer", "fhirAuthorization", "feedback", "entry"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(MEMBERS, JSON, max_size=3), st.sampled_from([None, "context", "prefetch"]), JSON)
def test_no_json_body_is_ever_an_internal_error(
    client: FlaskClient, changes: dict[str, Any], where: str | None, other: Any
) -> None:
    request = {**REQUEST, **changes} if where is None else {**REQUEST, where: {**REQUEST[where], **changes}}
    entry = {"card": "c", "outcome": "overridden", "outcomeTimestamp": NOW, **changes}
    for url, sent in ((URL, request), (URL, other), (FEEDBACK_URL, {"feedback": [entry]}), (FEEDBACK_URL, other)):
        answer = client.post(url, data=json.dumps(sent), content_type="application/json")
        assert answer.status_code < 500, answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b'{"hook": "a", "hook": "b"}', "application/json", 400),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b" " * 2001, "application/json", 413),
    ],
)
def test_a_hostile_body_is_refused(data: bytes, kind: str, status: int) -> None:
    client = app_of(echo_hooks(max_body_bytes=2000 if status == 413 else 10_000)).test_client()
    assert_outcome(client.post(URL, data=data, content_type=kind), status)
    assert_outcome(client.post(FEEDBACK_URL, data=data, content_type=kind), status)


def test_a_chunked_body_is_limited_too() -> None:
    client = app_of(echo_hooks(max_body_bytes=100)).test_client()
    chunked = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    answer = client.post(
        URL, input_stream=_stream(b"1" * 200), content_type="application/json", environ_overrides=chunked
    )
    assert_outcome(answer, 413)


def _stream(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def test_a_compressed_body_is_415(client: FlaskClient) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert_outcome(client.post(URL, data=b"x", content_type="application/json", headers=headers), 415)


def test_unknown_services_and_other_methods(client: FlaskClient) -> None:
    assert "echo" in assert_outcome(client.post("/cds-services/none", json={}), 404)
    assert_outcome(client.post("/cds-services/none/feedback", json={}), 404)
    for url, allowed in ((URL, "POST, OPTIONS"), (FEEDBACK_URL, "POST, OPTIONS")):
        answer = client.get(url)
        assert_outcome(answer, 405)
        assert answer.headers["Allow"] == allowed
    assert_outcome(client.post("/cds-services", json={}), 405)
    assert client.options("/cds-services").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.head("/cds-services").status_code == 200


def test_missing_prefetch_is_fetched_by_the_application(body: dict[str, Any]) -> None:
    def fetch(request: HookRequest, query: str) -> Any:
        assert request.access_token == "t"
        if query.startswith("Observation"):
            raise FetchError("status", status=500)
        return {"resourceType": "Patient", "id": query.removeprefix("Patient/")}

    del body["prefetch"]
    client = app_of(echo_hooks(fetch=fetch)).test_client()
    assert "patient = Patient" in assert_outcome(client.post(URL, json=body), 412)
    body |= {"fhirServer": "https://ehr.example.org", "fhirAuthorization": {"access_token": "t"}}
    assert client.post(URL, json=body).get_json()["cards"][0]["summary"] == "1: patient"


def test_a_failed_fetch_is_named_in_the_412(body: dict[str, Any]) -> None:
    def fetch(request: HookRequest, query: str) -> Any:
        raise FetchError("server-not-allowed")

    body |= {"prefetch": {}, "fhirServer": "https://attacker.example"}
    said = assert_outcome(app_of(echo_hooks(fetch=fetch)).test_client().post(URL, json=body), 412)
    assert "fetching patient failed: server-not-allowed" in said


def _raises(request: HookRequest) -> list[Card]:
    raise RuntimeError("walter was born 1948-03-11")


@pytest.mark.parametrize(
    "handler",
    [
        _raises,
        lambda request: None,
        lambda request: Card("a", SOURCE),
        lambda request: {"cards": []},
        lambda request: [{"summary": "a"}],
        lambda request: [Card("", SOURCE)],
        lambda request: "cards",
    ],
)
def test_a_handler_that_fails_is_500_and_never_an_empty_card_list(
    handler: Any, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    hooks = CdsHooks()
    hooks.service("echo", hook="encounter-discharge", description="Fails.")(handler)
    with caplog.at_level(logging.DEBUG):
        said = assert_outcome(app_of(hooks).test_client().post(URL, json=body), 500)
    assert "incident" in said
    assert "walter" not in said + caplog.text


def test_a_handler_may_refuse_with_any_status(body: dict[str, Any]) -> None:
    hooks = CdsHooks()

    @hooks.service("echo", hook="encounter-discharge", description="Refuses.")
    def refuse(request: HookRequest) -> HookResponse:
        raise HookError(503, "transient", "not now", retry_after=7)

    answer = app_of(hooks).test_client().post(URL, json=body)
    assert_outcome(answer, 503)
    assert answer.headers["Retry-After"] == "7"


def test_a_handler_may_ask_for_the_bytes_of_the_prefetch(body: dict[str, Any]) -> None:
    hooks, seen = CdsHooks(), []

    @hooks.raw_service(ServiceDefinition("echo", "encounter-discharge", "Bytes."))
    def raw(received: ReceivedRequest) -> HookResponse:
        request = received.open()
        seen.append((request.prefetch.raw, request.prefetch.sha256, request.read_prefetch().prefetch["patient"]))
        return HookResponse()

    assert (
        app_of(hooks).test_client().post(URL, data=json.dumps(body), content_type="application/json").status_code == 200
    )
    (text, digest, patient), *_ = seen
    assert json.loads(text) == body["prefetch"]
    assert len(digest) == 64
    assert patient == body["prefetch"]["patient"]


def test_a_wrong_split_of_the_prefetch_loses_no_member() -> None:
    """A long extension hides the end of the prefetch; the token after it still belongs to the request."""
    long = json.dumps({"com.example": "x" * 20_000})
    grant = '"fhirServer": "https://ehr.example.org", "fhirAuthorization": {"access_token": "t"}'
    context = '"context": {"userId": "Practitioner/7", "patientId": "1"}'
    text = f'{{"prefetch": {{"a": {{}}}}, {grant}, "extension": {long}, {context}, "hook": "patient-view", '
    text += '"hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"}'
    request = parse_request(text.encode(), "patient-view", lazy=True)
    assert not request.prefetch.parsed
    with pytest.raises(TypeError, match="unparsed"):
        len(request.prefetch)
    assert request.read_prefetch().access_token == "t"
    assert request.read_prefetch().prefetch == {"a": {}}


def test_admission_comes_before_the_body_is_read(body: dict[str, Any]) -> None:
    asked: list[Incoming] = []

    def admission(incoming: Incoming) -> AbstractContextManager[Any]:
        asked.append(incoming)
        if incoming.kind == "feedback":
            raise HookError(429, "throttled", "too many requests", retry_after=1)
        return nullcontext()

    client = app_of(echo_hooks(admission=admission)).test_client()
    assert client.post(URL, json=body).status_code == 200
    assert_outcome(client.post(FEEDBACK_URL, json={}), 429)
    assert client.get("/cds-services").status_code == 200
    kinds = [("echo", "hook"), ("echo", "feedback"), ("", "discovery")]
    assert [(each.service, each.kind) for each in asked] == kinds
    assert asked[0].content_length
    assert asked[2].content_length == 0


BAD_DEFINITIONS: list[tuple[str, dict[str, Any], str]] = [
    ("id with a slash", {"id": "a/b"}, "id"),
    ("id registered twice", {"id": "echo"}, "registered twice"),
    ("no description", {"description": ""}, "description"),
    ("hook with a space", {"hook": "patient view"}, "hook"),
    ("unknown token", {"prefetch": {"x": "Patient/{{context.patientId.first()}}"}}, "unknown token"),
    ("token of another hook", {"prefetch": {"x": "ServiceRequest/{{context.orderId}}"}}, "no context.orderId"),
    ("a key that comes later", {"prefetch": {"x": "Patient/{{%y.id}}", "y": "Patient/1"}}, "y must be a key before it"),
    ("a key that needs itself", {"prefetch": {"x": "Patient/{{%x.id}}"}}, "x must be a key before it"),
    ("a token not closed", {"prefetch": {"x": "Observation?patient={{context.patientId"}}, "not closed"),
    ("no instance, no search", {"prefetch": {"x": "Patient"}}, "Type/id or Type"),
    ("an absolute URL", {"prefetch": {"x": "https://evil.example/Patient/1"}}, "Type/id or Type"),
    ("a repeated parameter", {"prefetch": {"x": "Encounter?date=ge2020&date=le2021"}}, "repeated"),
    ("an empty template", {"prefetch": {"x": ""}}, "non-empty"),
    ("optional key unknown", {"optional_prefetch": ["x"]}, "optional_prefetch"),
]


@pytest.mark.parametrize(("name", "changes", "said"), BAD_DEFINITIONS, ids=[row[0] for row in BAD_DEFINITIONS])
def test_an_invalid_service_is_refused_at_registration(name: str, changes: dict[str, Any], said: str) -> None:
    usual = {"id": "new", "hook": "patient-view", "description": "New."}
    with pytest.raises(ServiceDefinitionError, match=said):
        echo_hooks().service(**(usual | changes))(_raises)


def test_the_description_is_by_default_the_handlers_docstring() -> None:
    hooks = CdsHooks()

    @hooks.service("new", hook="patient-view")
    def new(request: HookRequest) -> list[Card]:
        """The date of birth,
        read from the chart.

        Not part of the description.
        """
        return []

    assert hooks.services["new"].description == "The date of birth, read from the chart."
    with pytest.raises(ServiceDefinitionError, match="description"):
        hooks.service("other", hook="patient-view")(_raises)


@dataclass
class DatabaseDownError(Exception):
    table: str


def test_an_applications_errors_have_their_answers_on_every_route(
    body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, str]] = []

    class Counting(Observer):
        def refused(self, error: HookError, service: str, caller: Any) -> None:
            seen.append((error.status, service))

    hooks, app = echo_hooks(observer=Counting(), allowed_origins=["*"]), Flask("whole")

    @hooks.on_error(DatabaseDownError)
    def down(error: DatabaseDownError) -> HookError:
        return UnavailableError(f"{error.table} is down")

    @hooks.on_feedback
    def fails(service: str, feedback: tuple[Feedback, ...], caller: Any) -> None:
        raise DatabaseDownError("cards")

    @app.get("/other")
    def other() -> str:
        raise DatabaseDownError("others")

    hooks.init_app(app)
    client = app.test_client()
    entry = {"card": "c", "outcome": "overridden", "outcomeTimestamp": NOW}
    assert "cards" in assert_outcome(client.post(FEEDBACK_URL, json={"feedback": [entry]}), 503)
    answer = client.get("/other", headers={"Origin": "https://ehr.example.org"})
    assert "others" in assert_outcome(answer, 503)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert_outcome(client.get("/nowhere"), 404)
    assert assert_outcome(client.post("/other"), 405)
    assert client.post(URL, json=body).status_code == 200
    assert seen == [(503, "echo"), (503, ""), (404, ""), (405, "")]


def test_user_tokens_and_other_hooks_can_be_registered() -> None:
    hooks = CdsHooks()
    templates = {"me": "Practitioner/{{userPractitionerId}}", "order": "ServiceRequest/{{context.orderId}}"}
    hooks.service(
        "new", hook="order-cancelled", description="New.", prefetch=templates, required_context=("userId", "orderId")
    )(_raises)
    assert hooks.discovery()["services"][0]["prefetch"] == templates


def test_feedback_in_all_its_forms(client: FlaskClient, kept: list[Any]) -> None:
    reason = {"reason": {"code": "patient-refuses", "system": "s", "display": "d"}, "userComment": "no"}
    entries = [
        {"card": "C1", "outcome": "accepted", "acceptedSuggestions": [{"id": "S1"}], "outcomeTimestamp": NOW},
        {"card": "c1", "outcome": "overridden", "overrideReason": reason, "outcomeTimestamp": NOW},
        {"card": "c1", "outcome": "overridden", "outcomeTimestamp": NOW},
    ]
    answer = client.post(FEEDBACK_URL, json={"feedback": entries})
    assert (answer.status_code, answer.data) == (200, b"")
    assert kept == [
        (
            "echo",
            (
                AcceptedFeedback("c1", NOW, ("s1",)),
                OverriddenFeedback("c1", NOW, OverrideReason("patient-refuses", "s", "no")),
                OverriddenFeedback("c1", NOW),
            ),
            None,
        )
    ]


BAD_FEEDBACK: list[tuple[str, Any, int, str]] = [
    ("no list", {}, 400, "feedback"),
    ("an empty list", {"feedback": []}, 400, "feedback"),
    ("no object", {"feedback": [1]}, 400, r"feedback[0]"),
    ("too many", {"feedback": [{}] * 201}, 413, "200"),
    ("no card", {"card": ...}, 400, "card"),
    ("another outcome", {"outcome": "maybe"}, 400, "outcome"),
    ("no timestamp", {"outcomeTimestamp": ...}, 400, "outcomeTimestamp"),
    ("no such day", {"outcomeTimestamp": "2026-02-30T10:00:00Z"}, 400, "outcomeTimestamp"),
    ("nothing accepted", {"outcome": "accepted"}, 400, "acceptedSuggestions"),
    ("accepted without id", {"outcome": "accepted", "acceptedSuggestions": ["x"]}, 400, "acceptedSuggestions"),
    ("an empty reason", {"overrideReason": {}}, 400, "overrideReason"),
    ("a reason without code", {"overrideReason": {"reason": {"display": "x"}}}, 400, "reason.code"),
    ("a comment of numbers", {"overrideReason": {"userComment": [1]}}, 400, "userComment"),
    ("a card never sent", {"card": "unknown"}, 404, "no such card"),
]


@pytest.mark.parametrize(("name", "change", "status", "said"), BAD_FEEDBACK, ids=[row[0] for row in BAD_FEEDBACK])
def test_malformed_feedback_is_refused(
    client: FlaskClient, kept: list[Any], name: str, change: Any, status: int, said: str
) -> None:
    entry = {"card": "c1", "outcome": "overridden", "outcomeTimestamp": NOW} | change
    entry = {key: value for key, value in entry.items() if value is not ...}
    sent = change if "feedback" in change or not change else {"feedback": [entry]}
    assert said in assert_outcome(client.post(FEEDBACK_URL, json=sent), status)
    assert not kept


def test_empty_feedback_cannot_be_built() -> None:
    for build in (
        lambda: AcceptedFeedback("c", NOW, ()),
        lambda: AcceptedFeedback("", NOW, ("s",)),
        lambda: OverriddenFeedback("c", "soon"),
        lambda: OverrideReason(),
    ):
        with pytest.raises(FeedbackError):
            build()


@pytest.mark.parametrize(
    ("allowed", "origin", "answered"),
    [
        (["https://ehr.example.org"], "https://ehr.example.org", "https://ehr.example.org"),
        (["https://ehr.example.org"], "https://evil.example", None),
        (["https://ehr.example.org"], "https://ehr.example.org.evil.example", None),
        (["*"], "https://any.example", "*"),
        ([], "https://ehr.example.org", None),
    ],
)
def test_cors_answers_the_origins_on_the_list(allowed: list[str], origin: str, answered: str | None) -> None:
    client = app_of(echo_hooks(allowed_origins=allowed)).test_client()
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for answer in (client.options(URL, headers=headers), client.get("/cds-services", headers=headers)):
        assert answer.status_code == 200
        assert answer.headers.get("Access-Control-Allow-Origin") == answered
    refused = client.post("/cds-services/none", json={}, headers=headers)
    assert refused.headers.get("Access-Control-Allow-Origin") == answered


def test_openapi_describes_the_registered_services(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    item = document["paths"]["/cds-services/{service_id}"]
    assert item["parameters"][0]["schema"]["enum"] == ["echo"]
    schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert schema["hook"]["enum"] == ["encounter-discharge"]
    assert schema["context"]["required"] == ["userId", "patientId", "encounterId"]
    assert {"401", "404", "412", "413", "415", "500"} <= item["post"]["responses"].keys()
