"""The receiver of notifications: who is let in, what is queued, what is answered."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from cds_service.access.admission import RateLimit
from cds_service.refresh.parts import notification_receiver
from cds_service.refresh.receiver import ASK
from tests.cds_service.refresh.conftest import NAME, SECRET, Refreshed
from tests.cds_service.refresh.test_notifications import HAPPENED, OBSERVATION, bundle, event, status

ADDRESS = f"/fhir-notifications/{NAME}"
BEARER = {"Authorization": f"Bearer {SECRET}"}


def send(fresh: Refreshed, body: Any, address: str = ADDRESS, method: str = "POST", **headers: str) -> TestResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()} or BEARER
    return fresh.app.test_client().open(address, method=method, json=body, headers=given)


def test_an_event_is_queued_and_answered_at_once(fresh: Refreshed) -> None:
    answer = send(fresh, bundle(status(HAPPENED, event(1, "Observation/7"), event(2, "Patient/2"))))
    assert answer.status_code == 200, answer.text
    assert fresh.queued() == ["Observation/7", "Patient/2"]
    assert not fresh.ehr.asked, "the data are read by the worker"


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Subscription_Secret": SECRET}, {"Authorization": f"bearer {SECRET}"},
        {"X_Subscription_Secret": "0" * 40},
    ],
)  # fmt: skip
def test_either_header_and_every_secret_of_the_file(fresh: Refreshed, headers: dict[str, str]) -> None:
    assert send(fresh, OBSERVATION, **headers).status_code == 200
    assert fresh.queued() == ["Patient/1"]


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        (ADDRESS, {"X_Nothing": "x"}), (ADDRESS, {"Authorization": f"Basic {SECRET}"}),
        (ADDRESS, {"Authorization": "Bearer"}), (ADDRESS, {"Authorization": f"Bearer {SECRET}x"}),
        (ADDRESS, {"X_Subscription_Secret": SECRET[:-1]}), (ADDRESS, {"Authorization": "Bearer \u00e9"}),
        ("/fhir-notifications/public", {"Authorization": f"Bearer {SECRET}"}),
        ("/fhir-notifications/nobody", {"Authorization": f"Bearer {SECRET}"}),
        ("/fhir-notifications/nobody", {"Authorization": f"Bearer {'-' * 32}"}),
    ],
)  # fmt: skip
def test_without_the_secret_nothing_is_queued(fresh: Refreshed, address: str, headers: dict[str, str]) -> None:
    answer = send(fresh, OBSERVATION, address, **headers)
    assert answer.status_code == 401
    assert SECRET not in answer.text
    assert fresh.queued() == []


@pytest.mark.parametrize("kind", ["handshake", "heartbeat"])
def test_handshake_and_heartbeat_are_answered(fresh: Refreshed, kind: str) -> None:
    assert send(fresh, bundle(status(kind))).status_code == 200
    assert fresh.queued() == []


def test_r4_updates_and_deletions_come_to_an_address_of_their_own(fresh: Refreshed) -> None:
    assert send(fresh, OBSERVATION, f"{ADDRESS}/Observation/7", "PUT").status_code == 200
    assert send(fresh, None, f"{ADDRESS}/Encounter/3", "DELETE").status_code == 204
    assert fresh.queued() == ["Encounter/3", "Patient/1"]
    assert send(fresh, None, f"{ADDRESS}/Encounter/..%2f3", "DELETE").status_code == 404
    assert send(fresh, None, f"{ADDRESS}/Encounter/a b", "DELETE").status_code == 404


def test_a_ping_without_a_body_asks_for_a_poll(fresh: Refreshed) -> None:
    answer = fresh.app.test_client().post(ADDRESS, headers=BEARER)
    assert answer.status_code == 200
    assert ASK in fresh.jobs.queue.positions(NAME)


def test_an_event_that_is_delivered_again_is_queued_once(fresh: Refreshed) -> None:
    """Servers repeat a notification whose answer they did not get, also when its patient is long estimated."""
    body = bundle(status(HAPPENED, event(1, "Patient/1")))
    send(fresh, body)
    assert fresh.queued() == ["Patient/1"]
    assert send(fresh, body).status_code == 200
    assert fresh.queued() == []
    send(fresh, bundle(status(HAPPENED, event(2, "Patient/1"))))
    assert fresh.queued() == ["Patient/1"]


def test_many_events_of_one_patient_are_one_job(fresh: Refreshed) -> None:
    for number in range(9):
        send(fresh, bundle(status(HAPPENED, event(number, "Patient/1"))))
    assert fresh.queued() == ["Patient/1"]


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (b"{", "application/fhir+json", 400), (b"[]", "application/json", 400), (b"\xff", "application/json", 400),
        (b"<Observation/>", "application/fhir+xml", 415), (b"{}", "text/plain", 415),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_reason(fresh: Refreshed, data: bytes, kind: str, code: int) -> None:
    answer = fresh.app.test_client().post(ADDRESS, data=data, content_type=kind, headers=BEARER)
    assert answer.status_code == code
    assert answer.get_json()["resourceType"] == "OperationOutcome"


def test_a_server_that_sends_too_much_is_asked_to_wait(fresh: Refreshed, monkeypatch: pytest.MonkeyPatch) -> None:
    view = fresh.app.view_functions["notifications.bundle"]
    receiver = next(cell.cell_contents for cell in view.__closure__ if hasattr(cell.cell_contents, "rate"))  # type: ignore[union-attr, attr-defined]
    monkeypatch.setattr(receiver, "rate", RateLimit(6, lambda: 0.0))
    assert send(fresh, OBSERVATION).status_code == 200
    answer = send(fresh, OBSERVATION)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


def test_no_id_and_no_secret_reaches_the_log(fresh: Refreshed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    send(fresh, OBSERVATION | {"id": "canary-7", "subject": {"reference": "Patient/canary-1"}})
    send(fresh, OBSERVATION, Authorization=f"Bearer {SECRET}x")
    assert caplog.records
    assert "canary" not in caplog.text
    assert SECRET not in caplog.text


def test_the_proxy_of_the_docs_passes_every_public_route(fresh: Refreshed) -> None:
    """A new route that deploy/nginx.conf does not name is a 404 in every hospital."""
    text = (Path(__file__).resolve().parents[3] / "deploy" / "nginx.conf").read_text("utf-8")
    (pattern,) = re.findall(r"location ~ (\S+) \{", text)
    inside = ("/health/ready", "/metrics")
    rules = [str(rule) for rule in fresh.app.url_map.iter_rules()]
    assert len(rules) > 20
    assert [rule for rule in rules if not re.match(pattern, rule) and rule not in inside] == []


def test_a_refreshed_client_that_is_not_registered_is_named_in_the_log(
    fresh: Refreshed, caplog: pytest.LogCaptureFixture
) -> None:
    """Its notifications would be refused, and nothing would say why."""
    settings = fresh.handler.settings.with_changes(refresh_clients=("nowhere",))
    assert notification_receiver(settings, fresh.store, [], lambda step, *given: step(*given)) is None
    assert "names nowhere" in caplog.text
