"""Database and FHIR server down, slow, garbled or resetting: each answer is correct and in time, and recovery follows.

Correct is an OperationOutcome with its status, or a card that says what is missing, never an empty card list. In time
is while the fault lasts: the proxy holds a slow connection, and the test a slow step of the store, until the answer has
arrived, so an answer that waited for them would never come.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from cds_service.access.deadlines import DeadlineRunner
from cds_service.application.factory import create_app
from cds_service.store.errors import StoreError
from cds_service.store.store import Store
from risk_model import Pipeline
from tests.cds_service.fault_proxy import FAULTS, FaultProxy
from tests.cds_service.fhir_server import FhirServer, fhir_server
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_outcome, assert_valid_response
from tests.patience import PATIENT, patient_settings, until

# Seconds to wait for something that does not answer; other failures are noticed at once.
STORE, FETCH = "5", "0.7"
URL = "/cds-services/readmission-30d"
LABS = "Observation?patient=walter&category=laboratory&_sort=-date&_count=1000"
ENCOUNTERS = "Encounter?patient=walter&_sort=-date&_count=1000"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


@pytest.fixture
def database(postgres: str) -> Iterator[tuple[FaultProxy, str]]:
    """A PostgreSQL behind a proxy, and its URL there."""
    import psycopg

    folder = parse_qs(urlsplit(postgres).query)["host"][0]
    name = f"f{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')

    def target() -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.connect(f"{folder}/.s.PGSQL.5432")
        return opened

    with FaultProxy(target) as proxy:
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"


@pytest.fixture
def fhir() -> Iterator[tuple[FaultProxy, FhirServer, str]]:
    """A FHIR server behind a proxy, and its base URL there."""
    with fhir_server() as state:
        port = urlsplit(state.url).port
        with FaultProxy(lambda: socket.create_connection(("127.0.0.1", port))) as proxy:
            yield proxy, state, f"http://127.0.0.1:{proxy.port}/fhir"


def make(pipeline: Pipeline, url: str, **settings: str) -> Flask:
    return create_app(patient_settings({"RISKCARDS_DATABASE_URL": url} | settings), pipeline)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_fails(pipeline: Pipeline, database: tuple[FaultProxy, str], fault: str) -> None:
    proxy, url = database
    app = make(pipeline, url, **({"RISKCARDS_STORE_SECONDS": STORE} if fault == "slow" else {}))
    client, request = app.test_client(), whole_request("diabetic-heart-failure-discharge")
    assert len(client.post(URL, json=request).get_json()["cards"]) == 1
    proxy.become(fault)
    answer = client.post(URL, json=request)
    assert "store" in assert_outcome(answer, 503)
    assert answer.headers["Retry-After"]
    assert_outcome(client.get("/health/ready"), 503)
    assert client.get("/health/live").status_code == 200
    proxy.become("through")
    assert len(client.post(URL, json=request).get_json()["cards"]) == 1
    store = app.extensions["riskcards"].store
    assert store.verify_audit().fault is None
    assert len(store.audit_entries("card")) == 2
    store.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_fails_between_reading_and_storing(
    pipeline: Pipeline, database: tuple[FaultProxy, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that cannot be stored is not shown."""
    proxy, url = database
    app = make(pipeline, url, **({"RISKCARDS_STORE_SECONDS": STORE} if fault == "slow" else {}))
    assess = pipeline.assess

    def broken(*asked: Any, **more: Any) -> Any:
        proxy.become(fault)
        return assess(*asked, **more)

    monkeypatch.setattr(pipeline, "assess", broken)
    answer = app.test_client().post(URL, json=whole_request("diabetic-heart-failure-discharge"))
    assert_outcome(answer, 503)
    proxy.become("through")
    assert app.extensions["riskcards"].store.audit_entries("card") == []
    app.extensions["riskcards"].store.close()


@pytest.mark.parametrize("step", ["modes", "warned_since", "last_override", "record_card", "record_event"])
def test_a_step_of_the_store_that_hangs(
    pipeline: Pipeline, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a commit to a hanging disk, which no database timeout ends: the answer does not wait for it."""
    settings = {"RISKCARDS_DEADLINE_SECONDS": "1.5", "RISKCARDS_SNOOZE_HOURS": "1", "RISKCARDS_WARNINGS_PER_100": "50"}
    app = make(pipeline, f"sqlite:///{tmp_path}/h.db", **settings)
    store, client, answered = app.extensions["riskcards"].store, app.test_client(), threading.Event()
    request = whole_request("diabetic-heart-failure-discharge")
    if step == "record_event":
        request["prefetch"]["labs"]["entry"][0]["resource"]["subject"] = {"reference": "Patient/another-patient"}
    goes_on = getattr(store, step)

    def hang(*asked: Any) -> Any:
        answered.wait()
        return goes_on(*asked)

    with monkeypatch.context() as patch:
        patch.setattr(store, step, hang)
        answer = client.post(URL, json=request)
        answered.set()
    assert "store" in assert_outcome(answer, 503)
    assert answer.headers["Retry-After"]
    again = make(pipeline, f"sqlite:///{tmp_path}/h.db").test_client().post(URL, json=request)
    assert again.status_code == (412 if step == "record_event" else 200)


def test_abandoned_steps_do_not_block_later_ones() -> None:
    """Steps that did not begin in time never run; when the hanging ones end, later ones run."""
    steps, answered, ran = DeadlineRunner(at_once=2), threading.Event(), []

    def is_left_behind(number: int) -> None:
        with pytest.raises(StoreError, match="in time"):
            steps.run(time.monotonic() + 0.05, lambda: ran.append(number) or answered.wait())

    while len(ran) < 2:  # on a busy machine a step may not even begin in time
        is_left_behind(0)
    for number in range(1, 4):
        is_left_behind(number)
    answered.set()
    assert steps.run(time.monotonic() + PATIENT, lambda: "done") == "done"
    assert ran == [0, 0]


def test_waiting_for_a_locked_sqlite_is_limited(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    holder, store = Store(url), Store(url, 0.1)
    with holder._engine.begin(), pytest.raises(StoreError):
        store.check()
    store.check()
    holder.close()
    store.close()


def asking(request: dict[str, Any], base: str, *missing: str) -> dict[str, Any]:
    for key in missing:
        del request["prefetch"][key]
    return request | {"fhirServer": base, "fhirAuthorization": {"access_token": "secret"}}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_fhir_server_with_required_data(
    pipeline: Pipeline, tmp_path: Path, fhir: tuple[FaultProxy, FhirServer, str], fault: str
) -> None:
    proxy, server, base = fhir
    seconds = {"RISKCARDS_FETCH_SECONDS": FETCH} if fault == "slow" else {}
    app = make(pipeline, f"sqlite:///{tmp_path}/f.db", RISKCARDS_FHIR_SERVERS=base, **seconds)
    request = whole_request("diabetic-heart-failure-discharge")
    server.answer(f"/fhir/{ENCOUNTERS}", request["prefetch"]["encounters"])
    request = asking(request, base, "encounters", "encounter")
    proxy.become(fault)
    said = assert_outcome(app.test_client().post(URL, json=request), 412)
    assert "encounters" in said
    assert "failed" in said
    assert fault != "slow" or until(lambda: proxy.held > 0)
    proxy.become("through")
    assert until(lambda: len(app.test_client().post(URL, json=request).get_json().get("cards", ())) == 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_fhir_server_with_optional_data(
    pipeline: Pipeline, tmp_path: Path, fhir: tuple[FaultProxy, FhirServer, str], fault: str
) -> None:
    proxy, server, base = fhir
    seconds = {"RISKCARDS_FETCH_SECONDS": FETCH} if fault == "slow" else {}
    app = make(pipeline, f"sqlite:///{tmp_path}/f.db", RISKCARDS_FHIR_SERVERS=base, **seconds)
    request = whole_request("diabetic-heart-failure-discharge")
    server.answer(f"/fhir/{LABS}", request["prefetch"]["labs"])
    request = asking(request, base, "labs")
    proxy.become(fault)
    answer = app.test_client().post(URL, json=request)
    assert answer.status_code == 200
    assert_valid_response(answer.get_json())
    assert "Not available to this service: measurements" in answer.get_json()["cards"][0]["detail"]
    assert fault != "slow" or until(lambda: proxy.held > 0)
    proxy.become("through")
    assert until(
        lambda: "Not available" not in app.test_client().post(URL, json=request).get_json()["cards"][0]["detail"]
    )
