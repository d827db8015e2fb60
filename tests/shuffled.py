"""A pytest plugin that puts files, and the tests within each file, in an order drawn by a seed.

    pytest -p tests.shuffled          the seed is TEST_ORDER, else drawn and shown at the head of the run

A file's tests stay together: they share what its module fixtures cost.
"""

from __future__ import annotations

import os
import random

import pytest

SEED = os.environ.get("TEST_ORDER") or str(random.SystemRandom().randrange(10**6))


def pytest_report_header() -> str:
    return f"order of tests: TEST_ORDER={SEED}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    chance = random.Random(SEED)
    listed = list(files.values())
    chance.shuffle(listed)
    for tests in listed:
        chance.shuffle(tests)
    items[:] = [item for tests in listed for item in tests]
