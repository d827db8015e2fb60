"""Model eligibility criteria: the population that a model's manifest states. Other patients get an abstention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.record import active_groups
from risk_model.core.values import Abstention
from risk_model.models.exclusions import excluded


def outside(population: Mapping[str, Any], record: PatientRecord, vector: FeatureVector) -> Abstention | None:
    """Returns the reason why this patient is outside the manifest's `population`, or None if the patient is
    eligible."""
    fits = f"The model was fitted on {population['in_words']}"
    age = vector.number("age.last")
    stay = record.current_stay
    if record.deceased is not None:
        return Abstention("deceased", "The record says that the patient has died.")
    if record.demographics.perhaps_deceased:
        return Abstention("deceased", "The record says that the patient has died, and not exactly when.")
    if stay is None and not population.get("without_stay"):
        return Abstention("no-inpatient-stay", "There is no inpatient stay at this moment.")
    never = excluded(record)
    if never is not None:
        return never
    if age is None:
        return Abstention("age-unknown", f"The age is not known. {fits}.")
    if age < population["minimum_age"]:
        return Abstention("too-young", f"The patient is {age:.0f} years old. {fits}.")
    if population.get("intensive_care") and not (stay and stay.intensive_care):
        return Abstention("not-intensive-care", f"The record does not show intensive care. {fits}.")
    found = _outside_time(vector, population) or _outside_stay(record, population)
    if found is not None:
        return Abstention(found[0], f"{found[1]} {fits}.")
    names = population["needs"]
    have = sum(vector.number(name) is not None for name in names)
    if have < population["needs_at_least"]:
        missing = f"Only {have} of {len(names)} basic inputs are known; {population['needs_at_least']} are needed."
        return Abstention("too-little-data", missing)
    return None


def _outside_time(vector: FeatureVector, population: Mapping[str, Any]) -> tuple[str, str] | None:
    hours = vector.number("hours_since_admission.last") or 0.0
    if hours < population.get("minimum_hours", 0):
        return "too-early", f"Only {hours:.0f} hours have passed since admission."
    if hours > population.get("maximum_hours", float("inf")):
        return "too-late", f"{hours / 24:.0f} days have passed since admission."
    return None


def _outside_stay(record: PatientRecord, population: Mapping[str, Any]) -> tuple[str, str] | None:
    required = population.get("requires_groups")
    if required and not set(required) & set(active_groups(record)):
        if "Condition" in record.not_fetched:
            return "conditions-not-fetched", "The problem list was not available, so diabetes is unknown."
        return "outside-population", "No diabetes is recorded."
    stay = record.current_stay
    if stay is not None and stay.discharge_disposition in population.get("excluded_dispositions", ()):
        return "died-or-hospice", "The stay ended in death or hospice."
    return None
