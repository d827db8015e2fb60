"""First contentful paint of the demo's pages in headless Chromium, nothing cached.

    python -m benchmarks.first_paint [--rounds 15] [--out benchmarks/results/first_paint.json]

Starts `riskcards demo` as a process of its own, waits until the ward's risks are known, and opens each page in a new
browser context: the ward with its chart, the app over a chart, and the app after a whole SMART launch. Times are the
browser's own, from the start of the navigation: the answer's first byte, the first content painted, the largest
element painted, and (the app) the course, which loads afterwards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests

from benchmarks.measuring import write
from benchmarks.started import started
from cds_service.demo.screenshots import FLAGS, chromium

RESULT = Path(__file__).parent / "results" / "first_paint.json"
TARGET_MS = 500.0
# The course has come, or there is no stay to have one.
APP_SETTLED = "[data-load=course][data-loaded], #course:not(:has([data-load]))"
# Registered before the page's own scripts run: a paint that is over cannot be observed any more.
_WATCH = """
window.__largest = 0;
new PerformanceObserver((list) => { for (const one of list.getEntries()) window.__largest = one.startTime; })
  .observe({ type: "largest-contentful-paint", buffered: true });
"""
# What the page waits for may be here before the browser draws its first frame.
_PAINTED = """() => performance.getEntriesByName("first-contentful-paint").length > 0"""
_TIMES = """() => ({
  first_byte: performance.getEntriesByType("navigation")[0].responseStart,
  first_paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  largest_paint: window.__largest,
  settled: performance.now(),
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    program = chromium()
    if program is None:
        sys.exit("no Chromium on PATH; on Debian: apt-get install chromium")
    with started("demo", "--no-browser", ready="/health/live") as server:
        write(options.out, measured(server.base, program, warmed(server.base), options.rounds))


def warmed(base: str) -> list[str]:
    """The ward's patients, once every risk of the list is known."""
    page = requests.get(f"{base}/demo/", timeout=60).text
    patients = [part.partition('"')[0] for part in page.split('data-patient="')[1:]]
    for patient in patients:
        requests.get(f"{base}/demo/api/risk/{patient}", timeout=60)
    return patients


def measured(base: str, program: str, patients: Sequence[str], rounds: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    pages = {
        "demo": (lambda patient: f"{base}/demo/#{patient}", "#cards[data-answered]"),
        "app": (lambda patient: f"{base}/demo/app/{patient}/", APP_SETTLED),
        "app_by_launch": (lambda patient: launch_address(base, patient), APP_SETTLED),
    }
    load = os.getloadavg()[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        times = {name: [] for name in pages}  # type: dict[str, list[dict[str, float]]]
        for number in range(rounds + 1):
            for name, (address, settled) in pages.items():
                found = opened(browser, address(patients[number % len(patients)]), settled)
                # The first round starts the browser's own processes.
                times[name] += [found] if number else []
        browser.close()
    pages = {name: summary(found) for name, found in times.items()}
    worst = max(page["first_paint"]["median"] for page in pages.values())
    return {
        "rounds": rounds,
        "processors": os.cpu_count(),
        "load": load,
        "pages_ms": pages,
        "met": worst < TARGET_MS,
    }


def opened(browser: Any, address: str, settled: str) -> dict[str, float]:
    """The browser's times of one page in a context of its own, in milliseconds."""
    context = browser.new_context(viewport={"width": 1440, "height": 960})
    page = context.new_page()
    page.add_init_script(_WATCH)
    page.goto(address, wait_until="commit")
    page.wait_for_selector(settled, state="attached", timeout=60_000)
    page.wait_for_function(_PAINTED, timeout=60_000)
    found: dict[str, float] = page.evaluate(_TIMES)
    context.close()
    return found


def launch_address(base: str, patient: str) -> str:
    """Where the demo's EHR would send the browser: our launch address with its `iss` and launch code."""
    answer = requests.post(f"{base}/demo/api/launch/{patient}", json={}, timeout=30)
    answer.raise_for_status()
    return f"{base}/launch?{urlencode(answer.json())}"


def summary(times: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each time."""
    summaries = {}
    for name in times[0]:
        values = sorted(one[name] for one in times)
        summaries[name] = {"median": statistics.median(values), "p95": values[int(0.95 * (len(values) - 1))]}
    return summaries


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
