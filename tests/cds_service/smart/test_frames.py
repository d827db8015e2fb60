"""A launch inside a real EHR's frame, in Chromium: https, two sites, and third-party cookies blocked."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, render_template_string
from werkzeug.serving import BaseWSGIServer, make_server

from cds_service.demo.screenshots import FLAGS, chromium
from tests.cds_service.smart.authority import Realm, pem
from tests.cds_service.smart.browser import Browser

pytestmark = pytest.mark.browser
EHR, APP = "hospital.example", "cds.example.org"
# Chromium as it will be for all: a cookie of another site only where it is partitioned.
BLOCKED = "--test-third-party-cookie-phaseout"


def _serve(app: Any, certificate: Path) -> BaseWSGIServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _certificate(folder: Path) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
    path = folder / "tls.pem"
    path.write_bytes(pem(key) + made.sign(key, hashes.SHA256()).public_bytes(_pem()))
    return path


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


@pytest.fixture(scope="module")
def context(app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser for which both sites are where the tests serve them; /{launch} of the EHR frames the app."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    from playwright.sync_api import sync_playwright

    outer = Flask("ehr")
    frame = '<!doctype html><title>EHR</title><iframe src="{{ url }}" width="900" height="700"></iframe>'

    @outer.get("/<realm>/<launch>")
    def chart(realm: str, launch: str) -> str:
        iss = outer.config["realms"][realm].base
        return render_template_string(frame, url=f"https://{APP}/launch?{urlencode({'iss': iss, 'launch': launch})}")

    certificate = _certificate(tmp_path_factory.mktemp("tls"))
    servers = {EHR: _serve(outer, certificate), APP: _serve(app, certificate)}
    rules = ", ".join(f"MAP {name} 127.0.0.1:{server.server_port}" for name, server in servers.items())
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--host-resolver-rules={rules}", "--ignore-certificate-errors", BLOCKED]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        opened = browser.new_context(ignore_https_errors=True)
        opened.ehr = outer
        yield opened
        browser.close()
    for server in servers.values():
        server.shutdown()
        server.server_close()


def _framed(context: Any, launch: str) -> tuple[Any, Any]:
    page = context.new_page()
    page.goto(f"https://{EHR}/asymmetric/{launch}")
    frame = page.frame_locator("iframe")
    frame.locator("#now").wait_for()
    return page, frame


def test_a_launch_lives_in_the_frame_of_another_site(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    """The whole launch and the requests after it: the cookies of both steps come back to us inside the frame."""
    context.ehr.config["realms"] = realms
    page, frame = _framed(context, "for-walter")
    frame.locator("[data-loaded]").wait_for()
    assert frame.locator("#now .risk").count() == 2
    kept = [cookie for cookie in context.cookies() if cookie["name"].startswith("riskcards-")]
    assert kept
    assert all((cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "None") for cookie in kept)
    alone = context.new_page()
    answer = alone.goto(next(f.url for f in page.frames if "/app/" in f.url))
    assert answer.status == 401, "outside the EHR's frame the cookie is not sent"
    alone.close()
    page.close()


def test_two_patients_in_two_frames_never_mix(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    context.ehr.config["realms"] = realms
    walter, ines = _framed(context, "for-walter"), _framed(context, "for-ines")
    told = [frame.locator(".banner p").first.inner_text() for _, frame in (walter, ines)]
    assert told[0] != told[1]
    for (page, frame), before in ((walter, told[0]), (ines, told[1])):
        frame.locator(".banner").evaluate("() => location.reload()")
        frame.locator("#now").wait_for()
        assert frame.locator(".banner p").first.inner_text() == before
        page.close()


def test_the_ehrs_colours_are_taken_over_and_nothing_else(
    context: Any, ehr: Realm, realms: dict[str, Realm], browser: Browser
) -> None:
    context.ehr.config["realms"] = realms
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
    page, frame = _framed(context, "for-walter")
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


def test_a_flood_of_launches_is_told_to_wait(browser: Browser, ehr: Realm, app: Flask) -> None:
    app.extensions["riskcards"].smart.rate._buckets["127.0.0.1"] = (0.0, time.monotonic())
    answer = browser.begin(ehr, "for-walter")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    app.extensions["riskcards"].smart.rate._buckets.clear()
