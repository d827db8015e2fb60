"""The log names client, service, hookInstance and why there is no card; a refusal names its remedy."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from cds_service.application.factory import create_app
from tests.cds_service.access.ehr import PUBLIC, Ehr, bearer
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_outcome
from tests.patience import patient_settings

URL = "/cds-services/readmission-30d"


def _settings(folder: Path, **env: str) -> Any:
    return patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/t.db", **env})


@pytest.mark.parametrize(
    ("env", "change", "result"),
    [
        ({}, {}, "card"),
        ({"RISKCARDS_MODE": "off"}, {}, "off"),
        ({"RISKCARDS_MODE": "silent"}, {}, "silent"),
        ({}, {"userId": "Patient/walter"}, "role"),
        ({"RISKCARDS_QUIET_BELOW_THRESHOLD": "true", "RISKCARDS_READMISSION_THRESHOLD": "1"}, {}, "below-threshold"),
        ({}, {"encounterId": "no-such"}, "status-412"),
    ],
)
def test_a_hook_is_logged_with_its_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, env: dict[str, str], change: dict[str, str], result: str
) -> None:
    ehr = Ehr()
    clients = ehr.configure(tmp_path / "clients.json")
    app = create_app(_settings(tmp_path, RISKCARDS_CDS_CLIENTS=str(clients), RISKCARDS_PUBLIC_URL=PUBLIC, **env))
    request = whole_request("diabetic-heart-failure-discharge")
    request["context"] |= change
    with caplog.at_level(logging.INFO, "riskcards"):
        app.test_client().post(URL, json=request, headers=bearer(ehr.token(f"{PUBLIC}{URL}")))
    said = (
        f"hook service=readmission-30d client=general tenant=None hookInstance={request['hookInstance']} "
        f"result={result} ms="
    )
    assert said in caplog.text
    if result == "status-412":
        assert "refused status=412 code=not-found service=readmission-30d client=general why=" in caplog.text
    app.extensions["riskcards"].store.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no fhirServer and no fhirAuthorization"),
        ({"fhirServer": "https://ehr.example.org/r4"}, "a fhirServer and no fhirAuthorization"),
        (
            {"fhirServer": "https://ehr.example.org/r4", "fhirAuthorization": {"access_token": "t"}},
            "not on the list of servers",
        ),
    ],
)
def test_a_412_says_why_nothing_was_fetched(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    app = create_app(_settings(tmp_path))
    request = whole_request("diabetic-heart-failure-discharge") | given
    del request["prefetch"]["encounters"], request["prefetch"]["encounter"]
    assert said in assert_outcome(app.test_client().post(URL, json=request), 412)
    app.extensions["riskcards"].store.close()


def test_clients_without_a_public_url_are_warned_of(tmp_path: Path) -> None:
    """Every token was refused for its audience, and nothing said why."""
    clients = str(Ehr().configure(tmp_path / "clients.json"))
    assert "RISKCARDS_PUBLIC_URL is not set" in " ".join(_settings(tmp_path, RISKCARDS_CDS_CLIENTS=clients).warnings())
    named = _settings(tmp_path, RISKCARDS_CDS_CLIENTS=clients, RISKCARDS_PUBLIC_URL=PUBLIC)
    assert named.warnings() == _settings(tmp_path).warnings() == ()
