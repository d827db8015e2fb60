"""Debian's Chromium for whichever tests look with it: one way to start it, one word where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cds_service.demo.screenshots import FLAGS, chromium


@contextmanager
def opened_browser(*flags: str) -> Iterator[Any]:
    """The browser, closed at the end. Not for a whole run: while Playwright is open nobody else may run a loop."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium to run the browser test")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        yield browser
        browser.close()
