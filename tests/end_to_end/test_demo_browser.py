"""The demo in a real browser: a clinician opens a chart, reads a card, accepts, dismisses, and sees an honest error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.end_to_end.conftest import tab

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: Any, demo: Flask, address: str) -> Iterator[Any]:
    page = tab(browser)
    page.goto(f"{address}/demo/")
    page.wait_for_selector(".card")
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


def test_accepting_and_dismissing_reach_the_store(page: Any, demo: Flask) -> None:
    store = demo.extensions["riskcards"].store
    choose(page, "Rogers")
    page.click("button[data-service=in-hospital-mortality]")
    page.wait_for_selector("#cards[data-answered='in-hospital-mortality']", state="attached")
    page.click(".suggestions button >> nth=0")
    page.wait_for_selector(".suggestions button:has-text('✓')")
    page.select_option(".override select", index=1)
    page.fill(".override input", "seen on the round")
    with page.expect_response("**/feedback"):
        page.click(".override .dismiss")
        assert page.locator(".card").is_hidden(), "a dismissed card closes"
    outcomes = [entry["outcome"] for entry in store.feedback()]
    assert "accepted" in outcomes
    assert "overridden" in outcomes
    assert store.feedback()[-1]["overrideReason"]["userComment"] == "seen on the round"
    assert page.faults == []


def test_a_dismissal_can_be_undone_before_it_is_sent(page: Any, demo: Flask) -> None:
    store = demo.extensions["riskcards"].store
    choose(page, "Rogers")
    before = len(store.feedback())
    page.click(".dismiss")
    assert page.locator(".card").is_hidden()
    page.click(".undo")
    assert page.locator(".card").is_visible()
    choose(page, "Santiago")
    page.click(".dismiss")
    choose(page, "Rogers")
    page.wait_for_selector(".dismissed", state="detached")
    page.wait_for_timeout(300)
    assert len(store.feedback()) == before + 1, "the undone one is not sent; the other at once when the chart is left"


def test_an_outpatient_has_no_card_and_no_button_that_cannot_work(page: Any) -> None:
    choose(page, "Mendoza")
    assert "No card" in page.inner_text("#cards")
    assert page.locator("button[data-service=readmission-30d]").is_hidden()
    assert page.locator("button[data-service=in-hospital-mortality]").is_hidden()
    choose(page, "Rogers")
    assert page.locator("button[data-service=readmission-30d]").is_visible()


def test_an_error_says_what_happened_and_what_to_try(page: Any) -> None:
    busy = '{"issue": [{"code": "throttled", "diagnostics": "too busy"}]}'
    page.route("**/cds-services/hospital-risk", lambda route: route.fulfill(status=503, body=busy))
    page.click(".patient:has-text('Santiago')")
    page.wait_for_selector(".problem")
    assert "No card: too busy." in page.inner_text(".problem")
    assert "wait a few seconds" in page.inner_text(".problem")


def test_without_javascript_the_page_says_what_to_do(browser: Any, demo: Flask, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    assert page.goto(f"{address}/").url == f"{address}/demo/", "the address alone leads to the demo"
    assert "needs JavaScript" in page.inner_text("noscript")
    context.close()


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
    page.wait_for_selector("#times tr")
    assert {"fhir_mapping", "risk_model", "knowledge_index", "cds_service"} <= set(
        page.locator("#times td:first-child").all_inner_texts()
    )
    page.screenshot(path=str(tmp_path / "inspector.png"))
    assert (tmp_path / "inspector.png").stat().st_size > 10_000


def test_a_card_links_to_its_request_trace(page: Any, address: str) -> None:
    """Through all four packages, with the same numbers as on the card, and gone once it is no longer kept."""
    choose(page, "Rogers")
    summary = page.inner_text(".card h3")
    with page.expect_popup() as opened:
        page.click(".card >> text=Request trace")
    trace = opened.value
    trace.wait_for_selector("#out")
    assert summary in trace.inner_text("#out")
    assert all(figure in summary for figure in trace.locator(".figure b").all_inner_texts())
    assert trace.locator(".steps rect").count() == trace.locator("section:first-of-type tbody tr").count() >= 8
    assert trace.locator("#found .readings a").count() > 0
    assert "vitals" in trace.inner_text("#in")
    trace.click("#mapped summary >> nth=0")
    assert "sodium.last" in trace.inner_text("#mapped")
    trace.close()
    answer = page.request.get(f"{address}/demo/trace/00000000-0000-0000-0000-000000000000")
    assert answer.status == 404
    assert page.faults == []


def test_the_ward_list_shows_each_patients_risk_and_sorts_by_it(page: Any) -> None:
    page.wait_for_selector(".risks[data-ask]", state="detached")
    rogers = page.inner_text(".patient:has-text('Rogers') .risks")
    summary = page.inner_text(".card h3")
    assert all(figure in summary for figure in re.findall(r"\d+ %", rogers))
    without = page.inner_text(".patient:has-text('McDonald') .risks")
    assert re.search(r"NEWS2 \d", without), "without an estimate the score stands there"
    assert "%" not in without, "an abstention is no number"
    for task in ("in_hospital_mortality", "readmission_30d"):
        page.select_option("#sort", task)
        shown = page.locator(".patient").evaluate_all(
            f"rows => rows.map(row => Number(row.querySelector('[data-task={task}]')?.dataset.place ?? -2))"
        )
        assert shown == sorted(shown, reverse=True)
        assert max(shown) > 1
    page.select_option("#sort", "")
    assert "Rogers" in page.inner_text(".patient >> nth=0")


@pytest.mark.parametrize("width", [1440, 400])
def test_the_timeline_is_read_by_keyboard_and_leads_to_a_note(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    choose(page, "Rogers")
    shown = page.locator(f".timeline.{'wide' if width > 900 else 'narrow'}")
    assert shown.is_visible()
    assert page.locator(".timeline:visible").count() == 1
    lane = shown.locator("g[tabindex]").first
    lane.focus()
    assert re.match(r"Heart rate: \d+ values, .* reference range 60 to 100", lane.get_attribute("aria-label"))
    size = shown.locator("text").first.evaluate("node => node.getBoundingClientRect().height")
    assert size >= 9, "letters stay letters on a narrow page"
    note = shown.locator("a[href^='#note-']").first
    note.focus()
    page.keyboard.press("Enter")
    opened = page.locator("details[id^=note-][open] pre")
    assert opened.is_visible()
    assert page.faults == []
