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
from cds_service.config.sources import SettingsError
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
    monkeypatch.setattr(app.extensions["riskcards"].handler.modes, "_clock", lambda: now[0])
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


def test_from_silent_to_live_by_the_deployment_guide(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent shows nothing and keeps every estimate; pilot shows pilot users; live all; off nobody, at once."""
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/quiet.db")
    user, other = discharge["context"]["userId"], "Practitioner/another"
    app = make(pipeline, tmp_path, RISKCARDS_MODE="silent", RISKCARDS_PILOT_USERS=user)
    now = [0.0]
    monkeypatch.setattr(app.extensions["riskcards"].handler.modes, "_clock", lambda: now[0])

    def seen_by(name: str) -> int:
        return len(cards(app, discharge | {"context": discharge["context"] | {"userId": name}}))

    assert (seen_by(user), seen_by(other), kept(app)) == (0, 0, 2)
    for number, (mode, expected) in enumerate((("pilot", (1, 0)), ("live", (1, 1)), ("off", (0, 0))), start=1):
        result = CliRunner().invoke(cli, ["mode", mode])
        assert result.exit_code == 0, result.output
        now[0] = 5.0 * number
        assert (seen_by(user), seen_by(other)) == expected, mode
    assert kept(app) == 6


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


BOTH = ("in_hospital_mortality", "readmission_30d")
# name, default, what is set, (service, tenant) asked for, its mode, its active tasks
MODES_SET = [
    ("a tenant's kill switch beats a live service", "live", {("hospital-risk", "*"): "live", ("*", "north"): "off"},
     ("hospital-risk", "north"), "off", BOTH),
    ("and leaves other tenants alone", "live", {("hospital-risk", "*"): "live", ("*", "north"): "off"},
     ("hospital-risk", "south"), "live", BOTH),
    ("one service live where the default is off", "off", {("hospital-risk", "*"): "live"},
     ("hospital-risk", None), "live", BOTH),
    ("the others stay off", "off", {("hospital-risk", "*"): "live"}, ("readmission-30d", None), "off", BOTH),
    ("a live task does not make a service live", "off", {("task:readmission_30d", "*"): "live"},
     ("hospital-risk", None), "off", BOTH),
    ("a task off, live at one tenant", "live",
     {("task:readmission_30d", "*"): "off", ("task:readmission_30d", "north"): "live"},
     ("hospital-risk", "north"), "live", BOTH),
    ("and off at another", "live", {("task:readmission_30d", "*"): "off", ("task:readmission_30d", "north"): "live"},
     ("hospital-risk", "south"), "live", BOTH[:1]),
    ("silent for all is no task off", "live", {("*", "*"): "silent"}, ("hospital-risk", None), "silent", BOTH),
    ("both task services off", "live", {("readmission-30d", "*"): "off", ("in-hospital-mortality", "*"): "off"},
     ("hospital-risk", None), "live", ()),
]  # fmt: skip


@pytest.mark.parametrize("row", MODES_SET, ids=[row[0] for row in MODES_SET])
def test_what_is_off_and_what_is_not(tmp_path: Path, row: tuple[Any, ...]) -> None:
    """`off` for a tenant left a service on that had been set live by name; a service set live stayed empty where the
    default is off, as its tasks had no mode of their own.
    """
    _, default, modes, (service, tenant), mode, active = row
    store = Store(f"sqlite:///{tmp_path}/modes.db")
    for place, given in modes.items():
        store.set_mode(*place, given, "")
    board = ModeBoard(store, Mode(default))
    assert (board.of(service, tenant), board.active(BOTH, tenant)) == (mode, active)
    store.close()


ALL_OFF = [
    ("live", {}, False),
    ("off", {}, True),
    ("off", {("hospital-risk", "*"): "silent"}, False),
    ("live", {("*", "*"): "off", ("hospital-risk", "*"): "live"}, True),
    ("off", {("*", "*"): "live"}, False),
    ("live", {("*", "north"): "off"}, False),
]


@pytest.mark.parametrize(("default", "modes", "off"), ALL_OFF)
def test_whether_everything_is_off(
    tmp_path: Path, default: str, modes: dict[tuple[str, str], str], *, off: bool
) -> None:
    store = Store(f"sqlite:///{tmp_path}/modes.db")
    for place, given in modes.items():
        store.set_mode(*place, given, "")
    assert ModeBoard(store, Mode(default)).all_off is off
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
    assert "0 known already, 1 corrected" in run(good.replace(",1\n", ",0\n")).output


def test_outcomes_are_imported_by_hook_or_stay_and_only_for_what_a_card_estimated(
    pipeline: Pipeline, tmp_path: Path, discharge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/quiet.db")
    app = make(pipeline, tmp_path)
    first, second = (cards(app, discharge)[0]["uuid"] for _ in range(2))
    hook, stay = discharge["hookInstance"], discharge["context"]["encounterId"]
    table = tmp_path / "outcomes.csv"

    def run(text: str) -> Any:
        table.write_text(text)
        return CliRunner().invoke(cli, ["outcomes", "import", str(table)])

    refused = [
        ("card,task,happened", f"{first},in_hospital_mortality,1", "has no estimate of in_hospital_mortality"),
        ("stay,task,happened", f"{stay},in_hospital_mortality,1", "has no estimate of in_hospital_mortality"),
        ("hookInstance,task,happened", f"{first},readmission_30d,1", "unknown hook_instance"),
        ("stay,task,happened", "nowhere,readmission_30d,1", "unknown stay"),
        ("card,stay,task,happened", f"{first},{stay},readmission_30d,1", "exactly one of"),
        ("card,stay,task,happened", ",,readmission_30d,1", "exactly one of"),
        ("card,task,happened", f"{first},readmission_30d,1,1", "more cells"),
        ("card,task,happened", f"{first},readmission_30d,1\n{first.upper()},readmission_30d,0", "contradicts line 2"),
        ("stay,card,task,happened", f"{stay},,readmission_30d,1\n,{first},readmission_30d,0", "contradicts line 2"),
        ("card,task,happened,Happened", f"{first},readmission_30d,1,0", "happened stands twice"),
        ("card,task,task,happened", f"{first},readmission_30d,x,1", "task stands twice"),
        ("hookInstance,card,task,happened", f"{hook},{first},readmission_30d,1", "exactly one of"),
        ("note,card,task,happened", f'"a\nb",{first},readmission_30d,1\n,{first},readmission_30d,0', "line 4: contra"),
    ]
    for head, row, fault in refused:
        answer = run(f"{head}\n{row}\n")
        assert answer.exit_code == 3, row
        assert fault in answer.output
    assert "2 outcomes kept" in run(f"hookInstance,task,happened\n{hook},readmission_30d,1\n").output
    for form in (hook.upper(), f"urn:uuid:{hook}", f"{{{hook}}}", hook.replace("-", "")):
        again = run(f"hook_instance,task,happened,\n{form},readmission_30d,1,\n")
        assert "0 outcomes kept, 2 known already, 0 corrected" in again.output, form
    for form in (f"Encounter/{stay}/_history/2", f"https://ehr.example/fhir/Encounter/{stay}"):
        assert "2 known already" in run(f"stay,task,happened\n{form},readmission_30d,1\n").output, form
    by_stay = run(f"Stay,Task,Happened\nEncounter/{stay},readmission_30d,0\n")
    assert "0 outcomes kept, 0 known already, 2 corrected" in by_stay.output
    assert second in str(app.extensions["riskcards"].store.audit_entries("outcomes")[-1].body)


VIEW = "/cds-services/hospital-risk"


@pytest.mark.parametrize(
    "off",
    [
        [("task:readmission_30d", "*")], [("readmission-30d", "*")], [("task:readmission_30d", "north")],
        [("readmission-30d", "north"), ("in-hospital-mortality", "south")],
    ],
)  # fmt: skip
def test_a_task_that_is_off_is_in_no_card(pipeline: Pipeline, tmp_path: Path, off: list[tuple[str, str]]) -> None:
    """With both task services off, hospital-risk still showed both estimates."""
    app = make(pipeline, tmp_path)
    cds = app.extensions["riskcards"]
    for service, tenant in off:
        cds.store.set_mode(service, tenant, "off", "")
    board = cds.handler.modes
    assert board.active(("in_hospital_mortality", "readmission_30d"), "north") == ("in_hospital_mortality",)
    elsewhere = board.active(("readmission_30d",), "west")
    assert elsewhere == (() if off[0][1] == "*" else ("readmission_30d",))


def test_the_kill_switch_works_for_each_task(pipeline: Pipeline, tmp_path: Path) -> None:
    app, view = make(pipeline, tmp_path), whole_request("diabetic-heart-failure-view")
    cds = app.extensions["riskcards"]

    def tasks() -> list[str]:
        cds.handler.modes.override("*", "*", None)  # read again now
        answer = app.test_client().post(VIEW, json=view)
        assert answer.status_code == 200
        if not answer.get_json()["cards"]:
            return []
        return [each["task"] for each in cds.store.audit_entries("card")[-1].body["estimates"]]

    both = ["in_hospital_mortality", "readmission_30d"]
    assert tasks() == both
    cds.store.set_mode("readmission-30d", "*", "silent", "")
    assert tasks() == both, "silent: the cards of that service alone"
    cds.store.set_mode("readmission-30d", "*", "off", "")
    assert tasks() == both[:1], "and the cached assessment is not used"
    cds.store.set_mode("in-hospital-mortality", "*", "off", "")
    assert tasks() == []
    cds.store.set_mode("readmission-30d", "*", "live", "")
    assert tasks() == both[1:]


@pytest.mark.parametrize("encounter", ["no-such", "conditions"])
def test_an_encounter_that_is_not_there_is_an_error_in_every_hook(
    pipeline: Pipeline, tmp_path: Path, encounter: str
) -> None:
    app, view = make(pipeline, tmp_path), whole_request("diabetic-heart-failure-view")
    view["context"]["encounterId"] = encounter
    answer = app.test_client().post(VIEW, json=view)
    assert answer.status_code == 412
    assert "encounterId" in answer.get_data(as_text=True)


# name, changes of the context's Encounter, whether its id is in the context, status, words
UNUSABLE = [
    ("no subject", {"subject": None}, True, 412, "subject-unprovable"),
    ("only a display", {"subject": {"display": "Walter"}}, True, 412, "subject-unprovable"),
    ("no status", {"status": None}, True, 412, "no-status"),
    ("a status that is none", {"status": ["finished"]}, True, 412, "status-not-understood"),
    ("no subject, no id asked", {"subject": None}, False, 412, "subject-unprovable"),
    ("cancelled", {"status": "cancelled"}, True, 200, "[]"),
    ("planned", {"status": "planned"}, True, 200, "[]"),
    ("entered in error", {"status": "entered-in-error"}, True, 200, "[]"),
    ("entered in error, no id asked", {"status": "entered-in-error"}, False, 200, "[]"),
    ("no period", {"period": None}, True, 200, "no estimate"),
]  # fmt: skip


@pytest.mark.parametrize("row", UNUSABLE, ids=[row[0] for row in UNUSABLE])
def test_an_encounter_that_cannot_be_used_is_no_empty_list(
    pipeline: Pipeline, tmp_path: Path, row: tuple[Any, ...]
) -> None:
    """A chart whose only Encounter proved no subject was answered `[]`, as if there were no risk."""
    _, changed, asked, status, words = row
    app, view = make(pipeline, tmp_path), whole_request("diabetic-heart-failure-view")
    stay = view["context"]["encounterId"]
    kept = [each["resource"] for each in view["prefetch"]["encounters"]["entry"] if each["resource"]["id"] == stay]
    for encounter in kept:
        encounter |= changed
        for name in [name for name, value in changed.items() if value is None]:
            del encounter[name]
    view["prefetch"]["encounters"]["entry"] = [{"resource": each} for each in kept]
    view["prefetch"]["encounters"]["total"] = len(kept)
    if not asked:
        del view["context"]["encounterId"]
    answer = app.test_client().post(VIEW, json=view)
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert words in answer.get_data(as_text=True)


def test_a_chart_opened_on_a_clinic_visit_has_no_card_and_is_no_error(pipeline: Pipeline, tmp_path: Path) -> None:
    app, view = make(pipeline, tmp_path), whole_request("diabetic-heart-failure-view")
    encounters = view["prefetch"]["encounters"]["entry"]
    visit = {
        "resourceType": "Encounter", "id": "visit", "status": "finished",
        "subject": encounters[0]["resource"]["subject"],
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-01T09:00:00Z"},
    }  # fmt: skip
    encounters.append({"resource": visit, "search": {"mode": "match"}})
    view["context"]["encounterId"] = "visit"
    answer = app.test_client().post(VIEW, json=view)
    assert (answer.status_code, answer.get_json()) == (200, {"cards": []})
