"""The demo on a port of its own, its EHR included, and Debian's Chromium to look at it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.setup import demo_settings
from cds_service.demo.ward.patients import DemoWard, shipped
from tests.chromium import opened_browser, patient_page
from tests.patience import patient


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def address() -> str:
    """Where the demo is served: known before it starts, because its EHR is registered there."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="package")
def shown() -> DemoWard:
    """The patients of the demo."""
    return shipped()


@pytest.fixture(scope="package")
def ids(shown: DemoWard) -> dict[str, str]:
    """Each patient's id by the family name."""
    return {patient.name.split(",")[0]: patient.id for patient in shown.patients.values()}


@pytest.fixture(scope="package")
def demo(address: str, shown: DemoWard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The demo, served at `address`."""
    app = create_demo_app(patient(demo_settings(address, tmp_path_factory.mktemp("demo"))), shown)
    server = make_server("127.0.0.1", int(address.rpartition(":")[2]), app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["riskcards"].store.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with opened_browser() as opened:
        yield opened


def tab(browser: Any, **more: Any) -> Any:
    """A page that keeps every console error, script error and blocked resource in `faults`."""
    page = patient_page(browser, **({"viewport": {"width": 1440, "height": 960}} | more))
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    return page
