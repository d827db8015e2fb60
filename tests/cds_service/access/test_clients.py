"""The clients file: every error is named, an invalid change keeps the old clients, and the command writes the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_service.access.clients import ClientsError, ClientsFile, ClientsUnavailableError, read_clients
from cds_service.application.factory import create_app
from cds_service.cli import cli
from risk_model import Pipeline
from tests.cds_service.access.ehr import ISSUER, Ehr, bearer
from tests.patience import patient_settings


@pytest.fixture(scope="module")
def ehr() -> Ehr:
    return Ehr()


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"issuer": ...}, "issuer"),
    ({"name": ""}, "name"),
    ({"algorithms": ["HS256"]}, "HS256"),
    ({"algorithms": ["none"]}, "none"),
    ({"algorithms": "ES384"}, "list of strings"),
    ({"jwks": ...}, "exactly one of"),
    ({"jwks_url": "https://ehr.example.org/jwks"}, "exactly one of"),
    ({"jwks": ..., "jwks_url": "http://ehr.example.org/jwks"}, "https"),
    ({"jwks": ..., "jwks_url": 3}, "https"),
    ({"jwks": {"keys": []}}, "JWK set"),
    ({"jwks": [1]}, "JWK set"),
    ({"max_lifetime": 0}, "max_lifetime"),
    ({"max_lifetime": "300"}, "max_lifetime"),
    ({"jku": ["ftp://ehr.example.org/jwks"]}, "jku"),
    ({"max_lifetime": 86400}, "max_lifetime"),
    ({"max_lifetime": True}, "max_lifetime"),
    ({"fhir_servers": ["ehr.example.org/fhir"]}, "fhir_servers"),
    ({"secret": "s"}, "unknown field"),
]


@pytest.mark.parametrize(("changed", "said"), FAULTS, ids=[row[1] + str(i) for i, row in enumerate(FAULTS)])
def test_an_invalid_field_is_named(ehr: Ehr, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientsError, match=said):
        read_clients(ehr.configure(tmp_path / "clients.json", **changed))


@pytest.mark.parametrize("text", ["{", "clients: [", "7", '{"client": []}', '{"clients": {}}', '{"clients": [3]}'])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clients.yaml"
    path.write_text(text)
    with pytest.raises(ClientsError):
        read_clients(path)
    with pytest.raises(ClientsError, match="cannot be read"):
        read_clients(tmp_path / "absent.json")


def test_two_clients_of_one_issuer_are_refused(ehr: Ehr, tmp_path: Path) -> None:
    path = ehr.configure(tmp_path / "clients.json")
    one = json.loads(path.read_text())["clients"][0]
    path.write_text(json.dumps({"clients": [one, one | {"name": "second"}]}))
    with pytest.raises(ClientsError, match="issuer"):
        read_clients(path)


def test_a_change_is_loaded_and_an_invalid_one_keeps_the_old_clients(ehr: Ehr, tmp_path: Path) -> None:
    path = ehr.configure(tmp_path / "clients.json")
    clients = ClientsFile(path)
    assert list(clients.clients) == [ISSUER]
    path.write_text("{ not yet written")
    assert list(clients.clients) == [ISSUER]
    assert clients.fault
    ehr.configure(path, issuer="https://new.example")
    os.utime(path, ns=(1, 1))
    assert list(clients.clients) == ["https://new.example"]
    assert clients.fault is None


REPLACED: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: None,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "empty": Path.touch,
    "half written": lambda path: path.write_text('{"clients": [{"name": "general", "issuer"'),
    "nested deeply": lambda path: path.write_text("[" * 50_000 + "]" * 50_000),
    "its key twice": lambda path: path.write_text('{"clients": [], "clients": []}'),
    "a dangling link": lambda path: path.symlink_to("/nowhere"),
}


@pytest.mark.parametrize("name", REPLACED)
def test_whatever_replaces_the_file_the_last_clients_are_kept_and_then_none(
    ehr: Ehr, tmp_path: Path, name: str
) -> None:
    """A pipe blocked both workers for ever; what was nested deeply was a 500 once, then the old clients for ever."""
    path, now = ehr.configure(tmp_path / "clients.json"), [0.0]
    clients = ClientsFile(path, 300.0, lambda: now[0])
    path.unlink()
    REPLACED[name](path)
    assert list(clients.clients) == [ISSUER]
    assert clients.fault
    now[0] = 301.0
    with pytest.raises(ClientsUnavailableError):
        _ = clients.clients


def test_add_list_rotate_remove(ehr: Ehr, tmp_path: Path) -> None:
    place, keys = tmp_path / "clients.json", tmp_path / "jwks.json"
    keys.write_text(json.dumps(ehr.jwks()))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["client", *arguments, "--file", str(place)])
        return result.exit_code, result.output

    added = run(
        "add", "general", "--issuer", ISSUER, "--jwks", str(keys), "--fhir-server", "https://ehr.example.org/fhir"
    )
    assert added[0] == 0, added
    assert run("add", "general", "--issuer", "https://x.example", "--jwks", str(keys))[0] == 2
    assert run("add", "other", "--issuer", "https://x.example")[0] == 2
    assert read_clients(place)[0].fhir_servers == ("https://ehr.example.org/fhir",)
    assert "ec-1, rsa-1" in run("list")[1]
    assert json.loads(run("list", "--json")[1])[0]["issuer"] == ISSUER
    assert run("rotate", "general", "--jwks-url", "https://ehr.example.org/jwks")[0] == 0
    assert read_clients(place)[0].jwks_url == "https://ehr.example.org/jwks"
    assert run("rotate", "nobody", "--jwks", str(keys))[0] == 2
    assert run("remove", "general")[0] == 0
    assert read_clients(place) == ()


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
def test_a_change_keeps_owner_and_mode(ehr: Ehr, tmp_path: Path, mode: int) -> None:
    """`client remove` as root left the file to root alone: the service went on accepting the removed client."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a file away")
    place = ehr.configure(tmp_path / "clients.json")
    os.chown(place, 4711, 4712)
    place.chmod(mode)
    link = tmp_path / "link.json"
    link.symlink_to(place)
    for words in (["rotate", "general", "--jwks-url", "https://ehr.example.org/jwks"], ["remove", "general"]):
        assert CliRunner().invoke(cli, ["client", *words, "--file", str(link)]).exit_code == 0
        found = place.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, mode)
    assert link.is_symlink()
    assert read_clients(place) == ()


def test_a_file_that_another_user_owns_is_not_taken_from_them(
    ehr: Ehr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ehr.configure(tmp_path / "clients.json")
    before = place.read_text()
    if os.geteuid() == 0:
        os.chown(place, 4711, 4712)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.fchown", refused)
    answer = CliRunner().invoke(cli, ["client", "remove", "general", "--file", str(place)])
    if os.geteuid() == 0:
        assert answer.exit_code == 1
        assert "4711" in answer.output
        assert place.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clients.json"], "no temporary file is left"


def test_an_unreadable_file_is_logged_and_fails_closed_after_the_grace_period(
    ehr: Ehr, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been changed to shut a client out: its tokens were accepted for ever, and no log said so."""
    path, now = ehr.configure(tmp_path / "clients.json"), [0.0]
    clients = ClientsFile(path, 60.0, lambda: now[0])
    kept = path.read_text()
    path.unlink()
    assert list(clients.clients) == [ISSUER]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    now[0] = 59.0
    assert list(clients.clients) == [ISSUER]
    now[0] = 60.0
    with pytest.raises(ClientsUnavailableError):
        _ = clients.clients
    path.write_text("{")
    with pytest.raises(ClientsUnavailableError):
        _ = clients.clients
    path.write_text(kept)
    assert list(clients.clients) == [ISSUER]
    assert clients.fault is None


def test_the_service_is_not_ready_and_then_refuses_all_clients(
    ehr: Ehr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, url = ehr.configure(tmp_path / "clients.json"), "http://127.0.0.1:8080"
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/c.db", "CDS_CLIENTS": str(path)}
    app = create_app(
        patient_settings({f"RISKCARDS_{name}": value for name, value in settings.items()}), Pipeline.shipped()
    )
    now = [0.0]
    file = app.extensions["riskcards"].clients
    monkeypatch.setattr(file, "_clock", lambda: now[0])
    client = app.test_client()

    def discovery() -> int:
        headers = bearer(ehr.token(f"{url}/cds-services"))
        return client.get("/cds-services", headers=headers).status_code

    assert (discovery(), client.get("/health/ready").status_code) == (200, 200)
    path.write_text("{")
    assert (discovery(), client.get("/health/ready").status_code) == (200, 503)
    now[0] = 301.0
    assert (discovery(), client.get("/health/ready").status_code) == (503, 503)
    ehr.configure(path, issuer="https://other.example")
    assert discovery() == 401
    assert client.get("/health/ready").status_code == 200
