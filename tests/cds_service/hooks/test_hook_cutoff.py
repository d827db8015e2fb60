"""Undated diagnoses of an encounter in hooks and the app: those the server has now, and no later ones."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_service.app_pages.chart import reader_of
from cds_service.application.factory import create_app
from cds_service.services import SERVICES
from fhir_mapping import PatientRecord
from risk_model import Pipeline
from tests.fhir_mapping.record.test_cases import PATIENT, STAY
from tests.fhir_mapping.record.test_cutoff import SEPSIS, within, without_end
from tests.patience import patient_settings

NOW = datetime.now(UTC).replace(microsecond=0)


def stay(identifier: str, days: float, end: float | None = None) -> dict[str, Any]:
    """A stay that began this many days ago."""
    period = {"start": (NOW - timedelta(days=days)).isoformat()}
    if end is not None:
        period["end"] = (NOW - timedelta(days=end)).isoformat()
    return STAY | {"id": identifier, "status": "in-progress" if end is None else "finished", "period": period}


RUNNING, OVER, NEXT = stay("now", 3), stay("now", 9, end=2), stay("next", 1)
ROWS: list[tuple[str, str, list[dict[str, Any]], str, bool]] = [
    ("the chart of a running stay is opened", "hospital-risk", [RUNNING], "now", True),
    ("its first day is asked about on the third", "in-hospital-mortality", [RUNNING], "now", False),
    ("it is about to end", "readmission-30d", [RUNNING], "now", True),
    ("the first day of a stay that is over", "in-hospital-mortality", [OVER], "now", False),
    ("the discharge of a stay that is over", "readmission-30d", [OVER], "now", True),
    ("that discharge, and a diagnosis of the next stay", "readmission-30d", [OVER, NEXT], "next", False),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    folder: Path = tmp_path_factory.mktemp("cutoff")
    return create_app(patient_settings({"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/r.db"}))


@pytest.mark.parametrize(("name", "service", "stays", "of", "known"), ROWS, ids=[row[0] for row in ROWS])
def test_undated_diagnoses_in_a_hook(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    service: str,
    stays: list[dict[str, Any]],
    of: str,
    known: bool,
) -> None:
    seen: list[PatientRecord] = []
    assess = Pipeline.assess

    def watching(pipeline: Pipeline, record: PatientRecord, *rest: Any, **more: Any) -> Any:
        seen.append(record)
        return assess(pipeline, record, *rest, **more)

    monkeypatch.setattr(Pipeline, "assess", watching)
    prefetch = {key: bundle() for key in SERVICES[service].prefetch}
    prefetch |= {"patient": PATIENT, "encounters": bundle(*stays), "conditions": bundle(SEPSIS | within(of))}
    if "encounter" in SERVICES[service].prefetch:
        prefetch["encounter"] = stays[0]
    context = {"userId": "Practitioner/x", "patientId": "p", "encounterId": "now"}
    request = {"hook": SERVICES[service].hook, "hookInstance": str(uuid.uuid4()), "context": context}
    answer = app.test_client().post(f"/cds-services/{service}", json=request | {"prefetch": prefetch})
    assert answer.status_code == 200, answer.get_json()
    assert [bool(record.conditions) for record in seen[:1]] == [known]


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}


def test_undated_diagnoses_are_shown_now_and_not_in_earlier_points_of_the_course() -> None:
    chart = [PATIENT, without_end(RUNNING), SEPSIS | within("now")]
    read = reader_of(chart, "p", "now", NOW)
    assert len(read().conditions) == len(read(NOW).conditions) == 1
    assert read(NOW - timedelta(days=1)).conditions == ()
