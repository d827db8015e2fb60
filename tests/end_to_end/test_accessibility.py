"""axe-core over every page people see: the demo, the app, the reports, what is refused; light at full width and dark at
400 px, every part of a page opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from cds_service.demo.ward.patients import DemoWard
from cds_service.monitoring.document import watch
from cds_service.monitoring.page import monitoring_page
from risk_model import READMISSION_30D, RiskModel
from risk_model.models.estimator import shipped_folder
from risk_model.reports.evaluation_page import evaluation_page
from risk_model.reports.model_cards import model_card
from tests.cds_service.monitoring.test_document import card, look
from tests.end_to_end.conftest import tab

pytestmark = pytest.mark.browser
# Between them every colour of both schemes and both layouts.
LOOKS = (("light", 1280), ("dark", 400))
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
# Every part opened; of a long table forty rows are enough, the others are built alike.
OPEN_ALL = """() => {
  document.querySelectorAll('details').forEach((one) => { one.open = true; });
  document.querySelectorAll('tbody').forEach((one) => { while (one.rows.length > 40) one.rows[40].remove(); });
}"""


def faults_of(page: Any) -> list[str]:
    """What axe finds on the page as it stands, in every look."""
    sync = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    axe, found = sync.Axe(), []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(OPEN_ALL)
        for fault in axe.run(page, options=RULES).response["violations"]:
            places = ", ".join(f"{node['target']} {node.get('failureSummary', '')}" for node in fault["nodes"][:4])
            found.append(f"{scheme} {width}: {fault['id']} ({len(fault['nodes'])}): {places}")
    return found


@pytest.fixture(scope="module")
def violations_of(browser: Any) -> Callable[[Any], list[str]]:
    """violations_of(page) -> what axe finds on the page as it stands, in every look."""
    return faults_of


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = tab(browser)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", ["Rogers", "McDonald", "Mason"])
def test_the_ward_with_a_card(
    page: Any, demo: Flask, ids: dict[str, str], address: str, violations_of: Any, name: str
) -> None:
    page.goto(f"{address}/demo/#{ids[name]}")
    page.wait_for_selector("#cards[data-answered]", state="attached")
    page.wait_for_selector("#times tr", state="attached")
    assert violations_of(page) == []


def test_the_ward_where_the_service_refuses(
    page: Any, demo: Flask, shown: DemoWard, address: str, violations_of: Any
) -> None:
    busy = '{"issue": [{"code": "throttled", "diagnostics": "too busy"}]}'
    page.route("**/cds-services/hospital-risk", lambda route: route.fulfill(status=503, body=busy))
    page.goto(f"{address}/demo/#{next(iter(shown.patients))}")
    page.wait_for_selector(".problem[role=alert] p")
    assert violations_of(page) == []


def test_the_request_trace(page: Any, demo: Flask, ids: dict[str, str], address: str, violations_of: Any) -> None:
    page.goto(f"{address}/demo/#{ids['Rogers']}")
    page.goto(address + str(page.wait_for_selector("a[href^='/demo/trace/']").get_attribute("href")))
    assert violations_of(page) == []


@pytest.mark.parametrize("name", ["Rogers", "McDonald", "Mason", "Mendoza"])
def test_the_app(page: Any, demo: Flask, ids: dict[str, str], address: str, violations_of: Any, name: str) -> None:
    page.goto(f"{address}/demo/app/{ids[name]}/")
    page.wait_for_selector("[data-load=course][data-loaded], #course:not(:has([data-load]))", state="attached")
    page.wait_for_selector("[data-load=drivers][data-loaded], main:not(:has([data-load=drivers]))", state="attached")
    if page.locator("#if-bun").count():
        page.fill("#if-bun", "20")
        page.click(".what-if button")
        page.wait_for_selector("[data-answered='1']")
    assert violations_of(page) == []


def test_the_apps_other_pages(page: Any, demo: Flask, ids: dict[str, str], address: str, violations_of: Any) -> None:
    app = f"{address}/demo/app/{ids['Rogers']}/"
    page.goto(app)
    note = page.locator("a[href^='note/']").first.get_attribute("href")
    for place in (
        f"{app}{note}",
        f"{app}course",
        f"{address}/demo/app/nobody/",
        f"{address}/launch?iss=https://x.example",
    ):
        page.goto(place)
        assert violations_of(page) == [], place


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An evaluation, a model card and a month of monitoring, as the commands write them."""
    from cds_service.store.store import Store

    folder, chance = tmp_path_factory.mktemp("reports"), np.random.default_rng(5)
    model = RiskModel.open(shipped_folder(READMISSION_30D))
    store = Store(f"sqlite:///{folder}/month.db")
    for number in range(240):
        probability = float(chance.uniform(0.05, 0.4))
        shown = card(store, model, number, probability, indicator="warning" if number % 3 else "info")
        store.add_outcomes([(shown, model.task, bool(chance.random() < 2 * probability))])
    card(store, model, 1000, None)
    probability = chance.beta(1, 6, 900)
    outcome = (chance.random(900) < probability).astype(float)
    measure = {"value": 0.8, "interval": [0.75, 0.85]}
    metrics = {
        "auroc": measure,
        "auprc": measure,
        "calibration_slope": measure,
        "brier": measure,
        "prevalence": measure,
    }
    rivals = {"NEWS2": chance.random(900)}
    pages = {
        "evaluation": evaluation_page("An evaluation", "900 rows", metrics, outcome, probability, rivals=rivals),
        "card": model_card(shipped_folder(READMISSION_30D)).to_html(),
        "monitoring": monitoring_page(look(store, model)),
        "quiet": monitoring_page(watch(store, {}, days=1, now=datetime(2020, 1, 1, tzinfo=UTC))),
    }
    store.close()
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.mark.parametrize("name", ["evaluation", "card", "monitoring", "quiet"])
def test_the_reports(page: Any, reports: dict[str, Path], violations_of: Any, name: str) -> None:
    page.goto(reports[name].as_uri())
    assert violations_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "at 400 px"
