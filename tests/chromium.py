"""Debian's Chromium for whichever tests look with it: one way to start it, one word where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cds_service.demo.screenshots import FLAGS, chromium
from tests.patience import POLLED

MILLISECONDS = 1000 * POLLED
"""How long a page may take for anything, 30 seconds by default."""


def patient_page(opened: Any, **more: Any) -> Any:
    """A new page of a browser or a context, for a machine that is busy."""
    page = opened.new_page(**more)
    page.set_default_timeout(MILLISECONDS)
    return page


@contextmanager
def opened_browser(*flags: str) -> Iterator[Any]:
    """The browser, closed at the end. Not for a whole run: while Playwright is open nobody else may run a loop."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags], timeout=MILLISECONDS)
        yield browser
        browser.close()
