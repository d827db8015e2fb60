"""The app in a real browser at 400 px: from the card into it, down to values and words, what-if, feedback, keyboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.patients import shipped
from cds_service.demo.screenshots import FLAGS, chromium
from cds_service.settings import Settings

pytestmark = pytest.mark.browser
ROGERS = next(p.id for p in shipped().patients.values() if "Rogers" in p.name)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    database = tmp_path_factory.mktemp("app") / "app.db"
    app = create_demo_app(Settings.from_environment({"RISKCARDS_DATABASE_URL": f"sqlite:///{database}"}), shipped())
    yield app
    app.extensions["riskcards"].store.close()


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


def tab(browser: Any, **more: Any) -> Any:
    """A page that keeps every console error, script error and blocked resource in `faults`."""
    page = browser.new_page(**({"viewport": {"width": 400, "height": 900}} | more))
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    return page


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = tab(browser)
    page.goto(f"{address}/demo/app/{ROGERS}/")
    page.wait_for_selector("[data-loaded]")
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


def test_feedback_is_thanked_and_kept(page: Any, app: Flask) -> None:
    page.check("input[value=useful]")
    page.fill("#comment", "clear")
    page.click(".opinion button")
    page.wait_for_selector(".good")
    last = app.extensions["riskcards"].store.feedback()[-1]
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


def test_it_works_without_script(browser: Any, address: str) -> None:
    page = tab(browser, java_script_enabled=False)
    page.goto(f"{address}/demo/app/{ROGERS}/")
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


def test_the_card_of_the_demo_opens_the_app_beside_it(browser: Any, address: str) -> None:
    page = tab(browser, viewport={"width": 1440, "height": 960})
    page.goto(f"{address}/demo/#{ROGERS}")
    page.click(".launch")
    frame = page.frame_locator("#app-frame")
    frame.locator(".figure").first.wait_for()
    assert page.locator(".card").is_visible()
    page.click("#app-close")
    assert page.locator("#chart .banner").is_visible()
    assert page.faults == []
    page.close()
