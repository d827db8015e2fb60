"""`riskcards refresh` as an operator calls it, and all of it over a FHIR server of another hand (sekmet-fhir)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from cds_service import cli
from cds_service.demo.ward.patients import shipped
from risk_model import IN_HOSPITAL_MORTALITY, Pipeline
from tests.cds_service.refresh.conftest import NAME, Refreshed
from tests.cds_service.refresh.test_worker import set_mode
from tests.cds_service.refresh.ward_server import DAY, inpatient, sodium
from tests.patience import SETTINGS
from tests.sekmet import sekmet

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(fresh: Refreshed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(arguments, NAME=value) -> (exit code, standard output, standard error)"""
    own, opened = fresh.handler.settings, fresh.handler.pipeline
    # The same models, opened once for all tests.
    monkeypatch.setattr(Pipeline, "shipped", lambda *_: opened)
    env = SETTINGS | {
        "RISKCARDS_SMART_CLIENTS": own.smart_clients, "RISKCARDS_REFRESH_CLIENTS": NAME,
        "RISKCARDS_DATABASE_URL": own.database_url, "RISKCARDS_SESSION_KEY_FILE": own.session_key_file,
        "RISKCARDS_PUBLIC_URL": own.public_url,
    }  # fmt: skip

    def called(*arguments: str, **more: str) -> tuple[int, str, str]:
        for name, value in (env | {f"RISKCARDS_{name}": value for name, value in more.items()}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["riskcards", "refresh", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return called


def test_one_round_says_what_it_did(fresh: Refreshed, run: Run) -> None:
    now = fresh.handler.clock()
    fresh.ward.now = now
    fresh.ward.put(*inpatient("a", now - DAY), *inpatient("b", now - DAY))
    code, out, error = run("--once")
    assert (code, out) == (0, ""), error
    assert "2 inpatients; 4 changes, 2 queued" in error
    assert "2 estimated, 0 not in hospital, 0 put off, 0 given up, 0 waiting" in error
    fresh.ward.put(sodium("a", 1, now))
    assert "1 estimated" in run("--once")[2]
    fresh.ward.put(sodium("b", 1, now))
    assert "0 estimated" in run("--once", "--no-poll")[2]


def test_a_server_that_is_busy_is_a_clear_line(fresh: Refreshed, run: Run) -> None:
    fresh.ward.faults.append(("GET Encounter", 429, {"Retry-After": "40"}))
    code, _, error = run("--once")
    assert code == 3
    assert "it is busy (429); next attempt in 40 s, nothing is lost" in error


def test_a_registration_that_grants_nothing_is_named_with_its_remedy(fresh: Refreshed, run: Run) -> None:
    fresh.ehr.wrong["token_status"] = 401
    code, _, error = run("--once")
    assert code == 3
    assert "check the registration, its key and its system/ scopes" in error


def test_while_the_mode_is_off_it_says_so(fresh: Refreshed, run: Run) -> None:
    set_mode(fresh, "off")
    fresh.ward.put(*inpatient("a", fresh.handler.clock() - DAY))
    code, _, error = run("--once")
    assert code == 0
    assert "the mode is off: nothing was read" in error
    assert not fresh.ehr.asked


USAGE = {
    "no client": ((), {"REFRESH_CLIENTS": ""}, "RISKCARDS_REFRESH_CLIENTS names no SMART client"),
    "no file": ((), {"SMART_CLIENTS": ""}, "needs RISKCARDS_SMART_CLIENTS"),
    "an unknown one": ((), {"REFRESH_CLIENTS": "nowhere"}, "no client 'nowhere'"),
    "one without a key": ((), {"REFRESH_CLIENTS": "public"}, "backend services need an asymmetric client"),
    "one that is not refreshed": (("--client", "rsa"), {}, "'rsa' is not among RISKCARDS_REFRESH_CLIENTS"),
    "a setting out of range": ((), {"REFRESH_POLL_SECONDS": "1"}, "5 to 86400"),
}


@pytest.mark.parametrize(("arguments", "env", "words"), USAGE.values(), ids=USAGE)
def test_usage_errors_name_the_remedy(run: Run, arguments: tuple[str, ...], env: dict[str, str], words: str) -> None:
    code, _, error = run("--once", *arguments, **env)
    assert code == 2
    assert words in error


def test_a_dry_run_prints_lines_of_json_and_writes_nothing(fresh: Refreshed, run: Run) -> None:
    patient = next(one for one in shipped().patients.values() if one.name.startswith("Johnson"))
    fresh.ward.put(*patient.chart.resources)
    set_mode(fresh, "silent")
    code, out, error = run("--dry-run")
    assert code == 0, error
    assert [json.loads(line)["resource"]["resourceType"] for line in out.splitlines()] == [
        "RiskAssessment",
        "Provenance",
    ]
    assert "the mode is silent: nothing would be written now" in error
    assert not [query for query in fresh.ward.asked if query.startswith("PUT")]


def test_secrets_of_subscriptions_are_long(tmp_path: Path, run: Run, fresh: Refreshed) -> None:
    clients = json.loads(Path(fresh.handler.settings.smart_clients).read_text())
    (tmp_path / "short").write_text("password1\n")
    for client in clients["clients"]:
        client["subscription_secret_file"] = str(tmp_path / "short")
    (tmp_path / "smart.json").write_text(json.dumps(clients))
    code, _, error = run("--once", SMART_CLIENTS=str(tmp_path / "smart.json"))
    assert code == 2
    assert "at least 32 characters" in error


def test_a_server_of_another_hand(fresh: Refreshed, run: Run, tmp_path: Path) -> None:
    """Estimates, a change by a poll, and one resource in the record, by tags: sekmet has no search by identifier."""
    patient = next(one for one in shipped().patients.values() if one.name.startswith("Johnson"))
    now = fresh.handler.clock()
    with sekmet(tmp_path, [patient.chart.resources, inpatient("other", now - timedelta(hours=5))]) as url:
        fresh.ehr.wrong = {"ward_behind": url}
        assert "2 estimated" in run("--once", WRITE_BACK="true")[2]
        assert "0 estimated" in run("--once", WRITE_BACK="true")[2]
        changed = sodium(patient.id, 1, now - timedelta(minutes=1), 128.0)
        requests.put(f"{url}/Observation/{changed['id']}", json=changed, timeout=60).raise_for_status()
        assert "1 estimated" in run("--once", WRITE_BACK="true")[2]
        found = {
            kind: [e["resource"] for e in requests.get(f"{url}/{kind}", timeout=60).json()["entry"]]
            for kind in ("RiskAssessment", "Provenance")
        }
    (risk,) = found["RiskAssessment"]
    (proof,) = found["Provenance"]
    assert risk["meta"]["versionId"] == proof["meta"]["versionId"] == "2"
    assert proof["target"] == [{"reference": f"RiskAssessment/{risk['id']}"}]
    known = fresh.estimates.get_many(NAME, [f"Patient/{patient.id}", "Patient/other"])
    shown = known[f"Patient/{patient.id}"].tasks[IN_HOSPITAL_MORTALITY]
    assert shown.probability == pytest.approx(risk["prediction"][0]["probabilityDecimal"], abs=1e-4)
