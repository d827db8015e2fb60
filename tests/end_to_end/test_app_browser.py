"""The app in a real browser at 400 px: from the card into it, down to values and words, what-if, feedback, keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.end_to_end.conftest import tab

pytestmark = pytest.mark.browser


NARROW = {"width": 400, "height": 900}


@pytest.fixture
def page(browser: Any, demo: Flask, ids: dict[str, str], address: str) -> Iterator[Any]:
    page = tab(browser, viewport=NARROW)
    page.goto(f"{address}/demo/app/{ids['Rogers']}/")
    page.wait_for_selector("[data-load=course][data-loaded]")
    page.wait_for_selector("[data-load=drivers][data-loaded]")
    yield page
    page.close()


def test_a_clinician_drills_down_to_values_and_to_the_words_of_a_note(page: Any) -> None:
    page.click(".driver summary >> nth=0")
    assert page.locator(".driver [open] table").first.is_visible()
    assert "Observation/" in page.inner_text(".driver [open] table")
    page.click(".said summary >> nth=0")
    assert page.locator(".said [open] mark").first.is_visible()
    quote = page.inner_text(".said [open] mark >> nth=0")
    page.click(".said [open] a >> nth=0")
    page.wait_for_selector(".note mark")
    assert quote in page.locator(".note mark").all_inner_texts()
    assert page.faults == []


def test_the_course_comes_by_itself_and_has_a_table(page: Any) -> None:
    assert page.locator("svg.line").count() == 2
    page.click("#course summary >> nth=0")
    assert page.locator("#course table").first.is_visible()
    assert page.faults == []


def test_it_prints_on_few_pages_what_is_open(page: Any) -> None:
    """It once opened everything: nineteen pages, the first of them empty but for the name."""
    pages = re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))
    assert 3 <= len(pages) <= 8


def test_what_if_answers_in_place_and_says_what_it_is(page: Any) -> None:
    page.fill("#if-bun", "20")
    page.click(".what-if button")
    page.wait_for_selector("[data-answered='1']")
    assert "association" in page.inner_text(".answers").casefold()
    assert page.locator(".answer").count() == 2
    assert page.input_value("#if-bun") == "20"
    page.fill("#if-bun", "9999")
    page.evaluate("document.querySelector('.what-if').noValidate = true")
    page.click(".what-if button")
    page.wait_for_selector("[role=alert]")
    assert "Blood urea nitrogen: a number from" in page.inner_text("[role=alert]")


def test_feedback_is_thanked_and_kept(page: Any, demo: Flask) -> None:
    page.check("input[value=useful]")
    page.fill("#comment", "clear")
    page.click(".opinion button")
    page.wait_for_selector(".good")
    last = demo.extensions["riskcards"].store.feedback()[-1]
    assert (last["outcome"], last["overrideReason"]["userComment"]) == ("useful", "clear")
    assert page.faults == []


def test_nothing_leaves_a_narrow_window_and_the_keyboard_reaches_everything(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
    page.evaluate("scrollTo(0, 0)")
    reached = set()
    for _ in range(140):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('section,nav,.skip,body').id || 'top'"))
    assert {"now", "drivers", "course", "what-if", "notes", "evidence", "data", "feedback"} <= reached
    unnamed = page.evaluate(
        """[...document.querySelectorAll('a,button,summary,input:not([type=hidden]),select,textarea')].filter((one) =>
            !(one.textContent.trim() || one.getAttribute('aria-label') || (one.labels && one.labels.length))).length"""
    )
    assert unnamed == 0


def test_the_graph_lights_the_way_of_the_node_that_has_the_focus(page: Any) -> None:
    page.focus(".node.article >> nth=0")
    assert page.locator(".edge.lit").count() >= 1
    assert page.locator(".node.lit").count() >= 2
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash").startswith("#pmid-")
    assert page.locator(".readings li:target").count() == 1


def test_it_works_without_script(browser: Any, demo: Flask, ids: dict[str, str], address: str) -> None:
    page = tab(browser, viewport=NARROW, java_script_enabled=False)
    page.goto(f"{address}/demo/app/{ids['Rogers']}/")
    page.click("#course a")
    page.wait_for_selector("svg.line")
    page.click("text=Back to the risk")
    page.fill("#if-bun", "20")
    page.click(".what-if button")
    page.wait_for_selector(".answers")
    page.click("text=Back to the risk")
    page.check("input[value=not-useful]")
    page.click(".opinion button")
    page.wait_for_selector(".good")
    page.close()


def test_a_driver_leads_to_its_paper(page: Any) -> None:
    """From a driver to the paper behind it: one click, on the same page."""
    page.click(".driver:has(.count) summary >> nth=0")
    paper = page.locator(".driver [open] .papers a").first
    assert paper.is_visible()
    assert paper.get_attribute("href").startswith("https://pubmed.ncbi.nlm.nih.gov/")
    assert page.faults == []


def test_the_number_says_why_and_leads_to_the_ground_of_it(page: Any) -> None:
    """From the figure to the values behind its strongest driver: one click, by keyboard too."""
    why = page.locator("[data-task=in_hospital_mortality] .why a")
    assert why.count() == 3
    why.first.focus()
    page.keyboard.press("Enter")
    driver = page.locator(".driver:target")
    driver.locator("details[open] table").first.wait_for()
    assert driver.locator("b").first.inner_text() in why.first.inner_text()
    assert page.faults == []


def test_what_was_opened_stays_open_when_the_literature_comes(
    browser: Any, demo: Flask, ids: dict[str, str], address: str
) -> None:
    page = tab(browser, viewport=NARROW)
    held: list[Any] = []
    page.route("**/drivers", lambda route: held.append(route))
    page.goto(f"{address}/demo/app/{ids['Rogers']}/")
    page.click(".driver summary >> nth=0")
    assert "Searching the literature" in page.inner_text(".driver [open]")
    held[0].continue_()
    page.wait_for_selector("[data-load=drivers][data-loaded]")
    assert "PMID" in page.inner_text(".driver [open]")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.close()


def test_the_card_of_the_demo_launches_the_app_beside_it(
    browser: Any, demo: Flask, ids: dict[str, str], address: str
) -> None:
    """A SMART launch with the demo's own EHR, in the frame: the session's address, the same numbers as on the card."""
    page = tab(browser)
    page.goto(f"{address}/demo/#{ids['Rogers']}")
    page.click(".launch")
    frame = page.frame_locator("#app-frame")
    frame.locator(".figure").first.wait_for()
    frame.locator("[data-load=course][data-loaded]").wait_for()
    assert page.locator(".card").is_visible()
    assert "Rogers" in page.inner_text(".strip")
    launched = next(one.url for one in page.frames if "/app/" in one.url)
    assert launched.startswith(f"{address}/app/"), "a launched session, not the chart opened directly"
    summary = page.inner_text(".card h3")
    figures = frame.locator(".figure b").all_inner_texts()
    assert all(figure in summary for figure in figures), (figures, summary)
    page.click("#app-close")
    assert page.locator("#chart .banner").is_visible()
    assert page.faults == []
    page.close()
