"""The demo with its app, and a second app over charts that tests make by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_hooks import HookError
from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.chart import OpenChart, reader_of
from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.ward.patients import DemoWard, shipped
from cds_service.hooks.hook_handler import HookHandler
from tests.end_to_end.golden import EXAMPLES
from tests.patience import patient_settings

PATIENTS = Path(str(files("cds_service.demo").joinpath("patients")))
SHIPPED = [str(entry["file"]) for entry in json.loads((PATIENTS / "patients.json").read_text("utf-8"))["patients"]]
SEPSIS = "sepsis-icu-first-day"
SEPSIS_NOW = datetime(2024, 2, 11, 8, tzinfo=UTC)


@pytest.fixture(scope="package")
def ward() -> DemoWard:
    return shipped()


@pytest.fixture(params=SHIPPED)
def patient(request: pytest.FixtureRequest, ward: DemoWard) -> str:
    """The id of each shipped patient in turn."""
    return list(ward.patients)[SHIPPED.index(request.param)]


@pytest.fixture(scope="package")
def any_patient(ward: DemoWard) -> str:
    return min(ward.patients)


@pytest.fixture(scope="package")
def charts() -> dict[str, OpenChart]:
    """Charts by the word that opens them; tests add theirs."""
    return {}


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory, ward: DemoWard, charts: dict[str, OpenChart]) -> Iterator[Flask]:
    database = tmp_path_factory.mktemp("app") / "app.db"
    app = create_demo_app(patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{database}"}), ward)

    def source(session: str, /) -> OpenChart:
        if session not in charts:
            raise HookError(404, "not-found", "there is no such session")
        return charts[session]

    app.register_blueprint(app_pages("tested_app", "/tested", source, app.extensions["riskcards"].handler))
    yield app
    app.extensions["riskcards"].store.close()


@pytest.fixture
def handler(app: Flask) -> HookHandler:
    found: HookHandler = app.extensions["riskcards"].handler
    return found


@pytest.fixture
def opened(charts: dict[str, OpenChart]) -> Callable[..., str]:
    """opened(resources, now) -> the address of the app on that chart."""

    def put(resources: list[dict[str, Any]], now: datetime = SEPSIS_NOW, **about: Any) -> str:
        patient = next(str(r["id"]) for r in resources if r["resourceType"] == "Patient")
        stay = next((str(r["id"]) for r in resources if r["resourceType"] == "Encounter"), None)
        session = f"session-{len(charts)}"
        charts[session] = OpenChart(reader_of(resources, patient, stay, now), **({"user": "Practitioner/p"} | about))
        return f"/tested/{session}/"

    return put


def resources(case: str) -> list[dict[str, Any]]:
    bundle = json.loads((EXAMPLES / case / "bundle.json").read_text("utf-8"))
    return [entry["resource"] for entry in bundle["entry"]]
