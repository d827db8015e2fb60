"""Monitoring against a simulated month of cards: burden, feedback, abstentions, drift, calibration, page, gauges."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cds_service.application.factory import create_app
from cds_service.cli import cli
from cds_service.monitoring.document import watch
from cds_service.monitoring.gauges import Gauges
from cds_service.monitoring.page import monitoring_page
from cds_service.store.store import CardRecord, Store
from risk_model import READMISSION_30D, Pipeline, RiskModel
from risk_model.models.estimator import shipped_folder
from tests.patience import PATIENT, patient_settings, until

SERVICE = "readmission-30d"


@pytest.fixture(scope="module")
def model() -> RiskModel:
    return RiskModel.open(shipped_folder(READMISSION_30D))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/m.db")
    yield opened
    opened.close()


def card(store: Store, model: RiskModel, number: int, probability: float | None, **more: Any) -> str:
    """One card of one patient; `inputs` all known unless given."""
    estimate = {
        "task": model.task,
        "probability": probability,
        "abstention": None if probability is not None else more.pop("abstention", "too-young"),
        "model_id": model.manifest["model_id"],
        "model_version": model.manifest["version"],
        "model_sha256": model.fingerprint,
        "inputs": more.pop("inputs", [1.0] * len(model.names)),
        "drivers": {},
    }
    given = {"indicator": "info", "shown": "shown", "patient": f"p{number}"} | more
    uuid = f"card-{number}-{given['shown']}"
    store.record_card(
        CardRecord(uuid, SERVICE, "h", encounter=None, user="Practitioner/1", estimates=[estimate], **given)
    )
    return uuid


def look(store: Store, model: RiskModel, days: int = 30) -> dict[str, Any]:
    return watch(store, {model.task: model}, days=days, now=datetime.now(UTC) + timedelta(minutes=1))


def as_in_training(model: RiskModel, rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).choice([b["probability"] for b in model.manifest["reliability"]], rows)


def test_burden_feedback_and_abstentions_are_counted(store: Store, model: RiskModel) -> None:
    shown = [card(store, model, n, 0.2, indicator="warning" if n < 3 else "info") for n in range(6)]
    for n, fate in enumerate(("silent", "suppressed", "below-threshold")):
        card(store, model, 10 + n, 0.1, shown=fate)
    card(store, model, 20, None, abstention="too-young")

    def say(uuid: str, outcome: str, reason: Any = None) -> None:
        more = {} if reason is None else {"overrideReason": {"reason": {"code": reason}}}
        store.add_feedback([{"card": uuid, "outcome": outcome, "at": outcome, **more}])

    say(shown[0], "accepted")
    say(shown[0], "overridden")
    say(shown[1], "overridden", "patient-refuses")
    say(shown[2], "overridden", "Walter Example, born 1948")
    say(shown[3], "overridden")
    found = look(store, model)
    assert found["burden"][SERVICE] == {
        "made": 10,
        "shown": 7,
        "warnings": 3,
        "shown_per_100": 70.0,
        "warnings_per_100": 30.0,
        "not_shown": {"silent": 1, "suppressed": 1, "below-threshold": 1},
    }
    assert found["feedback"][SERVICE]["accepted"] == 1
    assert found["feedback"][SERVICE]["overridden"] == 3
    assert found["feedback"][SERVICE]["overridden_per_100_answered"] == 75.0
    assert found["feedback"][SERVICE]["reasons"] == {"patient-refuses": 1, "other": 1, "none given": 1}
    assert found["abstentions"][READMISSION_30D]["codes"] == {"too-young": 1}
    assert sum(day["shown"] for day in found["by_day"]) == 7
    assert "Walter" not in json.dumps(found)


def test_what_is_older_is_left_out(store: Store, model: RiskModel) -> None:
    card(store, model, 1, 0.2)
    found = watch(store, {model.task: model}, days=1, now=datetime.now(UTC) + timedelta(days=2))
    assert found["burden"] == {}


def test_few_patients_are_not_evaluated_and_a_chart_counts_once(store: Store, model: RiskModel) -> None:
    for n in range(120):
        uuid = card(store, model, n, 0.2, patient="always the same")
        store.add_outcomes([(uuid, model.task, n % 2 == 0)])
    found = look(store, model)
    assert found["drift"][model.task]["probabilities"]["rows"] == 1
    assert "psi" not in found["drift"][model.task]["probabilities"]
    assert "fewer than 100" in found["calibration"][model.task]["reason"]
    assert found["drift"][model.task]["missingness"] == []


def test_estimates_as_in_training_are_steady_and_true_ones_are_calibrated(store: Store, model: RiskModel) -> None:
    happens = np.random.default_rng(5).random(400)
    for n, p in enumerate(as_in_training(model, 400)):
        uuid = card(store, model, n, float(p))
        store.add_outcomes([(uuid, model.task, bool(happens[n] < p))])
    found = look(store, model)
    assert found["drift"][model.task]["probabilities"]["verdict"] == "steady"
    assert found["drift"][model.task]["probabilities"]["reference"] == "training"
    ratio = found["calibration"][model.task]["observed_expected"]
    assert ratio["interval"][0] < 1 < ratio["interval"][1]
    assert {"calibration_slope", "auroc"} <= found["calibration"][model.task].keys()


def test_shift_gaps_and_miscalibration_raise_alarms_and_change_nothing(store: Store, model: RiskModel) -> None:
    fingerprint = model.fingerprint
    unknown: list[float | None] = [None, *[1.0] * (len(model.names) - 1)]
    for n, p in enumerate(as_in_training(model, 250)):
        uuid = card(store, model, n, float(min(0.95, 3 * p)), inputs=unknown)
        store.add_outcomes([(uuid, model.task, n % 20 == 0)])
    found = look(store, model)
    said = " ".join(found["alarms"])
    assert "distributed otherwise than in training" in said
    assert "known more or less often" in said
    assert "too high" in said
    assert found["drift"][model.task]["missingness"][0]["moved"] is True
    assert model.fingerprint == fingerprint
    assert [entry.kind for entry in store.audit_entries() if entry.kind not in {"card", "outcomes"}] == []


def test_an_input_without_a_training_distribution_is_compared_with_the_first_cards(
    store: Store, model: RiskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.monitoring.model_fit.FIRST_CARDS", 120)
    place = model.names.index("sex.female")
    for n in range(240):
        inputs = [1.0] * len(model.names)
        inputs[place] = float(n % 2 if n < 120 else 1)
        card(store, model, n, 0.2, inputs=inputs)
    worst = look(store, model)["drift"][model.task]["inputs"][0]
    assert worst["name"] == "sex.female"
    assert worst["verdict"] == "shifted"
    assert worst["reference"].startswith("the first")


def test_monitor_prints_a_summary_json_and_a_page(
    store: Store, model: RiskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path}/m.db")
    store.services.mark("a service", {})
    assert "no cards in the last 30 days" in CliRunner().invoke(cli, ["monitor"]).output
    for n, p in enumerate(as_in_training(model, 130)):
        uuid = card(store, model, n, float(p), indicator="warning" if n % 3 == 0 else "info")
        store.add_outcomes([(uuid, model.task, n % 7 == 0)])
    page = tmp_path / "m.html"
    run = CliRunner().invoke(cli, ["monitor", "--days", "7", "--html", str(page)])
    assert run.exit_code == 0, run.output
    assert "130 cards, 100 of 100 shown" in run.output
    assert "observed : expected" in run.output
    text = page.read_text("utf-8")
    assert text.count("<svg") >= 1
    for foreign in ("<script", "http://cdn", "https://", "src="):
        assert foreign not in text.replace("http://www.w3.org", "")
    document = json.loads(CliRunner().invoke(cli, ["monitor", "--json"]).output)
    assert document["burden"][SERVICE]["made"] == 130
    assert CliRunner().invoke(cli, ["monitor", "--days", "0"]).exit_code == 2


def test_subgroups_have_intervals_and_small_ones_are_not_evaluated(store: Store, model: RiskModel) -> None:
    """Estimates that are true for men and far too low for women: no figure over all shows that."""
    chance = np.random.default_rng(3)
    age, female = model.names.index("age.last"), model.names.index("sex.female")
    for n in range(420):
        inputs = [1.0] * len(model.names)
        woman, probability = n % 2 == 1, float(chance.uniform(0.1, 0.3))
        inputs[age], inputs[female] = (50.0 if n % 5 else 90.0), float(woman)
        uuid = card(store, model, n, probability, inputs=inputs, indicator="warning" if woman else "info")
        store.add_outcomes([(uuid, model.task, bool(chance.random() < probability * (2.5 if woman else 1)))])
    groups = look(store, model)["subgroups"][model.task]
    assert groups["women"]["patients"] == groups["men"]["patients"] == 210
    assert groups["women"]["warned"] == {"value": 1.0, "interval": pytest.approx([0.98, 1.0], abs=0.02)}
    assert groups["men"]["warned"]["value"] == 0
    assert groups["women"]["observed_expected"]["interval"][0] > 1
    low, high = groups["men"]["observed_expected"]["interval"]
    assert low < 1 < high
    assert groups["age 80 and over"] == {"patients": 84, "reason": "fewer than 100 patients: not judged"}
    assert set(groups["men 80 and over"]) == {"patients", "reason"}
    assert any("women" in alarm and "too low" in alarm for alarm in look(store, model)["alarms"])
    page = monitoring_page(look(store, model))
    assert ": subgroups" in page
    assert "not judged" in page


def test_a_patient_is_in_each_group_once(store: Store, model: RiskModel) -> None:
    for n in range(130):
        card(store, model, n, 0.2, patient="always the same")
    groups = look(store, model)["subgroups"][model.task]
    assert {item["patients"] for item in groups.values()} == {1}
    assert all("warned" not in item for item in groups.values())


def test_a_page_of_nothing_says_so(store: Store, model: RiskModel) -> None:
    assert "No cards in this period." in monitoring_page(look(store, model))


def test_gauges_are_counted_once_a_minute(store: Store, model: RiskModel) -> None:
    now = [0.0]
    gauges = Gauges(store, {model.task: model}, lambda: now[0])
    assert gauges.figures() == {}
    card(store, model, 1, 0.2, indicator="warning")
    now[0] = 59.0
    assert gauges.figures() == {}
    now[0] = 60.0
    assert gauges.figures()[SERVICE, "warnings_per_100"] == 100.0


def test_gauges_report_calibration_once_outcomes_arrive(store: Store, model: RiskModel) -> None:
    """As `riskcards monitor` does, without its intervals; estimates that are twice what happens are seen to be."""
    cards = [card(store, model, n, 0.4) for n in range(200)]
    gauges = Gauges(store, {model.task: model})
    before = [name for _, name in gauges.figures()]
    assert before
    assert not [name for name in before if name.startswith("calibration")]
    store.add_outcomes([(uuid, model.task, n % 5 == 0) for n, uuid in enumerate(cards)])
    figures = Gauges(store, {model.task: model}).figures()
    assert figures[model.task, "calibration_observed_expected"] == pytest.approx(0.5)
    assert figures[model.task, "calibration_brier"] == pytest.approx(0.2 * 0.36 + 0.8 * 0.16)
    reported = look(store, model)["calibration"][model.task]
    assert reported["observed_expected"]["value"] == pytest.approx(figures[model.task, "calibration_observed_expected"])


def test_metrics_show_the_gauges_and_go_on_without_the_store(tmp_path: Path, model: RiskModel) -> None:
    settings = patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/g.db"})
    app = create_app(settings, Pipeline.shipped())
    parts = app.extensions["riskcards"]
    card(parts.store, model, 1, 0.2)
    text = app.test_client().get("/metrics").get_data(as_text=True)
    assert f'riskcards_monitor{{figure="shown_per_100",of="{SERVICE}"}} 100.0' in text
    parts.store.close()
    for file in tmp_path.glob("g.db*"):
        file.unlink()
    (tmp_path / "g.db").mkdir()
    parts.gauges._read = float("-inf")
    assert "riskcards_answers" in app.test_client().get("/metrics").get_data(as_text=True)


def test_scrapes_wait_for_no_count_and_the_first_ones_at_once_all_succeed(tmp_path: Path, model: RiskModel) -> None:
    """Forty anonymous scrapes of a large store took every thread that stores cards; the first ones together failed."""
    settings = patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/g.db"})
    app = create_app(settings, Pipeline.shipped())
    parts = app.extensions["riskcards"]
    counts, going = [], threading.Event()
    counted = parts.gauges._counted

    def slow() -> Any:
        counts.append(1)
        assert going.wait(PATIENT)
        return counted()

    parts.gauges._counted = slow
    card(parts.store, model, 1, 0.2)
    parts.gauges._figures = {("riskcards", "known"): 1.0}  # what an earlier count found
    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(lambda _: app.test_client().get("/metrics").status_code, range(40)))
    assert codes == [200] * 40
    assert parts.in_time(parts.store.modes) == {}, "the threads of the store are free"
    assert len(counts) == 1
    going.set()
    assert until(lambda: (SERVICE, "shown_per_100") in parts.gauges.latest())
