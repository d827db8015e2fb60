"""Every Synthea bundle of the development data answers all three hooks, through HTTP, as an EHR would ask."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_service.demo.ward.chart import Chart
from cds_service.services import SERVICES
from tests.contract.rules import assert_valid_response
from tests.end_to_end.golden import make_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(tmp_path_factory.mktemp("synthea"))


def last_stay(chart: Chart) -> str | None:
    stays = [r for r in chart.resources if r["resourceType"] == "Encounter" and r["class"].get("code") == "IMP"]
    return max(stays, key=lambda stay: stay["period"]["start"])["id"] if stays else None


def test_all_bundles_answer_all_hooks(app: Flask, shared_data: Path) -> None:
    paths = sorted((shared_data / "synthea").rglob("*.json.gz"))
    assert len(paths) == 12
    answered = 0
    for path in paths:
        with gzip.open(path) as stream:
            chart = Chart.from_bundle(json.load(stream))
        stay = last_stay(chart)
        for service in SERVICES.values():
            context: dict[str, Any] = {"userId": "Practitioner/1", "patientId": chart.patient["id"]}
            if stay is not None:
                context["encounterId"] = stay
            elif service.hook != "patient-view":
                continue
            body = service.request_body(context, service.fill_prefetch(context, chart.query))
            response = app.test_client().post(f"/cds-services/{service.id}", json=body)
            assert response.status_code == 200, (path.name, service.id, response.get_data(as_text=True)[:300])
            answer = response.get_json()
            assert_valid_response(answer)
            assert len(answer["cards"]) == (1 if stay is not None else 0), (path.name, service.id)
            answered += 1
    assert answered >= 34
