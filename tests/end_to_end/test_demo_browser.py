"""The demo in a real browser: a clinician opens a chart, reads a card, accepts, dismisses, and sees an honest error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.patients import shipped
from cds_service.demo.screenshots import FLAGS, chromium
from cds_service.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    database = tmp_path_factory.mktemp("demo") / "demo.db"
    app = create_demo_app(Settings.from_environment({"RISKCARDS_DATABASE_URL": f"sqlite:///{database}"}), shipped())
    yield app
    app.extensions["riskcards"].store.close()


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/demo/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that fails its test on any console error, script error or blocked resource."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 1440, "height": 960})
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".card")
    page.faults = faults
    yield page
    page.close()


def choose(page: Any, name: str) -> None:
    page.click(f".patient:has-text('{name}')")
    page.wait_for_selector(f".banner:has-text('{name}')")
    page.wait_for_selector("#cards[data-answered='hospital-risk']", state="attached")


def test_a_card_with_literature_appears_when_a_chart_opens(page: Any) -> None:
    choose(page, "Santiago")
    assert page.locator(".card h3").first.inner_text()
    assert page.locator(".card a[href^='https://pubmed.ncbi.nlm.nih.gov/']").count() > 0
    assert page.locator(".patient").count() >= 8
    assert page.faults == []


def test_accepting_and_dismissing_reach_the_store(page: Any, app: Flask) -> None:
    store = app.extensions["riskcards"].store
    choose(page, "Rogers")
    page.click("button[data-service=in-hospital-mortality]")
    page.wait_for_selector("#cards[data-answered='in-hospital-mortality']", state="attached")
    page.click(".suggestions button >> nth=0")
    page.wait_for_selector(".suggestions button:has-text('✓')")
    page.select_option(".override select", index=1)
    page.fill(".override input", "seen on the round")
    page.click(".override button")
    page.wait_for_selector(".card.answered")
    outcomes = [entry["outcome"] for entry in store.feedback()]
    assert "accepted" in outcomes
    assert "overridden" in outcomes
    assert store.feedback()[-1]["overrideReason"]["userComment"] == "seen on the round"
    assert page.faults == []


def test_no_stay_is_said_and_an_error_is_shown(page: Any) -> None:
    choose(page, "Mendoza")
    assert "No card" in page.inner_text("#cards")
    page.click("button[data-service=readmission-30d]")
    page.wait_for_selector(".problem")
    assert "no inpatient stay" in page.inner_text(".problem")


def test_a_narrow_window_keeps_everything_inside(page: Any) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    choose(page, "Rogers")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert page.locator(".card").is_visible()


def test_the_inspector_shows_what_went_over_the_wire(page: Any, tmp_path: Path) -> None:
    choose(page, "Rogers")
    page.click("#inspector summary")
    assert '"hook": "patient-view"' in page.inner_text("#sent")
    assert '"cards"' in page.inner_text("#received")
    page.screenshot(path=str(tmp_path / "inspector.png"))
    assert (tmp_path / "inspector.png").stat().st_size > 10_000
