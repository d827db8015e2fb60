"""A launch inside a real EHR's frame, in Chromium: https, two sites, and third-party cookies blocked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import Browser
from tests.cds_service.smart.sites import framed, two_sites
from tests.chromium import patient_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def context(app: Flask, realms: dict[str, Realm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with two_sites(app, realms, tmp_path_factory.mktemp("tls")) as opened:
        yield opened


def test_a_launch_lives_in_the_frame_of_another_site(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    """The whole launch and the requests after it: the cookies of both steps come back to us inside the frame."""
    page, frame = framed(context, "for-walter")
    frame.locator("[data-load=course][data-loaded]").wait_for()
    assert frame.locator("#now .risk").count() == 2
    kept = [cookie for cookie in context.cookies() if cookie["name"].startswith("riskcards-")]
    assert kept
    assert all((cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "None") for cookie in kept)
    alone = patient_page(context)
    answer = alone.goto(next(f.url for f in page.frames if "/app/" in f.url))
    assert answer.status == 401, "outside the EHR's frame the cookie is not sent"
    alone.close()
    page.close()


def test_two_patients_in_two_frames_never_mix(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    walter, ines = framed(context, "for-walter"), framed(context, "for-ines")
    reported = [frame.locator(".banner p").first.inner_text() for _, frame in (walter, ines)]
    assert reported[0] != reported[1]
    for (page, frame), before in ((walter, reported[0]), (ines, reported[1])):
        frame.locator(".banner").evaluate("() => location.reload()")
        frame.locator("#now").wait_for()
        assert frame.locator(".banner p").first.inner_text() == before
        page.close()


def test_the_ehrs_colours_are_taken_over_and_nothing_else(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    ehr.wrong = {
        "token": {"smart_style_url": f"{ehr.issuer}/style.json"},
        "style": {
            "color_background": "#edeae3",
            "color_text": "#303030",
            "color_highlight": "#69b5ce",
            "dim_font_size": "13px",
            "color_error": "red} body{display:none",
        },
    }
    page, frame = framed(context, "for-walter")
    body = frame.locator("body")
    assert body.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(237, 234, 227)"
    assert body.evaluate("node => getComputedStyle(node).fontSize") == "13px"
    accent = body.evaluate("node => getComputedStyle(node).getPropertyValue('--accent')")
    assert accent.strip() != "#69b5ce", "too pale to be read on that background"
    assert body.is_visible()
    page.close()


def test_the_chart_is_read_once_for_a_page_and_what_it_loads(browser: Browser, ehr: Realm) -> None:
    home = browser.launch(ehr).headers["Location"]
    before = len(ehr.asked)
    browser.get(home)
    once = len(ehr.asked) - before
    assert once > 5
    browser.get(f"{home}course")
    assert len(ehr.asked) - before == once


def test_the_configuration_is_asked_once_a_minute(browser: Browser, ehr: Realm) -> None:
    browser.begin(ehr, "for-walter")
    ehr.wrong = {"discovery_answer": (500, {})}
    assert browser.begin(ehr, "for-walter").status_code == 303


def test_a_flood_of_launches_gets_retry_after(browser: Browser, ehr: Realm, app: Flask) -> None:
    app.extensions["riskcards"].smart.rate._buckets["127.0.0.1"] = (0.0, time.monotonic())
    answer = browser.begin(ehr, "for-walter")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    app.extensions["riskcards"].smart.rate._buckets.clear()
