"""One service for the whole folder: opening models and index takes a second, and nothing here changes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cds_service.demo.ward.chart import Chart
from cds_service.services import SERVICES
from tests.cds_service.fhir_server import FhirServer, fhir_server
from tests.end_to_end.golden import EXAMPLES, make_app


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    app = make_app(tmp_path_factory.mktemp("service"))
    yield app
    app.extensions["riskcards"].store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    with fhir_server() as state:
        yield state


@pytest.fixture
def discharge() -> dict[str, Any]:
    """A complete, valid request of the discharge hook; tests change copies of it."""
    return whole_request("diabetic-heart-failure-discharge")


def whole_request(case: str) -> dict[str, Any]:
    folder: Path = EXAMPLES / case
    request = json.loads((folder / "request.json").read_text("utf-8"))
    bundle = json.loads((folder / "bundle.json").read_text("utf-8"))
    chart = Chart([entry["resource"] for entry in bundle["entry"]])
    service, context = SERVICES[request["service"]], request["context"]
    prefetch = service.fill_prefetch(context, chart.query)
    return service.request_body(context, prefetch, hook_instance=request["hookInstance"])
