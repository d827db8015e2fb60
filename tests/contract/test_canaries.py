"""No patient data leaks (H1): twenty canary strings through every route, at DEBUG, failures included.

They are in names, identifiers, ids, codes, notes, tokens, comments and addresses. Cards may contain them; logs,
metrics, error bodies, temporary files and the audit chain may not.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cds_hooks import HookError
from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.chart import OpenChart, reader_of
from cds_service.application.factory import create_app
from risk_model import Pipeline
from tests.cds_service.access.ehr import Ehr, bearer
from tests.cds_service.fhir_server import FhirServer
from tests.contract.conftest import whole_request
from tests.patience import patient_settings

SERVICE = "/cds-services/readmission-30d"
PLACES = (
    "family", "given", "identifier", "address", "telecom", "patient-id", "user-id", "encounter-id", "condition-text",
    "condition-code", "lab-note", "lab-value", "drug", "note-text", "note-title", "reason", "access-token",
    "client-token", "comment", "unknown-field",
)  # fmt: skip
CANARY = {place: f"canary-{number:02d}-{place}" for number, place in enumerate(PLACES)}


def a_chart_of_canaries() -> dict[str, Any]:
    """A complete request with a canary in every place that can have a string of the client."""
    text = json.dumps(whole_request("diabetic-heart-failure-discharge"))
    text = text.replace("Patient/walter", f"Patient/{CANARY['patient-id']}").replace('"walter"', _quoted("patient-id"))
    text = text.replace("Encounter/stay", f"Encounter/{CANARY['encounter-id']}")
    request: dict[str, Any] = json.loads(text.replace('"stay"', _quoted("encounter-id")))
    request["context"]["userId"] = f"Practitioner/{CANARY['user-id']}"
    request |= {"extension": {CANARY["unknown-field"]: CANARY["unknown-field"]}, "fhirServer": "https://ehr.example/r4"}
    request["fhirAuthorization"] = {"access_token": CANARY["access-token"]}
    prefetch = request["prefetch"]
    prefetch["patient"] |= {
        "name": [{"family": CANARY["family"], "given": [CANARY["given"]]}],
        "identifier": [{"value": CANARY["identifier"]}],
        "address": [{"line": [CANARY["address"]]}],
        "telecom": [{"value": CANARY["telecom"]}],
    }
    _of(prefetch, "conditions")["code"]["text"] = CANARY["condition-text"]
    _of(prefetch, "conditions")["code"]["coding"].append({"system": "urn:local", "code": CANARY["condition-code"]})
    _of(prefetch, "labs")["note"] = [{"text": CANARY["lab-note"]}]
    _of(prefetch, "labs", 1).pop("valueQuantity", None)
    _of(prefetch, "labs", 1)["valueString"] = CANARY["lab-value"]
    _of(prefetch, "medications")["medicationCodeableConcept"]["text"] = CANARY["drug"]
    words = f"Assessment: heart failure. {CANARY['note-text']} seen today.".encode()
    document = _of(prefetch, "documents")
    document["description"] = CANARY["note-title"]
    document["content"] = [
        {"attachment": {"contentType": "text/plain", "data": base64.b64encode(words).decode(), "title": "x"}}
    ]
    _of(prefetch, "encounters")["reasonCode"] = [{"text": CANARY["reason"]}]
    return request


def _quoted(place: str) -> str:
    return json.dumps(CANARY[place])


def _of(prefetch: dict[str, Any], key: str, number: int = 0) -> dict[str, Any]:
    resource: dict[str, Any] = prefetch[key]["entry"][number]["resource"]
    return resource


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


@pytest.fixture
def witness(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Asserts that no canary is in the logs, the output, temporary files and the given texts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    caplog.set_level(logging.DEBUG)

    def look(*said: str) -> None:
        assert caplog.records, "a log that is off proves nothing"
        output = capfd.readouterr()
        left = [path.read_text("utf-8", errors="replace") for path in folder.rglob("*") if path.is_file()]
        names = [str(path) for path in folder.rglob("*")]
        everything = "\n".join((caplog.text, output.out, output.err, *left, *names, *said))
        found = [canary for canary in CANARY.values() if canary in everything]
        assert not found, found

    return look


def make(pipeline: Pipeline, folder: Path, **settings: str) -> Flask:
    given = {"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/c.db", "RISKCARDS_LOG_LEVEL": "DEBUG"} | settings
    return create_app(patient_settings(given), pipeline)


def left_behind(app: Flask) -> str:
    """The text of the audit chain and the metrics."""
    store = app.extensions["riskcards"].store
    entries = [(entry.kind, entry.subject, entry.body) for entry in store.audit_entries()]
    return json.dumps(entries) + app.test_client().get("/metrics").get_data(as_text=True)


def test_every_canary_is_sent() -> None:
    """Except those of headers and of feedback, which have their own tests below."""
    encoded = base64.b64encode(b"Assessment: heart failure. ").decode()[:20]
    text = json.dumps(a_chart_of_canaries())
    missing = {place for place, canary in CANARY.items() if canary not in text}
    assert missing == {"client-token", "comment", "note-text"}
    assert encoded in text


def test_a_card_and_its_feedback(pipeline: Pipeline, tmp_path: Path, witness: Callable[..., None]) -> None:
    app = make(pipeline, tmp_path, RISKCARDS_OFFER_RISK_ASSESSMENT="yes")
    client = app.test_client()
    answer = client.post(SERVICE, json=a_chart_of_canaries())
    assert answer.status_code == 200
    card = answer.get_json()["cards"][0]
    assert CANARY["condition-text"] not in card["summary"]
    reason = {"reason": {"code": CANARY["condition-code"]}, "userComment": CANARY["comment"]}
    entry = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-01-01T00:00:00Z"}
    answer = client.post(f"{SERVICE}/feedback", json={"feedback": [entry | {"overrideReason": reason}]})
    assert answer.status_code == 200
    witness(left_behind(app), answer.get_data(as_text=True))


Change = Callable[[dict[str, Any]], None]


def without(*names: str) -> Change:
    return lambda request: [request.pop(name) for name in names] and None


def put(value: Any, *path: str) -> Change:
    def change(request: dict[str, Any]) -> None:
        holder: Any = request
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = value

    return change


def foreign(request: dict[str, Any]) -> None:
    _of(request["prefetch"], "labs")["subject"] = {"reference": f"Patient/{CANARY['identifier']}"}


FAILURES: list[tuple[str, Change, int]] = [
    ("no hook", without("hook"), 400),
    ("a hook that is none", put(CANARY["family"], "hook"), 400),
    ("no UUID", put(CANARY["identifier"], "hookInstance"), 400),
    ("a user that is none", put(CANARY["given"], "context", "userId"), 400),
    ("a patient that is none", put(f"../{CANARY['family']}", "context", "patientId"), 400),
    ("an encounter that is none", put(CANARY["family"] * 9, "context", "encounterId"), 400),
    ("prefetch of text", put(CANARY["note-title"], "prefetch"), 400),
    ("a key of text", put(CANARY["note-title"], "prefetch", "labs"), 400),
    ("entries of text", put({"resourceType": "Bundle", "entry": [CANARY["drug"]]}, "prefetch", "labs"), 400),
    ("a server that is none", put([CANARY["address"]], "fhirServer"), 400),
    ("a token that is none", put(CANARY["access-token"], "fhirAuthorization"), 400),
    ("another's grant", put({"access_token": "t", "patient": CANARY["given"]}, "fhirAuthorization"), 403),
    ("no prefetch", without("prefetch"), 412),
    ("another patient", put({"resourceType": "Patient", "id": CANARY["given"]}, "prefetch", "patient"), 412),
    ("another encounter", put(CANARY["identifier"], "context", "encounterId"), 412),
    ("somebody else's result", foreign, 412),
    ("too many entries", put({"resourceType": "Bundle", "entry": [{}] * 20_001}, "prefetch", "labs"), 413),
]


@pytest.mark.parametrize(("name", "change", "status"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_request_that_is_refused(
    pipeline: Pipeline,
    tmp_path: Path,
    witness: Callable[..., None],
    name: str,
    change: Change,
    status: int,
) -> None:
    app, request = make(pipeline, tmp_path), a_chart_of_canaries()
    change(request)
    answer = app.test_client().post(SERVICE, json=request)
    assert answer.status_code == status, name
    witness(answer.get_data(as_text=True), left_behind(app))


def test_malformed_bodies_and_paths(pipeline: Pipeline, tmp_path: Path, witness: Callable[..., None]) -> None:
    app = make(pipeline, tmp_path, RISKCARDS_MAX_BODY_BYTES="20000")
    client, name = app.test_client(), CANARY["family"]
    entry = {"card": name, "outcome": "overridden", "outcomeTimestamp": "2026-01-01T00:00:00Z"}
    answers = [
        (400, client.post(SERVICE, data=f'{{"a": {name}}}', content_type="application/json")),
        (400, client.post(SERVICE, data=f'{{"{name}": 1, "{name}": 2}}', content_type="application/json")),
        (413, client.post(SERVICE, json={"a": name * 2000})),
        (415, client.post(SERVICE, data=name, content_type=f"text/{name}")),
        (404, client.post(f"/cds-services/{name}", json={})),
        (404, client.post(f"/cds-services/{name}/feedback", json={})),
        (404, client.get(f"/model-cards/{name}?format={name}")),
        (404, client.get(f"/{name}")),
        (405, client.put(f"{SERVICE}?{name}")),
        (400, client.post(f"{SERVICE}/feedback", json={"feedback": [entry | {"outcome": name}]})),
        (400, client.post(f"{SERVICE}/feedback", json={"feedback": [entry | {"outcomeTimestamp": name}]})),
        (404, client.post(f"{SERVICE}/feedback", json={"feedback": [entry]})),
    ]
    assert [answer.status_code for _, answer in answers] == [status for status, _ in answers]
    launches = (f"/launch?iss=https://{name}&launch={name}", f"/smart/callback?code={name}&state={name}&error={name}")
    refused = [client.get(path) for path in launches]
    assert refused
    assert all(answer.status_code >= 400 for answer in refused)
    said = [answer.get_data(as_text=True) for answer in (*refused, *(answer for _, answer in answers))]
    witness(*said, left_behind(app))


def test_tokens_that_are_refused(pipeline: Pipeline, tmp_path: Path, witness: Callable[..., None]) -> None:
    ehr = Ehr()
    clients = str(ehr.configure(tmp_path / "clients.json"))
    app = make(pipeline, tmp_path, RISKCARDS_CDS_CLIENTS=clients, RISKCARDS_PUBLIC_URL="https://cds.example.org")
    url, name = f"https://cds.example.org{SERVICE}", CANARY["client-token"]
    tokens = [
        name,
        ehr.token(url, iss=name),
        ehr.token(url, tenant=name, jti=name, aud=name),
        ehr.token(url, key=Ehr().ec_key, jti=name, tenant=name),
    ]
    client = app.test_client()
    answers = [client.post(SERVICE, json=a_chart_of_canaries(), headers=bearer(token)) for token in tokens]
    assert {answer.status_code for answer in answers} == {401}
    good = client.post(SERVICE, json=a_chart_of_canaries(), headers=bearer(ehr.token(url, jti=name)))
    assert good.status_code == 200
    witness(left_behind(app), *(answer.get_data(as_text=True) for answer in answers))


def test_internal_errors(
    pipeline: Pipeline, tmp_path: Path, witness: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception with the chart in its message, in each step of an answer; and a store that is gone."""
    app = make(pipeline, tmp_path)
    client, parts = app.test_client(), app.extensions["riskcards"]

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot read {CANARY['note-text']} of {CANARY['family']}")

    said = []
    for holder, name in ((pipeline, "assess"), (pipeline.reader, "read"), (parts.store, "record_card")):
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, fail, raising=True)
            answer = client.post(SERVICE, json=a_chart_of_canaries())
        assert answer.status_code == 500, name
        said.append(answer.get_data(as_text=True))
    left = left_behind(app)
    parts.store.close()
    for file in tmp_path.glob("c.db*"):
        file.unlink()
    (tmp_path / "c.db").mkdir()
    down = client.post(SERVICE, json=a_chart_of_canaries())
    assert down.status_code == 503
    witness(left, *said, down.get_data(as_text=True))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"resourceType": "OperationOutcome", "issue": [{"diagnostics": CANARY["family"]}]}),
        (200, f"<html>{CANARY['family']}</html>".encode()),
        (200, {"resourceType": CANARY["family"], "id": CANARY["identifier"]}),
        (401, CANARY["access-token"].encode()),
        (302, b""),
    ],
)
def test_fhir_servers_that_fail(
    pipeline: Pipeline,
    tmp_path: Path,
    witness: Callable[..., None],
    fhir: FhirServer,
    status: int,
    body: Any,
) -> None:
    app, request = make(pipeline, tmp_path, RISKCARDS_FHIR_SERVERS=fhir.url), a_chart_of_canaries()
    request["fhirServer"] = fhir.url
    patient = CANARY["patient-id"]
    fhir.answer(f"/fhir/Patient/{patient}", body, status, Location=f"/{CANARY['address']}")
    del request["prefetch"]["patient"]
    answer = app.test_client().post(SERVICE, json=request)
    assert answer.status_code in (400, 412)
    assert [path for path, _ in fhir.asked] == [f"/fhir/Patient/{patient}"]
    witness(answer.get_data(as_text=True), left_behind(app))


def test_the_pages_of_the_app(
    pipeline: Pipeline, tmp_path: Path, witness: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages may contain canaries; URLs, headers, logs and stored data may not."""
    app, request = make(pipeline, tmp_path), a_chart_of_canaries()
    handler = app.extensions["riskcards"].handler
    values = request["prefetch"].values()
    found = [e["resource"] for v in values for e in (v.get("entry", []) if v["resourceType"] == "Bundle" else [])]
    found.append(request["prefetch"]["patient"])
    read = reader_of(found, CANARY["patient-id"], CANARY["encounter-id"], datetime(2026, 1, 1, tzinfo=UTC))
    chart = OpenChart(read, user=f"Practitioner/{CANARY['user-id']}")

    def source(session: str, /) -> OpenChart:
        if session != "open":
            raise HookError(404, "not-found", "there is no such session")
        return chart

    app.register_blueprint(app_pages("canaries", "/seen", source, handler))
    client, name = app.test_client(), CANARY["family"]
    home = client.get("/seen/open/")
    page = home.get_data(as_text=True)
    assert home.status_code == 200
    assert CANARY["condition-text"] in page
    view = re.search(r'name="view" value="([^"]+)"', page)
    assert view is not None
    links = re.findall(r'href="(note/[^"#]+)', page)
    form = {"view": view[1], "opinion": "useful", "comment": CANARY["comment"]}
    answers = [
        home,
        client.get("/seen/open/course"),
        *(client.get(f"/seen/open/{link}") for link in links),
        client.post("/seen/open/what-if", data={"discharged_to": "03", name: name}),
        client.post("/seen/open/feedback", data=form),
    ]
    assert links
    assert {answer.status_code for answer in answers} == {200}
    refused = [
        client.get(f"/seen/{name}/"),
        client.get(f"/seen/open/note/{name}"),
        client.post("/seen/open/what-if", data={"discharged_to": name}),
        client.post("/seen/open/feedback", data={"view": name, "opinion": name}),
        client.post("/seen/open/feedback", data=form | {"view": name}),
    ]
    assert refused
    assert all(answer.status_code >= 400 for answer in refused)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot read {CANARY['note-text']}")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "assess", fail)
        broken = client.get("/seen/open/")
    assert broken.status_code == 500
    headers = [str(answer.headers) for answer in (*answers, *refused, broken)]
    said = [answer.get_data(as_text=True) for answer in (*refused, broken)]
    # An invalid request within an open chart is answered on its page.
    outside = [text for text in said if CANARY["reason"] not in text]
    assert len(outside) >= 3
    assert not [text for text in said if name in text and text not in outside]
    witness(left_behind(app), *headers, *outside, *links)


def test_reading_the_guides_needs_no_chart(client: FlaskClient) -> None:
    """The routes without a patient answer, so the list of routes above is complete."""
    rules = {rule.rule for rule in client.application.url_map.iter_rules()}
    open_routes = {"/cds-services", "/openapi.json", "/health/live", "/health/ready", "/metrics"}
    walked = {
        "/cds-services/<service_id>", "/cds-services/<service_id>/feedback", "/model-cards/<task>", "/launch",
        "/launch/ward", "/smart/callback", "/.well-known/jwks.json",
    }  # fmt: skip
    assert {rule for rule in rules if not rule.startswith("/app")} == open_routes | walked
