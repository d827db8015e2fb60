"""Takes the screenshots of the documentation from the running demo in headless Chromium: `make screenshots`."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.setup import demo_settings
from cds_service.demo.ward.patients import DemoWard, shipped

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_SHOTS = (
    ("demo", "Rogers", "hospital-risk", 1440, 960),
    ("demo-discharge", "Santiago", "readmission-30d", 1440, 960),
    ("demo-abstains", "McDonald", "readmission-30d", 1440, 960),
    ("demo-narrow", "Griffin", "hospital-risk", 430, 1400),
)
# The app itself: patient, width, height, colour scheme, and what is opened before the picture is taken.
_APP_SHOTS = (
    ("app", "Rogers", 1200, 1500, "light", ".driver:has(.count) summary"),
    ("app-dark", "Rogers", 1200, 1500, "dark", ".driver:has(.count) summary"),
    ("app-narrow", "Rogers", 400, 1300, "light", None),
    ("app-abstains", "McDonald", 1200, 1100, "light", None),
)


def chromium() -> str | None:
    """Debian's Chromium, or the one RISKCARDS_CHROMIUM names."""
    return os.environ.get("RISKCARDS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def main() -> None:
    from playwright.sync_api import sync_playwright

    program = chromium()
    if program is None:
        sys.exit("no Chromium on PATH; on Debian: apt-get install chromium")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with served() as (address, ward), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        _app_pictures(browser, f"{address}/demo/app", ward)
        for name, patient, service, width, height in _SHOTS:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"{address}/demo/")
            page.wait_for_selector(".card")
            page.click(f".patient:has-text('{patient}')")
            page.wait_for_selector(f".banner:has-text('{patient}')")
            page.wait_for_selector("#cards[data-answered=hospital-risk]", state="attached")
            page.click(f"button[data-service={service}]")
            page.wait_for_selector(f"#cards[data-answered={service}]", state="attached")
            if width < 900:
                page.locator(".cds").scroll_into_view_if_needed()
            page.screenshot(path=str(IMAGES / f"{name}.png"))
            if name == "demo":
                page.locator(".card").first.screenshot(path=str(IMAGES / "card.png"))
            page.close()
        browser.close()


@contextmanager
def served() -> Iterator[tuple[str, DemoWard]]:
    """Yields the address and ward of a running demo with its EHR, every chart assessed once."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        address, ward = f"http://127.0.0.1:{port}", shipped()
        app = create_demo_app(demo_settings(address, Path(folder)), ward)
        server = make_server("127.0.0.1", port, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for patient in ward.patients.values():
            app.extensions["riskcards-ward"].of(patient)
        yield address, ward
        server.shutdown()


def _app_pictures(browser: Any, address: str, ward: DemoWard) -> None:
    for name, family, width, height, scheme, opened in _APP_SHOTS:
        patient = next(patient for patient in ward.patients.values() if patient.name.startswith(family))
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(f"{address}/{patient.id}/")
        page.wait_for_selector("[data-load=course][data-loaded]")
        if opened is not None:
            page.click(f"{opened} >> nth=0")
            page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=str(IMAGES / f"{name}.png"))
        page.close()
    page = browser.new_page(viewport={"width": 1440, "height": 960})
    page.goto(f"{address.removesuffix('/app')}/")
    trace = page.get_attribute("a[href^='/demo/trace/']", "href")
    page.click(".launch")
    page.frame_locator("#app-frame").locator("svg.line").first.wait_for()
    page.screenshot(path=str(IMAGES / "demo-app.png"))
    page.set_viewport_size({"width": 1200, "height": 1500})
    page.goto(f"{address.removesuffix('/demo/app')}{trace}")
    page.screenshot(path=str(IMAGES / "demo-trace.png"))
    page.close()


if __name__ == "__main__":
    main()
