"""`riskcards doctor` on a service: whose keys cannot be had, which file others may read, what the database is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_hooks import read_keys
from cds_service.cli import cli
from cds_service.store.store import CardRecord, Store
from tests.cds_service.access.ehr import Ehr
from tests.cds_service.fhir_server import fhir_server
from tests.cds_service.smart.authority import new_ec_pem

LOOKS = ("EHR clients", "FHIR servers", "SMART app", "database")


def checks(monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, tuple[str, str]]:
    for name, value in settings.items():
        monkeypatch.setenv(f"RISKCARDS_{name}", value)
    run = CliRunner().invoke(cli, ["doctor", "--json"])
    return {item["name"]: (item["result"], item["detail"]) for item in json.loads(run.output) if item["name"] in LOOKS}


def test_nothing_configured_is_said_and_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checks(monkeypatch, DATABASE_URL=f"sqlite:///{tmp_path}/d.db")
    assert {result for result, _ in found.values()} == {"ok"}
    assert "insecure" in found["EHR clients"][1]
    assert "SQLite 3." in found["database"][1]
    assert "0 entries" in found["database"][1]


def test_clients_with_pinned_and_with_fetched_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ehr = Ehr()
    pinned = ehr.configure(tmp_path / "pinned.json")
    found = checks(monkeypatch, CDS_CLIENTS=str(pinned), DATABASE_URL=f"sqlite:///{tmp_path}/d.db")
    assert found["EHR clients"][0] == "ok"
    assert "pinned keys" in found["EHR clients"][1]
    url = "https://127.0.0.1:9/jwks"
    fetched = tmp_path / "fetched.json"
    client = {"name": "general", "issuer": "https://ehr.example.org", "jwks_url": url}
    fetched.write_text(json.dumps({"clients": [client]}), "utf-8")
    result, detail = checks(monkeypatch, CDS_CLIENTS=str(fetched))["EHR clients"]
    assert result == "failed"
    assert f"general: no keys from {url}" in detail
    monkeypatch.setattr("cds_service.access.client_keys.fetch_keys", lambda *_: read_keys(ehr.jwks()))
    result, detail = checks(monkeypatch, CDS_CLIENTS=str(fetched))["EHR clients"]
    assert result == "ok"
    assert f"keys from {url}" in detail


def test_every_fhir_server_of_every_client_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys alone were checked, of the first client that failed alone; a wrong FHIR address showed at the first hook."""
    ehr, database = Ehr(), f"sqlite:///{tmp_path}/d.db"
    with fhir_server() as good, fhir_server() as old, fhir_server() as shut, fhir_server() as none:
        good.answer("/fhir/metadata", {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        old.answer("/fhir/metadata", {"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"})
        shut.answer("/fhir/metadata", {}, status=401)
        path = ehr.configure(tmp_path / "clients.json", fhir_servers=[good.url, shut.url])
        result, detail = checks(monkeypatch, CDS_CLIENTS=str(path), DATABASE_URL=database)["EHR clients"]
        assert (result, "FHIR 4.0.1" in detail, "without a token" in detail) == ("ok", True, True)
        gone = "http://127.0.0.1:9/fhir"
        ehr.configure(path, fhir_servers=[gone, good.url, old.url, none.url])
        result, detail = checks(monkeypatch)["EHR clients"]
        assert result == "failed"
        for said in (f"{gone} does not answer (unreachable", "is FHIR 3.0.2", "answers 404", f"{good.url} answers"):
            assert said in detail
        monkeypatch.delenv("RISKCARDS_CDS_CLIENTS")
        result, detail = checks(monkeypatch, FHIR_SERVERS=f"{good.url},{gone}")["FHIR servers"]
        assert (result, gone in detail) == ("failed", True)
        assert not any(token for server in (good, old, shut, none) for _, token in server.asked)


def test_a_smart_app_with_an_unusable_server_or_key_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ec.pem").write_bytes(new_ec_pem())
    (tmp_path / "ec.pem").chmod(0o600)
    client = {
        "name": "general", "iss": "http://127.0.0.1:9/fhir", "client_id": "c", "type": "asymmetric",
        "private_keys": [str(tmp_path / "ec.pem")],
    }  # fmt: skip
    (tmp_path / "smart.json").write_text(json.dumps({"clients": [client]}), "utf-8")
    key = tmp_path / "session.key"
    settings = {"SMART_CLIENTS": str(tmp_path / "smart.json"), "SESSION_KEY_FILE": str(key)}
    found = checks(monkeypatch, DATABASE_URL=f"sqlite:///{tmp_path}/d.db", **settings)["SMART app"]
    assert found[0] == "failed"
    assert "http://127.0.0.1:9/fhir" in found[1]
    assert not key.exists(), "a doctor changes nothing"
    key.write_text("x" * 44, "ascii")
    key.chmod(0o644)
    assert "chmod 600" in checks(monkeypatch, **settings)["SMART app"][1]


def test_a_broken_chain_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    store = Store(url)
    store.record_card(CardRecord("c1", "s", "h", "p", None, "u", "info", "shown", []))
    assert "1 entries" in checks(monkeypatch, DATABASE_URL=url)["database"][1]
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET body = '{}'")
    store.close()
    result, detail = checks(monkeypatch, DATABASE_URL=url)["database"]
    assert result == "failed"
    assert "audit chain" in detail


def test_the_settings_of_a_file_are_checked_and_every_fault_is_named(tmp_path: Path) -> None:
    config = tmp_path / "riskcards.json"
    config.write_text(json.dumps({"readmission_threshold": 15, "roles": "practitioner"}), "utf-8")
    run = CliRunner().invoke(cli, ["doctor", "--json", "--config", str(config)])
    faults = [item["detail"] for item in json.loads(run.output) if item["result"] == "failed"]
    assert run.exit_code == 1
    assert [fault.partition(":")[0] for fault in faults] == ["RISKCARDS_READMISSION_THRESHOLD", "RISKCARDS_ROLES"]
    config.write_text(json.dumps({"database_url": f"sqlite:///{tmp_path}/of-the-file.db"}), "utf-8")
    CliRunner().invoke(cli, ["doctor", "--config", str(config)])
    assert (tmp_path / "of-the-file.db").exists()
