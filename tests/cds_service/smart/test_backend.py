"""Backend services: a key instead of a user, one patient or an export of all, and nothing half done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_service import cli
from cds_service.oauth.errors import SmartSetupError
from cds_service.smart import backend, bulk_export
from cds_service.smart.backend import BackendAccess, find_backend
from cds_service.smart.bulk_export import ExportError, export
from tests.cds_service.smart.authority import Realm

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def access(app: Flask, ehr: Realm) -> BackendAccess:
    return BackendAccess(find_backend(Path(app.extensions["riskcards"].settings.smart_clients), "asymmetric", ehr.base))


@pytest.fixture
def score(app: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("RISKCARDS_SMART_CLIENTS", app.extensions["riskcards"].settings.smart_clients)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["riskcards", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_a_key_gets_a_token_and_keeps_it_while_it_is_good(
    access: BackendAccess, ehr: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = access.token()
    assert access.token() == first
    (form,) = ehr.token_requests
    assert form["grant_type"] == "client_credentials"
    assert "system/Observation.rs" in form["scope"].split()
    assert all(scope.startswith("system/") for scope in form["scope"].split())
    monkeypatch.setattr(backend, "EARLY_SECONDS", 301)
    assert access.token() != first


def test_scopes_of_a_server_of_version_1(access: BackendAccess, ehr: Realm) -> None:
    ehr.wrong = {"configuration": {"capabilities": ["permission-v1"]}}
    access.token()
    assert "system/Observation.read" in ehr.token_requests[0]["scope"].split()


@pytest.mark.parametrize(
    ("name", "suffix", "word"),
    [("nobody", "", "no client"), ("public", "", "asymmetric client"), ("rsa", "", "registered at")],
)
def test_only_a_client_with_a_key_and_at_its_own_server(
    app: Flask, ehr: Realm, name: str, suffix: str, word: str
) -> None:
    with pytest.raises(SmartSetupError, match=word):
        find_backend(Path(app.extensions["riskcards"].settings.smart_clients), name, ehr.base + suffix)


def test_an_export_brings_every_patient(access: BackendAccess, ehr: Realm, tmp_path: Path) -> None:
    said: list[str] = []
    files = export(access, tmp_path, say=said.append)
    (patients,) = [file for file in files if file.name.startswith("Patient")]
    assert sorted(json.loads(line)["id"] for line in patients.read_text().splitlines()) == ["ines", "walter"]
    assert any("preparing" in line for line in said)
    assert ehr.asked[0][0].startswith("Patient/$export?_type=Patient,Encounter,")
    assert ehr.asked[-1][0].startswith("DELETE"), "the server may forget the files"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no export": ({"kick-off": 404}, "does not start"),
    "given up": ({"waiting": 500}, "cancelled the export"),
    "status elsewhere": ({"status": "https://evil.example/status"}, "host that is not configured"),
    "a file elsewhere": (
        {"manifest": {"output": [{"type": "Patient", "url": "https://evil.example/p"}]}},
        "host that is not configured",
    ),
    "a path for a type": ({"manifest": {"output": [{"type": "../x", "url": "u"}]}}, "cannot be read"),
    "no list": ({"manifest": {"output": ...}}, "cannot be read"),
    "errors": ({"manifest": {"error": [{"type": "OperationOutcome", "url": "u"}]}}, "incomplete exports are rejected"),
    "a file that is gone": ({"file": 404}, "could not be downloaded"),
}


@pytest.mark.parametrize(("wrong", "word"), WRONG.values(), ids=WRONG)
def test_an_export_that_is_not_whole_is_none(
    access: BackendAccess, ehr: Realm, tmp_path: Path, wrong: dict[str, Any], word: str
) -> None:
    ehr.wrong = {"export": wrong}
    with pytest.raises(ExportError, match=word):
        export(access, tmp_path)


def test_files_without_need_of_a_token_get_none(access: BackendAccess, ehr: Realm, tmp_path: Path) -> None:
    ehr.wrong = {"export": {"manifest": {"requiresAccessToken": False}}}
    with pytest.raises(ExportError, match="status 401"):
        export(access, tmp_path)
    files = [token for path, token in ehr.asked if path.startswith("export/") and path != "export/status"]
    assert files
    assert not any(files)


def test_an_export_does_not_wait_for_ever(
    access: BackendAccess, ehr: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_export, "_pause", lambda _: 0.0)
    with pytest.raises(ExportError, match="too long"):
        export(access, tmp_path, hours=0)


def test_one_patient_is_scored_with_the_services_own_login(score: Run, ehr: Realm) -> None:
    server = ("--fhir-server", ehr.base, "--patient", "walter", "--encounter", "stay", "--json")
    code, out, error = score(*server, "--smart-client", "asymmetric")
    assert code == 0, error
    assert json.loads(out)["resourceType"] == "RiskAssessment"
    assert score(*server)[0] == 3, "without the login the server gives nothing"


def test_an_export_is_scored_whole(score: Run, ehr: Realm, tmp_path: Path) -> None:
    out = tmp_path / "risks.ndjson"
    code, _, error = score("--fhir-server", ehr.base, "--smart-client", "asymmetric", "--out", out)
    assert code == 0, error
    assert [json.loads(line)["resourceType"] for line in out.read_text().splitlines()] == ["RiskAssessment"] * 2


@pytest.mark.parametrize(
    ("wrong", "code", "word"),
    [({"token": {"access_token": ...}}, 3, "no access"), ({"export": {"file": 500}}, 3, "could not be downloaded")],
)
def test_export_errors_are_reported_and_leave_no_file(
    score: Run, ehr: Realm, tmp_path: Path, wrong: dict[str, Any], code: int, word: str
) -> None:
    ehr.wrong = wrong
    out = tmp_path / "risks.ndjson"
    answer = score("--fhir-server", ehr.base, "--smart-client", "asymmetric", "--out", out)
    assert answer[0] == code
    assert word in answer[2]
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--smart-client", "asymmetric", "--patient", "walter"),
        ("--fhir-server", "BASE", "--smart-client", "nobody", "--patient", "walter"),
        ("--fhir-server", "BASE", "--smart-client", "asymmetric", "--out", "x", "--patient", "walter"),
        ("--fhir-server", "BASE", "--smart-client", "asymmetric", "--out", "x", "--group", "../x"),
        ("--fhir-server", "BASE", "--group", "g", "--patient", "walter"),
    ],
)
def test_usage_errors_are_reported(score: Run, ehr: Realm, arguments: tuple[str, ...]) -> None:
    assert score(*(ehr.base if word == "BASE" else word for word in arguments))[0] == 2
