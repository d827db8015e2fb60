"""The clients file: every error is named, an invalid change keeps the old clients, and the command writes the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_service.auth.clients import ClientsError, ClientsFile, read_clients
from cds_service.cli import cli
from tests.cds_service.auth.ehr import ISSUER, Ehr


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
    ({"jwks": {"keys": []}}, "JWK set"),
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
