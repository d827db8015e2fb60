"""The assessment cache: a repeated prefetch is assessed once, and never for another client, patient or model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_hooks import HookError, HookRequest, ReceivedRequest, parse_json
from cds_hooks.strict_json import split_prefetch
from cds_service.application.factory import create_app
from cds_service.hooks.prefetch_parsing import parse_prefetch
from cds_service.services import SERVICES, Service
from risk_model import Pipeline
from tests.cds_service.access.ehr import Ehr, bearer
from tests.cds_service.fhir_server import FhirServer
from tests.contract.conftest import whole_request
from tests.patience import patient_settings

URL = "/cds-services/readmission-30d"
CASE = "diabetic-heart-failure-discharge"


@pytest.fixture(scope="module")
def shipped() -> Pipeline:
    return Pipeline.shipped()


@pytest.fixture
def assessed(shipped: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time a record was assessed: the patient."""
    seen: list[str] = []
    assess = shipped.assess

    def counting(record: Any, *rest: Any) -> Any:
        seen.append(record.subject_id)
        return assess(record, *rest)

    monkeypatch.setattr(shipped, "assess", counting)
    return seen


def make(
    pipeline: Pipeline, folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), **settings: str
) -> Flask:
    given = {"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/r.db"} | settings
    return create_app(patient_settings(given), pipeline, clock=clock)


def test_a_repeated_prefetch_is_assessed_once_and_stored_twice(
    shipped: Pipeline, tmp_path: Path, assessed: list[str]
) -> None:
    app = make(shipped, tmp_path)
    client, request = app.test_client(), whole_request(CASE)
    first = client.post(URL, json=request).get_json()["cards"][0]
    instance = str(uuid.uuid4())
    again = client.post(URL, json=request | {"hookInstance": instance}).get_json()["cards"][0]
    assert assessed == ["walter"]
    assert first["uuid"] != again["uuid"]
    assert {**first, "uuid": ""}.keys() == again.keys()
    assert (first["summary"], first["detail"]) == (again["summary"], again["detail"])
    store = app.extensions["riskcards"].store
    kept, repeated = store.card_record(first["uuid"]), store.card_record(again["uuid"])
    assert kept["estimates"] == repeated["estimates"]
    assert repeated["hook_instance"] == instance


def test_a_different_request_is_assessed_anew(shipped: Pipeline, tmp_path: Path, assessed: list[str]) -> None:
    client, request = make(shipped, tmp_path).test_client(), whole_request(CASE)
    client.post(URL, json=request)
    changed = json.loads(json.dumps(request))
    changed["prefetch"]["patient"]["birthDate"] = "1950-01-01"
    assert client.post(URL, json=changed).status_code == 200
    assert len(assessed) == 2
    # The same data with another patient in the context is another chart.
    other = json.loads(json.dumps(request))
    other["context"]["patientId"] = "somebody-else"
    assert client.post(URL, json=other).status_code == 412
    elsewhere = json.loads(json.dumps(request))
    elsewhere["context"]["encounterId"] = "another-stay"
    assert client.post(URL, json=elsewhere).status_code == 412
    assert len(assessed) == 2


def test_another_client_does_not_share_the_cache(shipped: Pipeline, tmp_path: Path, assessed: list[str]) -> None:
    first, second = Ehr(), Ehr(issuer="https://other.example.org")
    clients = first.configure(tmp_path / "clients.json")
    other = json.loads(second.configure(tmp_path / "other.json").read_text("utf-8"))
    both = json.loads(clients.read_text("utf-8"))
    both["clients"].append(other["clients"][0] | {"name": "other"})
    clients.write_text(json.dumps(both), "utf-8")
    settings = {"RISKCARDS_CDS_CLIENTS": str(clients), "RISKCARDS_PUBLIC_URL": "https://cds.example.org"}
    client = make(shipped, tmp_path, **settings).test_client()
    for number, ehr in enumerate((first, first, second), start=1):
        token = ehr.token(f"https://cds.example.org{URL}", jti=f"t{number}")
        assert client.post(URL, json=whole_request(CASE), headers=bearer(token)).status_code == 200
    assert len(assessed) == 2


def test_the_cache_depends_on_the_model_and_can_be_disabled(
    shipped: Pipeline, tmp_path: Path, assessed: list[str]
) -> None:
    now = datetime.now(UTC)
    app, request = make(shipped, tmp_path, clock=lambda: now), whole_request("sepsis-icu-first-day")
    handler, client = app.extensions["riskcards"].handler, app.test_client()
    url = "/cds-services/in-hospital-mortality"
    answered = [client.post(url, json=request).status_code for _ in range(2)]
    assert (answered, len(assessed)) == ([200, 200], 1)
    handler.current.replace(Pipeline(shipped.index, shipped.reader, shipped.models))
    client.post(url, json=request)
    assert handler.cache._known.popitem()[1].pipeline is handler.pipeline
    off = make(shipped, tmp_path, RISKCARDS_REMEMBER_SECONDS="0")
    for _ in range(2):
        off.test_client().post(url, json=request)
    assert len(assessed) == 3


def test_a_cached_assessment_expires_after_a_minute(shipped: Pipeline, tmp_path: Path, assessed: list[str]) -> None:
    now, late = datetime.now(UTC), [0]
    app, request = make(shipped, tmp_path, clock=lambda: now + timedelta(seconds=late[0])), whole_request(CASE)
    client = app.test_client()
    for entry in request["prefetch"]["encounters"]["entry"]:
        if entry["resource"]["id"] == "stay":
            entry["resource"]["period"] = {"start": (now - timedelta(days=3)).isoformat()}
            entry["resource"]["status"] = "in-progress"
    request["prefetch"]["encounter"] = None
    for late[0] in (0, 30, 59, 61):
        assert client.post(URL, json=request).status_code == 200
    assert len(assessed) == 2


def test_gaps_that_may_be_fetched_bypass_the_cache(
    shipped: Pipeline, tmp_path: Path, assessed: list[str], fhir: FhirServer
) -> None:
    """A server that just failed may answer now; what it gave is not cached for clients with fewer rights."""
    client = make(shipped, tmp_path, RISKCARDS_FHIR_SERVERS=fhir.url).test_client()
    request = whole_request(CASE)
    labs = request["prefetch"].pop("labs")
    grant = {"fhirServer": fhir.url, "fhirAuthorization": {"access_token": "secret"}}
    lacking = client.post(URL, json=request | grant).get_json()["cards"][0]["detail"]
    fhir.answer("/fhir/Observation?patient=walter&category=laboratory&_sort=-date&_count=1000", labs)
    whole = client.post(URL, json=request | grant).get_json()["cards"][0]["detail"]
    without = client.post(URL, json=request).get_json()["cards"][0]["detail"]
    assert "Not available to this service: measurements" in lacking
    assert "Not available" not in whole
    assert without == lacking
    assert len(assessed) == 3


BODIES = [
    b'{"hook":"h","context":{"prefetch":1},"prefetch":{"a":{"context":{}}}}',
    b'{"prefetch": {"a": "}", "b": {"hook": 1}}, "hook": "h" , "context": {"a": {}}}',
    b'{"prefetch": {}, "hook": "h"}',
    b'{"hook": "\\"prefetch\\": {", "prefetch": {"x": "{\\"hook\\":"}, "unknown": {"z": 1}}',
    b' {"a":"\\"","prefetch"\n:\t{"hook": {"hook":{}}} } ',
]


@pytest.mark.parametrize("body", BODIES)
def test_a_split_body_equals_the_parsed_body(body: bytes) -> None:
    """If a body can be split and both parts are objects, they are together what a parser reads."""
    parted = split_prefetch(body)
    assert parted is not None
    rest, cut = parted
    try:
        found = {**rest, "prefetch": parse_json(cut)}
    except HookError:
        assert b"unknown" in body  # a wrong split is detected
    else:
        assert found == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prefetch": {"a": 1}, "prefetch": {"a": 2}}',
        b'{"prefetch": {"a": 1}, "pre\\u0066etch": {"a": 2}}',
        b'{"prefetch": {"a": {"hook": 1, "hook": 2}}, "hook": 1}',
        b'{"prefetch": {"a": 1}} {}',
        b'{"prefetch": {"a": 1}, }',
        b'{"prefetch": {"a": }}',
        b'{"prefetch": {"a": "\\u003a", "b": 1, "b": 1}}',
        b'{"x": [{"prefetch": {"a": 1}}]}',
        b'{"prefetch": {"a": NaN}}',
        b'{"prefetch": {"a": "\xff"}}',
        b'{"prefetch": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}",
    ],
)
def test_a_split_body_is_refused_like_the_whole(body: bytes) -> None:
    service, said = SERVICES["hospital-risk"], []
    for read in (parse_json, lambda raw: parsed(raw, service)):
        with pytest.raises(HookError) as refused:
            read(body) if read is not parse_json else _needs_hook(parse_json(body))
        said.append(refused.value.status)
    assert said == [400, 400]


def parsed(body: bytes, service: Service) -> HookRequest:
    return ReceivedRequest(service, body).open().read_prefetch(parse_prefetch)


def _needs_hook(raw: dict[str, Any]) -> None:
    if "hook" not in raw:
        raise HookError(400, "required", "hook")


def test_a_grant_after_an_unknown_member_is_read() -> None:
    """The end of the prefetch is guessed; a wrong guess must not lose the members after it."""
    request = whole_request(CASE)
    prefetch = request.pop("prefetch")
    grant = {"unknown": {}, "fhirServer": "https://ehr.example/r4", "fhirAuthorization": {"access_token": "t"}}
    text = json.dumps(request)[:-1] + f', "prefetch": {json.dumps(prefetch)}, ' + json.dumps(grant)[1:]
    for body in (
        text,
        text.replace('"fhirAuth', '"fhir\\u0041uth'),
        text.replace('"fhirServer"', '"fhir\\u0053erver"'),
    ):
        asked = parsed(body.encode(), SERVICES["readmission-30d"])
        assert (asked.access_token, asked.fhir_server) == ("t", "https://ehr.example/r4")
        assert asked.prefetch == prefetch
    whole = json.dumps(request | {"prefetch": prefetch}).encode()
    assert ReceivedRequest(SERVICES["readmission-30d"], whole).open().prefetch.sha256
