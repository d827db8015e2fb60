"""CDS Hooks over HTTP: discovery, valid and invalid requests, cards, feedback, health."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cds_hooks import parse_json
from tests.contract.rules import assert_outcome, assert_valid_discovery, assert_valid_response

URL = "/cds-services/readmission-30d"
Request = dict[str, Any]


def test_discovery_is_valid(client: FlaskClient) -> None:
    body = client.get("/cds-services").get_json()
    assert_valid_discovery(body)
    assert [service["hook"] for service in body["services"]] == [
        "patient-view",
        "encounter-start",
        "encounter-discharge",
    ]


def test_a_whole_request_gets_one_valid_card(client: FlaskClient, discharge: Request) -> None:
    response = client.post(URL, json=discharge)
    assert response.status_code == 200
    body = response.get_json()
    assert_valid_response(body)
    assert len(body["cards"]) == 1
    assert "pubmed.ncbi.nlm.nih.gov" in body["cards"][0]["detail"]
    assert body["cards"][0]["source"]["url"]
    assert body["cards"][0]["indicator"] != "critical"


def test_unknown_fields_and_extensions_are_accepted(client: FlaskClient, discharge: Request) -> None:
    discharge["extension"] = {"com.example.more": {"deep": [1, 2]}}
    discharge["context"]["somethingNew"] = "x"
    assert client.post(URL, json=discharge).status_code == 200


def test_scopes_of_smart_1_and_2_are_both_fine(client: FlaskClient, discharge: Request) -> None:
    for scope in ("patient/*.read", "patient/Observation.rs?category=laboratory"):
        discharge["fhirServer"] = "https://ehr.example.org/fhir"
        discharge["fhirAuthorization"] = {
            "access_token": "t",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": scope,
            "subject": "riskcards",
            "patient": "walter",
        }
        assert client.post(URL, json=discharge).status_code == 200


def without(*path: str) -> Callable[[Request], None]:
    def change(request: Request) -> None:
        holder: Any = request
        for name in path[:-1]:
            holder = holder[name]
        del holder[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[Request], None]:
    def change(request: Request) -> None:
        holder: Any = request
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = value

    return change


MALFORMED: list[tuple[str, Callable[[Request], None], int, str]] = [
    ("no hook", without("hook"), 400, "hook"),
    ("another hook", put("patient-view", "hook"), 400, "hook"),
    ("no hookInstance", without("hookInstance"), 400, "hookInstance"),
    ("hookInstance no UUID", put("42", "hookInstance"), 400, "hookInstance"),
    ("no context", without("context"), 400, "context"),
    ("context a list", put([], "context"), 400, "context"),
    ("no userId", without("context", "userId"), 400, "userId"),
    ("userId a device", put("Device/1", "context", "userId"), 400, "userId"),
    ("no patientId", without("context", "patientId"), 400, "patientId"),
    ("patientId null", put(None, "context", "patientId"), 400, "patientId"),
    ("patientId a path", put("../../etc", "context", "patientId"), 400, "patientId"),
    ("no encounterId", without("context", "encounterId"), 400, "encounterId"),
    ("prefetch a list", put([], "prefetch"), 400, "prefetch"),
    ("prefetch value a number", put(3, "prefetch", "labs"), 400, "prefetch.labs"),
    ("entry a string", put({"resourceType": "Bundle", "entry": ["x"]}, "prefetch", "labs"), 400, "prefetch.labs"),
    ("entry an object", put({"resourceType": "Bundle", "entry": {}}, "prefetch", "labs"), 400, "prefetch.labs"),
    ("resource a number", put({"resourceType": "Bundle", "entry": [{"resource": 3}]}, "prefetch", "labs"), 400, "labs"),
    ("token without server", put({"access_token": "t"}, "fhirAuthorization"), 400, "fhirServer"),
    ("server a number", put(4, "fhirServer"), 400, "fhirServer"),
    ("no patient", put(None, "prefetch", "patient"), 412, "Patient/{{context.patientId}}"),
    ("patient an outcome", put({"resourceType": "OperationOutcome"}, "prefetch", "patient"), 412, "patient"),
    ("no prefetch at all", without("prefetch"), 412, "encounters"),
    ("unknown encounter", put("elsewhere", "context", "encounterId"), 412, "encounterId"),
    (
        "somebody else's chart",
        put({"resourceType": "Patient", "id": "x"}, "prefetch", "patient"),
        412,
        "another patient",
    ),
]


@pytest.mark.parametrize(("name", "change", "status", "said"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_a_malformed_request_is_an_outcome_that_names_the_error(
    client: FlaskClient, discharge: Request, name: str, change: Callable[[Request], None], status: int, said: str
) -> None:
    change(discharge)
    assert said in assert_outcome(client.post(URL, json=discharge), status)


BODIES: list[tuple[str, bytes, str, int]] = [
    ("empty", b"", "application/json", 400),
    ("not JSON", b"{", "application/json", 400),
    ("NaN", b'{"hook": NaN}', "application/json", 400),
    ("not UTF-8", b'{"hook": "\xff"}', "application/json", 400),
    ("a list", b"[]", "application/json", 400),
    ("2,000 nested objects", b'{"a":' * 2000 + b"1" + b"}" * 2000, "application/json", 400),
    ("form data", b"a=b", "application/x-www-form-urlencoded", 415),
    ("11 MB", b'"' + b"x" * 11_000_000 + b'"', "application/json", 413),
]


@pytest.mark.parametrize(("name", "body", "kind", "status"), BODIES, ids=[row[0] for row in BODIES])
def test_a_hostile_body_is_refused_early(client: FlaskClient, name: str, body: bytes, kind: str, status: int) -> None:
    assert_outcome(client.post(URL, data=body, content_type=kind), status)


def test_unknown_service_page_and_method(client: FlaskClient) -> None:
    assert "readmission-30d" in assert_outcome(client.post("/cds-services/nothing", json={}), 404)
    assert_outcome(client.get("/nowhere"), 404)
    assert_outcome(client.get(URL), 405)


def test_a_grant_for_another_patient_is_refused(client: FlaskClient, discharge: Request) -> None:
    discharge["fhirServer"] = "https://ehr.example.org/fhir"
    discharge["fhirAuthorization"] = {"access_token": "t", "patient": "somebody-else"}
    assert "patient" in assert_outcome(client.post(URL, json=discharge), 403)


def test_a_server_off_the_allow_list_is_not_called(client: FlaskClient, discharge: Request) -> None:
    """The network guard of the tests would fail on any connection; the answer explains why nothing was fetched."""
    del discharge["prefetch"]
    discharge["fhirServer"] = "https://attacker.example/fhir"
    discharge["fhirAuthorization"] = {"access_token": "secret"}
    assert "not on the list" in assert_outcome(client.post(URL, json=discharge), 412)


def test_patient_view_without_encounter_finds_the_running_stay(client: FlaskClient, discharge: Request) -> None:
    request = copy.deepcopy(discharge)
    request["hook"] = "patient-view"
    del request["context"]["encounterId"]
    for entry in request["prefetch"]["encounters"]["entry"]:
        if entry["resource"]["id"] == "stay":
            entry["resource"]["status"] = "in-progress"
            del entry["resource"]["period"]["end"]
    del request["prefetch"]["encounter"]
    body = client.post("/cds-services/hospital-risk", json=request).get_json()
    assert_valid_response(body)
    assert len(body["cards"]) == 1


def test_patient_view_without_a_stay_is_no_error(client: FlaskClient, discharge: Request) -> None:
    discharge["hook"] = "patient-view"
    del discharge["context"]["encounterId"]
    answer = client.post("/cds-services/hospital-risk", json=discharge)
    assert answer.status_code == 200
    assert answer.get_json() == {"cards": []}


VENDOR = {"system": "urn:oid:1.2.840.114350.1.72.1.7.7.10.696784.13260", "code": "4"}
UNCLEAR: list[tuple[str, Any, str]] = [
    ("a vendor's class", VENDOR, "class of the encounter is not one of those read"),
    ("no class", None, "has no class"),
    ("a short stay", {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "SS"}, "not one of those"),
]


@pytest.mark.parametrize("hook", ["patient-view", "encounter-discharge"])
@pytest.mark.parametrize(("name", "written", "words"), UNCLEAR, ids=[row[0] for row in UNCLEAR])
def test_a_stay_of_unknown_class_is_said(
    client: FlaskClient, discharge: Request, hook: str, name: str, written: Any, words: str
) -> None:
    """A patient in hospital whose encounter has a class of another system got no card and no error."""
    request = copy.deepcopy(discharge)
    request["hook"] = hook
    for entry in [{"resource": request["prefetch"]["encounter"]}, *request["prefetch"]["encounters"]["entry"]]:
        if entry["resource"]["id"] == "stay":
            entry["resource"].pop("class", None)
            entry["resource"] |= {} if written is None else {"class": written}
    url = "/cds-services/hospital-risk" if hook == "patient-view" else URL
    body = client.post(url, json=request).get_json()
    assert_valid_response(body)
    assert words in body["cards"][0]["detail"]


def test_encounters_that_did_not_come_are_said(client: FlaskClient, discharge: Request) -> None:
    """The stay may be on the page of the search that did not come."""
    discharge["hook"] = "patient-view"
    del discharge["context"]["encounterId"]
    more = {"relation": "next", "url": "https://ehr.example.org/fhir?page=2"}
    discharge["prefetch"]["encounters"] = {"resourceType": "Bundle", "type": "searchset", "link": [more], "entry": []}
    discharge["prefetch"].pop("encounter", None)
    body = client.post("/cds-services/hospital-risk", json=discharge).get_json()
    assert "not (all) available" in body["cards"][0]["detail"]


def test_prefetch_alone_is_enough_and_null_means_not_fetched(client: FlaskClient, discharge: Request) -> None:
    for key in ("labs", "conditions", "documents"):
        discharge["prefetch"][key] = None
    card = client.post(URL, json=discharge).get_json()["cards"][0]
    assert "Not available to this service: problem list, notes, measurements." in card["detail"]


def test_cors_preflight(client: FlaskClient) -> None:
    asked = {"Origin": "https://ehr.example.org", "Access-Control-Request-Method": "POST"}
    answer = client.options(URL, headers=asked)
    assert answer.status_code == 200
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "content-type"} <= {name.strip() for name in allowed.split(",")}


def test_a_client_that_accepts_an_old_media_type_is_served(client: FlaskClient, discharge: Request) -> None:
    answer = client.post(URL, data=json.dumps(discharge), content_type="application/json+fhir")
    assert answer.status_code == 200


def feedback(**entry: Any) -> Request:
    return {"feedback": [{"outcomeTimestamp": datetime.now(UTC).isoformat(), **entry}]}


def test_feedback_in_all_forms_and_twice(client: FlaskClient, app: Flask, discharge: Request) -> None:
    card = client.post(URL, json=discharge).get_json()["cards"][0]
    store = app.extensions["riskcards"].store
    before = len(store.feedback())
    suggestion = {"id": card["suggestions"][0]["uuid"]}
    accepted = feedback(card=card["uuid"], outcome="accepted", acceptedSuggestions=[suggestion])
    reason = {"reason": {"code": "patient-refuses", "system": "x"}, "userComment": "no"}
    overridden = feedback(card=card["uuid"], outcome="overridden", overrideReason=reason)
    bare = feedback(card=card["uuid"], outcome="overridden")
    for body in (accepted, overridden, bare, accepted):
        assert client.post(f"{URL}/feedback", json=body).status_code == 200
    assert len(store.feedback()) - before == 3
    both = {"feedback": accepted["feedback"] + overridden["feedback"]}
    assert client.post(f"{URL}/feedback", json=both).status_code == 200
    assert len(store.feedback()) - before == 3


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"outcome": "accepted", "acceptedSuggestions": [{"id": "nobody's"}]}, 404),
        ({"outcome": "accepted"}, 400),
        ({"outcome": "maybe"}, 400),
        ({"outcome": "overridden", "overrideReason": {}}, 400),
        ({"outcome": "overridden", "outcomeTimestamp": "soon"}, 400),
    ],
)
def test_malformed_feedback_is_refused(client: FlaskClient, discharge: Request, entry: Request, status: int) -> None:
    card = client.post(URL, json=discharge).get_json()["cards"][0]
    assert_outcome(client.post(f"{URL}/feedback", json=feedback(card=card["uuid"], **entry)), status)


def test_feedback_on_a_card_never_sent_is_refused(client: FlaskClient) -> None:
    body = feedback(card="6bc883b2-b795-4dcb-b661-34884a31d472", outcome="overridden")
    assert_outcome(client.post(f"{URL}/feedback", json=body), 404)
    assert_outcome(client.post(f"{URL}/feedback", json={"feedback": []}), 400)


def test_health_model_cards_and_metrics(client: FlaskClient) -> None:
    assert client.get("/health/live").get_json() == {"status": "live"}
    ready = client.get("/health/ready").get_json()
    assert ready["status"] == "ready"
    assert set(ready["manifests"]) == {"index", "in_hospital_mortality", "readmission_30d"}
    assert ready["manifests"]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in ready["manifests"].values())
    for task in ("in_hospital_mortality", "readmission_30d"):
        for form in ("html", "json", "chai-xml"):
            assert client.get(f"/model-cards/{task}?format={form}").status_code == 200
    assert_outcome(client.get("/model-cards/weather"), 404)
    assert "riskcards_answers_total" in client.get("/metrics").get_data(as_text=True)


def test_an_unexpected_fault_is_an_outcome_with_an_incident_and_no_patient_data(
    client: FlaskClient,
    app: Flask,
    discharge: Request,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("walter was born 1948-03-11")

    discharge["prefetch"]["patient"]["language"] = "en"  # a chart not answered a moment ago
    monkeypatch.setattr(app.extensions["riskcards"].pipeline, "assess", fail)
    with caplog.at_level(logging.DEBUG):
        said = assert_outcome(client.post(URL, json=discharge), 500)
    assert "incident" in said
    assert "walter" not in said + caplog.text


CANARIES = ("canary-name", "canary-note", "canary-lab", "canary-token", "canary-comment")


def test_no_patient_data_is_logged(client: FlaskClient, discharge: Request, caplog: pytest.LogCaptureFixture) -> None:
    """Canary strings in names, notes, values, tokens and feedback, through good and bad answers, at DEBUG (H1)."""
    discharge["prefetch"]["patient"]["name"] = [{"family": "canary-name"}]
    discharge["fhirServer"] = "https://ehr.example.org/fhir"
    discharge["fhirAuthorization"] = {"access_token": "canary-token"}
    for entry in discharge["prefetch"]["labs"]["entry"][:1]:
        entry["resource"]["note"] = [{"text": "canary-lab"}]
    discharge["prefetch"]["documents"]["entry"][0]["resource"]["description"] = "canary-note"
    with caplog.at_level(logging.DEBUG):
        card = client.post(URL, json=discharge).get_json()["cards"][0]
        reason = {"userComment": "canary-comment"}
        client.post(f"{URL}/feedback", json=feedback(card=card["uuid"], outcome="overridden", overrideReason=reason))
        discharge["context"]["patientId"] = "canary-name"
        client.post(URL, json=discharge)
        discharge["prefetch"] = {"patient": "canary-note"}
        client.post(URL, json=discharge)
    assert caplog.records
    for canary in CANARIES:
        assert canary not in caplog.text


HOSTILE = (
    "</b><script>alert(1)</script> ![x](http://evil.example/a.png) [click](javascript:alert(1)) www.evil.example \u202e"
)


def test_markup_in_the_chart_is_escaped(client: FlaskClient, discharge: Request) -> None:
    """Problem names, note headings and reasons come from the chart: their markup must have no effect (O1)."""
    from cds_service.demo.blueprint import render_markdown

    for entry in discharge["prefetch"]["conditions"]["entry"]:
        entry["resource"]["code"]["text"] = HOSTILE
    for entry in discharge["prefetch"]["encounters"]["entry"]:
        entry["resource"]["reasonCode"] = [{"text": HOSTILE}]
    body = client.post(URL, json=discharge).get_json()
    assert_valid_response(body)
    page = render_markdown(body["cards"][0]["detail"])
    assert "<script" not in page
    assert "<img" not in page
    assert "evil" not in "".join(re.findall(r'href="[^"]*"', page))
    assert 'href="javascript' not in page


def test_the_same_request_gives_the_same_card(client: FlaskClient, discharge: Request) -> None:
    first, second = (client.post(URL, json=discharge).get_json()["cards"][0] for _ in range(2))
    assert first["detail"] == second["detail"]
    assert first["summary"] == second["summary"]
    assert first["uuid"] != second["uuid"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"hook": "encounter-discharge", "hook": "patient-view"}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": [{"x\\"y": 1, "x\\"y": 2}]}',
        b'{"\\u0061": 1, "a": 2}',
        b'{"a" : {"k:\\\\": 1}, "b": "\\":", "b": 2}',
    ],
)
def test_duplicate_json_keys_are_rejected(client: FlaskClient, body: bytes) -> None:
    """Two parsers may use different ones of two equal keys: one checks, the other acts."""
    said = assert_outcome(client.post(URL, data=body, content_type="application/json"), 400)
    assert "twice" in said


def test_similar_json_keys_are_accepted() -> None:
    body = b'{"a": {"a": ["a", {"a": "a\\": \\"a"}]}, "a\\\\": 1, "a:": {}, "A" : ":"}'
    assert parse_json(body) == json.loads(body)
