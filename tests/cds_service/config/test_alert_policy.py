"""Modes, thresholds, snooze, the cap on warnings, and roles: which cards are shown and which only stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.cli import cli
from cds_service.config.modes import Mode, ModeBoard
from cds_service.config.settings import SettingsError
from cds_service.store.store import Store
from risk_model import Pipeline
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_valid_response
from tests.patience import patient_settings

URL = "/cds-services/readmission-30d"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


@pytest.fixture
def discharge() -> dict[str, Any]:
    return whole_request("diabetic-heart-failure-discharge")


def make(
    pipeline: Pipeline, folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), **settings: str
) -> Flask:
    given = {"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/quiet.db"} | settings
    return create_app(patient_settings(given), pipeline, clock=clock)


def cards(app: Flask, request: dict[str, Any]) -> list[dict[str, Any]]:
    answer = app.test_client().post(URL, json=request)
    assert answer.status_code == 200, answer.get_data()
    assert_valid_response(answer.get_json())
    found: list[dict[str, Any]] = answer.get_json()["cards"]
    return found


def kept(app: Flask) -> int:
    return len(app.extensions["riskcards"].store.audit_entries("card"))


@pytest.mark.parametrize(
    ("mode", "shown", "recorded"), [("off", 0, 0), ("silent", 0, 1), ("pilot", 0, 1), ("live", 1, 1)]
)
def test_modes(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], mode: str, shown: int, recorded: int
) -> None:
    app = make(pipeline, tmp_path, RISKCARDS_MODE=mode)
    assert len(cards(app, discharge)) == shown
    assert kept(app) == recorded


def test_pilot_users_see_cards(pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any]) -> None:
    user = discharge["context"]["userId"]
    app = make(pipeline, tmp_path, RISKCARDS_MODE="pilot", RISKCARDS_PILOT_USERS=f"Practitioner/x,{user}")
    assert len(cards(app, discharge)) == 1


def test_the_kill_switch_stops_a_running_service_and_survives_a_restart(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/quiet.db")
    app = make(pipeline, tmp_path)
    now = [0.0]
    monkeypatch.setattr(app.extensions["riskcards"].answering.modes, "_clock", lambda: now[0])
    assert len(cards(app, discharge)) == 1
    run = CliRunner().invoke(cli, ["mode", "live", "--service", "readmission-30d"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(cli, ["mode", "off", "--reason", "drill"])
    assert "kill switch is on" in run.output
    now[0] = 5.0
    assert cards(app, discharge) == []
    assert cards(make(pipeline, tmp_path), discharge) == []
    CliRunner().invoke(cli, ["mode", "live"])
    now[0] = 10.0
    assert len(cards(app, discharge)) == 1


def test_the_more_specific_mode_wins(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/modes.db")
    now = [0.0]
    board = ModeBoard(store, Mode.LIVE, lambda: now[0])
    for service, tenant, mode in (("*", "*", "silent"), ("a", "*", "pilot"), ("a", "north", "live")):
        store.set_mode(service, tenant, mode, "")
    assert [board.of("a", "north"), board.of("a", "south"), board.of("b", None)] == ["live", "pilot", "silent"]
    store.set_mode("*", "*", "off", "")
    assert board.of("a", "north") is Mode.LIVE
    now[0] = 3.0
    assert board.of("a", "north") is Mode.OFF
    store.close()


def test_an_override_snoozes_for_that_user_until_time_passes_or_risk_moves(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any]
) -> None:
    later = [timedelta()]
    quiet = {"RISKCARDS_SNOOZE_HOURS": "8", "RISKCARDS_SNOOZE_DELTA": "0.02"}
    app = make(pipeline, tmp_path, clock=lambda: datetime.now(UTC) + later[0], **quiet)
    card = cards(app, discharge)[0]
    assert len(cards(app, discharge)) == 1
    override = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-01-01T10:00:00Z"}
    assert app.test_client().post(f"{URL}/feedback", json={"feedback": [override]}).status_code == 200
    assert cards(app, discharge) == []
    colleague = discharge | {"context": discharge["context"] | {"userId": "Practitioner/colleague"}}
    assert len(cards(app, colleague)) == 1
    later[0] = timedelta(hours=9)
    assert len(cards(app, discharge)) == 1


def test_below_the_threshold_nothing_is_shown_when_asked_for(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any]
) -> None:
    quiet = {"RISKCARDS_QUIET_BELOW_THRESHOLD": "yes"}
    high = "readmission-30d.readmission_30d=0.99"
    app = make(pipeline, tmp_path, RISKCARDS_THRESHOLDS=high, **quiet)
    assert cards(app, discharge) == []
    assert kept(app) == 1
    low = make(pipeline, tmp_path, RISKCARDS_THRESHOLDS="readmission-30d.readmission_30d=0.001", **quiet)
    assert cards(low, discharge)[0]["indicator"] == "warning"


def test_warnings_are_capped(pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any]) -> None:
    low = "readmission-30d.readmission_30d=0.001"
    app = make(pipeline, tmp_path, RISKCARDS_THRESHOLDS=low, RISKCARDS_WARNINGS_PER_100="50")
    indicators = [cards(app, discharge)[0]["indicator"] for _ in range(42)]
    assert indicators[:20] == ["warning"] * 20
    assert indicators[20:40] == ["info"] * 20
    assert indicators.count("warning") <= 21


def test_roles(pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any]) -> None:
    discharge["context"]["userId"] = "Patient/walter"
    assert cards(make(pipeline, tmp_path), discharge) == []
    assert len(cards(make(pipeline, tmp_path, RISKCARDS_ROLES="Patient"), discharge)) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODE", "on"),
        ("THRESHOLDS", "hospital-risk=0.2"),
        ("THRESHOLDS", "hospital-risk.readmission_30d=2"),
        ("PRIVATE_NETWORKS", "10.0.0.0/64"),
        ("QUIET_BELOW_THRESHOLD", "perhaps"),
    ],
)
def test_invalid_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        patient_settings({f"RISKCARDS_{name}": value})


def test_a_card_replays_bit_for_bit_and_a_changed_record_does_not(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/quiet.db")
    app = make(pipeline, tmp_path)
    uuid = cards(app, discharge)[0]["uuid"]
    run = CliRunner().invoke(cli, ["replay", uuid, "--json"])
    assert run.exit_code == 0, run.output
    assert '"same":true' in run.output
    assert CliRunner().invoke(cli, ["replay", "never-sent"]).exit_code == 3
    assert CliRunner().invoke(cli, ["audit", "verify"]).exit_code == 0
    head = CliRunner().invoke(cli, ["audit", "head"]).output.strip()
    cards(app, discharge)
    assert CliRunner().invoke(cli, ["audit", "verify", "--head", head]).exit_code == 0
    assert CliRunner().invoke(cli, ["audit", "verify", "--head", f"2:{'0' * 64}"]).exit_code == 3
    with app.extensions["riskcards"].store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET body = replace(body, '\"probability\":0', '\"probability\":1')")
    assert CliRunner().invoke(cli, ["replay", uuid]).exit_code == 3
    assert CliRunner().invoke(cli, ["audit", "verify"]).exit_code == 3


def test_outcomes_are_imported_from_a_table_all_or_none(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/quiet.db")
    uuid = cards(make(pipeline, tmp_path), discharge)[0]["uuid"]
    table = tmp_path / "outcomes.csv"

    def run(text: str) -> Any:
        table.write_text(text)
        return CliRunner().invoke(cli, ["outcomes", "import", str(table)])

    good = f"card,task,happened\n{uuid},readmission_30d,1\n"
    bad = run(good + "unknown,readmission_30d,0\n" + f"{uuid},sepsis,0\n" + f"{uuid},readmission_30d,perhaps\n")
    assert bad.exit_code == 3
    assert all(f"line {number}" in bad.output for number in (3, 4, 5))
    assert "1 outcomes kept" in run(good).output
    assert "0 outcomes kept, 1 known" in run(good).output
    assert run("card,happened\n").exit_code == 3
