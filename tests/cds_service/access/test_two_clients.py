"""Two hospitals at one service, with the same ids for different patients: their cards and overrides are separate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from tests.cds_service.access.ehr import PUBLIC, Ehr, bearer
from tests.contract.conftest import whole_request
from tests.patience import patient_settings

PATH = "/cds-services/readmission-30d"
NORTH = Ehr(issuer="https://north.example")
SOUTH = Ehr(issuer="https://south.example")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("two")
    clients = [
        {"name": "north", "issuer": NORTH.issuer, "jwks": NORTH.jwks(), "tenants": ["a", "b"]},
        {"name": "south", "issuer": SOUTH.issuer, "jwks": SOUTH.jwks()},
    ]
    (folder / "clients.json").write_text(json.dumps({"clients": clients}))
    settings = {
        "RISKCARDS_PUBLIC_URL": PUBLIC,
        "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/service.db",
        "RISKCARDS_CDS_CLIENTS": str(folder / "clients.json"),
        "RISKCARDS_SNOOZE_HOURS": "8",
    }
    app = create_app(patient_settings(settings))
    yield app
    app.extensions["riskcards"].store.close()


def cards(app: Flask, ehr: Ehr, tenant: Any = ...) -> list[dict[str, Any]]:
    headers = bearer(ehr.token(f"{PUBLIC}{PATH}", tenant=tenant))
    answer = app.test_client().post(PATH, json=whole_request("diabetic-heart-failure-discharge"), headers=headers)
    assert answer.status_code == 200
    return list(answer.get_json()["cards"])


def overrides(app: Flask, ehr: Ehr, card: str, tenant: Any = ...) -> int:
    entry = {"card": card, "outcome": "overridden", "outcomeTimestamp": "2026-01-01T00:00:00Z"}
    headers = bearer(ehr.token(f"{PUBLIC}{PATH}/feedback", tenant=tenant))
    return app.test_client().post(f"{PATH}/feedback", json={"feedback": [entry]}, headers=headers).status_code


def test_feedback_is_accepted_from_the_cards_client_only_and_snoozes_only_that_client(app: Flask) -> None:
    card = cards(app, NORTH, "a")[0]["uuid"]
    assert overrides(app, SOUTH, card) == 404
    assert overrides(app, NORTH, card, "b") == 404
    assert cards(app, NORTH, "a"), "no user of this client has overridden it"
    assert overrides(app, NORTH, card, "a") == 200
    assert cards(app, NORTH, "a") == [], "snoozed where it was set aside"
    # The same ids at another client are other patients and users.
    assert cards(app, NORTH, "b")
    assert cards(app, SOUTH)
