"""The audit chain as FHIR R4 AuditEvents that validate, and hold nothing the chain should keep to itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from fhir.resources.R4B.auditevent import AuditEvent

from cds_service.cli import cli
from cds_service.monitoring.audit_events import audit_event
from cds_service.store.audit import AuditEntry
from cds_service.store.store import CardRecord, Store

KINDS = ("card", "feedback", "mode", "foreign-patient", "outcomes", "purge")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with one entry of every kind there is."""
    url = f"sqlite:///{tmp_path}/a.db"
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", url)
    monkeypatch.setenv("RISKCARDS_PUBLIC_URL", "https://cds.example.org/")
    store = Store(url)
    estimate = {
        "task": "readmission_30d", "probability": 0.4321, "abstention": None, "model_id": "m", "model_version": "1",
        "inputs": [77.25], "drivers": {},
    }  # fmt: skip
    store.record_card(
        CardRecord("c1", "readmission-30d", "h1", "walter", None, "Practitioner/1", "info", "shown", [estimate])
    )
    store.add_feedback([{"card": "c1", "outcome": "overridden", "overrideReason": {"userComment": "Walter says no"}}])
    store.set_mode("*", "*", "live", "begin")
    store.record_event("foreign-patient", "h2", {"service": "readmission-30d", "client": "general-hospital"})
    store.add_outcomes([("c1", "readmission_30d", True)])
    store.purge(datetime.now(UTC) - timedelta(days=365))
    return store


def test_every_entry_is_a_valid_event_that_leads_back_to_the_chain(kept: Store) -> None:
    run = CliRunner().invoke(cli, ["audit", "export", "--fhir"])
    assert run.exit_code == 0, run.output
    events = [json.loads(line) for line in run.output.splitlines()]
    for event in events:
        AuditEvent.model_validate(event)
    assert [event["subtype"][0]["code"] for event in events] == list(KINDS)
    hashes = {entry.seq: entry.hash for entry in kept.stream_audit()}
    details = [{d["type"]: d["valueString"] for d in event["entity"][0]["detail"]} for event in events]
    assert [hashes[int(detail["entry"])] for detail in details] == [detail["hash"] for detail in details]
    assert events[3]["outcome"] == "4"
    assert events[3]["agent"][0] == {"name": "general-hospital", "requestor": True}
    assert events[0]["agent"][0]["who"]["identifier"]["value"] == kept.user_hash("Practitioner/1")
    listed = CliRunner().invoke(cli, ["audit", "list", "--user", "Practitioner/1"]).output.splitlines()
    assert [json.loads(line)["kind"] for line in listed] == ["card"]
    assert CliRunner().invoke(cli, ["audit", "list", "--user", "Practitioner/2"]).output == ""
    later = CliRunner().invoke(cli, ["audit", "export", "--fhir", "--after", "4"]).output.splitlines()
    assert [json.loads(line)["id"] for line in later] == [hashes[5], hashes[6]]


def test_neither_patient_nor_estimate_nor_comment_leaves_with_it(kept: Store) -> None:
    text = CliRunner().invoke(cli, ["audit", "export", "--fhir"]).output
    for secret in ("walter", "Walter", "0.4321", "77.25", "Practitioner/1"):
        assert secret not in text
    assert kept.patient_hash("walter") in text


def test_what_retention_has_emptied_is_still_an_event() -> None:
    event = audit_event(AuditEntry(1, "2026-01-01T10:00:00+00:00", "card", "c1", None, "0" * 64), "https://cds.example")
    AuditEvent.model_validate(event)
    assert "removed by retention" in json.dumps(event)


def test_the_form_must_be_named() -> None:
    assert CliRunner().invoke(cli, ["audit", "export"]).exit_code == 2
