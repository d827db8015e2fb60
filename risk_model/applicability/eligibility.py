"""Model eligibility criteria: the population that a model's manifest states. Other patients get an abstention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.record import active_groups
from fhir_mapping.resources import destination_of
from risk_model.applicability.exclusions import excluded
from risk_model.core.values import Abstention

_CLASS = "so it is not known whether this is an inpatient stay. A site map can translate the codes of this hospital."
_NO_STAY = {
    "no-stay": ("no-inpatient-stay", "There is no inpatient stay at this moment."),
    "encounter-not-found": ("no-inpatient-stay", "The encounter is not in the data."),
    "not-fetched": ("no-inpatient-stay", "The encounters were not (all) available, so the stay is not known."),
    "no-start": ("stay-not-understood", "The encounter has no begin, so it is not known whether this stay has begun."),
    "no-class": (
        "stay-not-understood",
        "The encounter has no class, so it is not known whether this is an inpatient stay.",
    ),
    "class-not-understood": (
        "stay-not-understood",
        f"The class of the encounter is not one of those read here, {_CLASS}",
    ),
    "codes-disagree": ("stay-not-understood", f"The classes of the encounter contradict each other, {_CLASS}"),
}


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
        return Abstention(*_NO_STAY.get(record.no_stay, _NO_STAY["no-stay"]))
    never = excluded(record)
    if never is not None:
        return never
    if age is None:
        return Abstention("age-unknown", f"The age is not known. {fits}.")
    if age < population["minimum_age"]:
        old = "younger than 1 year" if age < 1 else f"{int(age)} years old"
        return Abstention("too-young", f"The patient is {old}. {fits}.")
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
    fewest, most = vector.bounds("hours_since_admission.last") or (0.0, 0.0)
    if fewest < population.get("minimum_hours", 0):
        if most >= population["minimum_hours"]:
            return "admission-time-imprecise", "The time of admission is known too imprecisely."
        return "too-early", f"Only {most:.0f} hours have passed since admission."
    if most > population.get("maximum_hours", float("inf")):
        return "too-late", f"{most / 24:.0f} days have passed since admission."
    return None


def _outside_stay(record: PatientRecord, population: Mapping[str, Any]) -> tuple[str, str] | None:
    required = population.get("requires_groups")
    if required and not set(required) & set(active_groups(record)):
        if "Condition" in record.not_fetched:
            return "conditions-not-fetched", "The problem list was not available, so diabetes is unknown."
        return "outside-population", "No diabetes is recorded."
    stay = record.current_stay
    # Manifests list codes of NUBC and HL7; a stay may be coded in another system.
    excluded_places = {destination_of(code) for code in population.get("excluded_dispositions", ())} - {None}
    if stay is not None and stay.destination in excluded_places:
        return "died-or-hospice", "The stay ended in death or hospice."
    return None
