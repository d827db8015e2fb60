"""How many of the demo's patients get an estimate of each model, and why the others get none."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from cds_service.demo.ward.patients import shipped
from fhir_mapping import PatientRecord
from risk_model import Pipeline, RiskEstimate
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
# Of eleven charts: the models speak for adults in intensive care, and for adult inpatients with diabetes.
WITH_AN_ESTIMATE = {IN_HOSPITAL_MORTALITY: 3, READMISSION_30D: 5}
# One has only normal values, of which none is a driver.
WITH_DRIVERS = {IN_HOSPITAL_MORTALITY: 2, READMISSION_30D: 5}
OUTSIDE = {"not-intensive-care", "outside-population", "too-young", "no-inpatient-stay"}


@pytest.fixture(scope="module")
def estimates() -> dict[str, list[RiskEstimate]]:
    models = Pipeline.shipped().models
    patients = shipped(NOW).patients.values()
    # As the demo reads a chart: with the status of now.
    records = [
        PatientRecord.from_resources(p.chart.resources, p.id, NOW, encounter_id=p.stay, undated_known=True)
        for p in patients
    ]
    return {task: [model.estimate(record) for record in records] for task, model in models.items()}


@pytest.mark.parametrize("task", WITH_AN_ESTIMATE)
def test_as_many_as_before_get_an_estimate(estimates: dict[str, list[RiskEstimate]], task: str) -> None:
    answered = [estimate for estimate in estimates[task] if estimate.probability is not None]
    assert len(answered) >= WITH_AN_ESTIMATE[task]
    assert sum(bool(estimate.drivers) for estimate in answered) >= WITH_DRIVERS[task]


def test_six_of_eleven_patients_get_at_least_one(estimates: dict[str, list[RiskEstimate]]) -> None:
    some = [any(e.probability is not None for e in both) for both in zip(*estimates.values(), strict=True)]
    assert (sum(some), len(some)) >= (6, 11)


def test_patients_without_an_estimate_are_outside_the_population(
    estimates: dict[str, list[RiskEstimate]],
) -> None:
    reasons = Counter(e.abstention.code for found in estimates.values() for e in found if e.abstention is not None)
    assert set(reasons) <= OUTSIDE
