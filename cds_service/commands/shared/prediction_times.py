"""The `--as-of` that would give an estimate, for a stay whose time for one has passed or has not come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhir_mapping import PatientRecord
    from risk_model import Pipeline, RiskEstimate

_TIME = frozenset({"no-inpatient-stay", "too-late", "too-early"})


def time_to_try(record: PatientRecord, estimate: RiskEstimate, pipeline: Pipeline) -> str:
    """Returns one line that names the `--as-of` to try; empty where no other time of the record would help."""
    if estimate.abstention is None or estimate.abstention.code not in _TIME:
        return ""
    population = pipeline.models[estimate.task].manifest["population"]
    moment = _within(record, population)
    if moment is None or moment == record.prediction_time:
        return ""
    return f"to estimate within the last stay, try --as-of {moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _within(record: PatientRecord, population: Mapping[str, Any]) -> datetime | None:
    """The latest moment of the last inpatient stay that the model's hours after admission allow."""
    inpatient = [stay for stay in record.stays if stay.stay_class == "inpatient"]
    stay = record.current_stay or max(inpatient, key=lambda one: one.start, default=None)
    if stay is None:
        return None
    last = record.prediction_time if stay.end is None else stay.end - timedelta(minutes=1)
    if "maximum_hours" in population:
        # The first day is what the scores are made for, and within every window of the shipped models.
        hours = min(24.0, float(population["maximum_hours"]))
        last = min(last, stay.start + timedelta(hours=max(hours, float(population.get("minimum_hours", 0)))))
    early = stay.start + timedelta(hours=float(population.get("minimum_hours", 0)))
    return last if early <= last <= record.prediction_time else None
