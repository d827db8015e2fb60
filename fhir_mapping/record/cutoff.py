"""The temporal cutoff: removes what was not known at `prediction_time`. Every record passes through it.

A resource with a date after `prediction_time` was not known. One without a date takes its time from its encounters: a
diagnosis is often coded at discharge and stored without any date, so it counts as known from the *end* of its encounter
on::

    encounter, as of prediction_time      its undated resources
    ----[=====]--------|------            known: it had ended
    -------[===========|====]--           removed: coded by its end, which is later
    -------[===========|......            removed: it is unknown when the data were written
    -------------------|--[===]--         removed: it had not started

In the second and third case they are known if the data were fetched at `prediction_time`, which the caller states by
`undated_known`: what a server returns now of a running stay is known now, and an end in the future is the planned
discharge. The decision must not use data later than `prediction_time`, or it would depend on the future.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum, auto
from typing import Any, NamedTuple

from fhir_mapping.core.times import moment, parse_instant
from fhir_mapping.core.values import Instant, StayClass
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.entries import ResourceEntry
from fhir_mapping.parsing.references import Directory, contained
from fhir_mapping.record.patient_compartment import NOTE_TYPES
from fhir_mapping.resources.encounter_classes import class_of, period_of
from fhir_mapping.resources.encounters import NEVER

# Shared by many patients, or about none: they have no time at which they became known.
_TIMELESS = frozenset(
    {"Patient", "Medication", "Location", "Organization", "Practitioner", "PractitionerRole", "RelatedPerson", "Device",
     "Binary", "Specimen", "Substance", "Group"}
)  # fmt: skip
_ONSET = ("onsetDateTime", "onsetPeriod")
_MEDICATION = ("authoredOn", "effectiveDateTime", "effectivePeriod", "dateAsserted", "occurenceDateTime",
               "occurencePeriod")  # fmt: skip
_PERFORMED = ("performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod")
_OBSERVED = ("issued", "effectiveDateTime", "effectiveInstant", "effectivePeriod")
# The elements that date a resource of each type.
_DATES = {
    "Condition": ("recordedDate", "assertedDate", *_ONSET),
    "Procedure": _PERFORMED,
    "MedicationRequest": _MEDICATION,
    "MedicationStatement": _MEDICATION,
    "MedicationAdministration": _MEDICATION,
    "DocumentReference": ("date",),
    "Composition": ("date",),
    "DiagnosticReport": _OBSERVED,
    "Observation": _OBSERVED,
    "Encounter": ("period", "actualPeriod"),
}
# For types reached only by reference, such as an allergy listed in a section of a Composition.
_ANY_DATE = tuple(dict.fromkeys([
    "recordedDate", "assertedDate", "date", *_MEDICATION, *_PERFORMED, *_OBSERVED, "recorded", "period", *_ONSET,
]))  # fmt: skip
# The period of these types is what they are about; they are written at its end.
_AT_END = NOTE_TYPES | {"Observation"}
# The span of a date or of a time without a zone. A month or a year is too imprecise to be before or after.
_A_DAY = timedelta(hours=26)
_NEVER = datetime.max.replace(tzinfo=UTC)


class Known(Enum):
    """Whether a resource was known at the prediction time."""

    YES = auto()
    LATER = auto()
    """No: it has a date after the prediction time."""
    UNDATED = auto()
    """No: its own dates do not decide, and an encounter it belongs to had not ended."""


class _EncounterState(IntEnum):
    """The state of an encounter at the prediction time; the greatest is the furthest from its end."""

    OVER = 0
    OPEN = 1
    """Started, and no end is recorded."""
    RUNNING = 2
    """Started, and the recorded end is later."""
    PLANNED = 3


class Encountered(NamedTuple):
    """When a resource without a date of its own was known, by its encounters.

    `present` is False if none of them is in the data: the resource was always known. `begun` is the time from which a
    resource with an onset was known, `over` that of one without any date, None while an encounter has no end.
    """

    present: bool
    begun: datetime | None = None
    over: datetime | None = None


class Cutoff:
    """Cutoff(encounters, directory, prediction_time).known("Condition/c1", resource) -> Known

    `encounters` are the patient's own by key (`Encounter/e1`); others are looked up in the directory. `undated_known`
    means that the data were fetched at `prediction_time`: undated resources of a running encounter were known.
    """

    def __init__(
        self,
        encounters: Mapping[str, Resource],
        directory: Directory,
        prediction_time: datetime,
        *,
        undated_known: bool = False,
    ) -> None:
        self._encounters = encounters
        self._directory = directory
        self.prediction_time = prediction_time
        self._undated_known = undated_known
        self._states: dict[str, _EncounterState | None] = {}
        self._listed_by_key: dict[str, list[str]] | None = None

    def known(self, source: str, resource: Resource) -> Known:
        """Returns whether a resource was known at the prediction time. `source` is its key."""
        kind = resource["resourceType"]
        if kind in _TIMELESS:
            return Known.YES
        settled = dated = False
        edge = "end" if kind in _AT_END else "start"
        for name in _DATES.get(kind, _ANY_DATE):
            raw = resource.get(name)
            instant = None if raw is None else parse_instant(raw.get(edge) if isinstance(raw, dict) else raw)
            if instant is None:
                continue
            if instant.earliest > self.prediction_time:
                return Known.LATER
            past = instant.latest <= self.prediction_time
            settled = settled or (past and name not in _ONSET)
            dated = dated or past or instant.latest - instant.earliest <= _A_DAY
        if kind in NOTE_TYPES and not settled:
            created = _created(resource)
            if created is not None and created.earliest > self.prediction_time:
                return Known.LATER
            settled = created is not None and created.latest <= self.prediction_time
        if settled or kind == "Encounter":
            return Known.YES
        return Known.YES if self._allowed(self._resource_state(source, resource), dated=dated) else Known.UNDATED

    def undated_death_is_known(self) -> bool:
        """Whether a death recorded without a time may have been before: not if an encounter began or ended later."""
        later = {_EncounterState.RUNNING, _EncounterState.PLANNED}
        return self._undated_known or all(
            self._own_state(encounter) not in later
            for encounter in self._encounters.values()
            if str(encounter.get("status")) not in NEVER
        )

    def known_from(self, source: str, resource: Resource) -> Encountered:
        """Returns when an undated resource was known, by the rule of `known`. `source` is its key."""
        own = [self._referenced(reference, resource) for reference in _encounters_of(resource)]
        found = [self._span(encounter) for encounter in own if encounter is not None]
        if not found and not own:
            keys = self._listed_by().get(source, ())
            listing = [self._span(encounter) for key in keys if (encounter := self._encounter(key)) is not None]
            # Known when the first of those that list it was over.
            found = [min(listing, key=lambda span: span.over or _NEVER)] if listing else []
        if not found:
            return Encountered(present=False)
        ends = [span.over for span in found]
        begun = max((span.begun for span in found if span.begun is not None), default=None)
        return Encountered(True, begun, max(filter(None, ends)) if all(ends) else None)

    def _span(self, encounter: Resource) -> Encountered:
        """Returns when an encounter, with the stay it is part of, had begun and was over."""
        start, end = period_of(encounter)
        own = Encountered(True, None if start is None else start.earliest, None if end is None else moment(end))
        seen = [encounter]
        while class_of(encounter.get("class")).stay_class is not StayClass.EMERGENCY:
            outer = self._referenced(encounter.get("partOf"), encounter)
            if outer is None or outer in seen:
                break
            seen.append(outer)
            start, end = period_of(outer)
            starts = (own.begun, None if start is None else start.earliest)
            begun = max((time for time in starts if time is not None), default=None)
            over = max(own.over, moment(end)) if own.over is not None and end is not None else None
            own, encounter = Encountered(True, begun, over), outer
        return own

    def _allowed(self, state: _EncounterState, *, dated: bool) -> bool:
        if state is _EncounterState.PLANNED:
            return False
        return dated or state is _EncounterState.OVER or self._undated_known

    def _resource_state(self, source: str, resource: Resource) -> _EncounterState:
        """Returns the state of the resource's encounter that is furthest from its end; OVER if none is in the data.

        A resource without an encounter belongs to those that list it as a diagnosis or reason: it was known when the
        first of these had ended.
        """
        own = [self._referenced_state(reference, resource) for reference in _encounters_of(resource)]
        found = [state for state in own if state is not None]
        if found:
            return max(found)
        listing = [] if own else [self._state(key) for key in self._listed_by().get(source, ())]
        return min((state for state in listing if state is not None), default=_EncounterState.OVER)

    def _referenced_state(self, reference: Any, container: Resource) -> _EncounterState | None:
        """Returns the state of the referenced encounter; None if it is not in the data."""
        key = self._encounter_key(reference)
        if key is None:
            inner = self._referenced(reference, container)
            return None if inner is None else self._stay_state(inner)
        return self._state(key)

    def _referenced(self, reference: Any, container: Resource) -> Resource | None:
        """Returns the referenced encounter, also one contained in `container`; None if it is not in the data."""
        key = self._encounter_key(reference)
        if key is not None:
            return self._encounter(key)
        text = reference.get("reference") if isinstance(reference, dict) else None
        inner = contained(container, text[1:]) if isinstance(text, str) and text.startswith("#") else None
        return None if inner is None or inner.get("resourceType") != "Encounter" else inner

    def _encounter_key(self, reference: Any) -> str | None:
        text = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(text, str) or text.startswith("#"):
            return None
        key = self._directory.key(reference)
        if key is None:  # an absolute URL or urn without an entry: look it up by its id
            key = "Encounter/" + text.partition("/_history/")[0].rpartition("/")[2].rpartition(":")[2]
        return key if key.startswith("Encounter/") else None

    def _encounter(self, key: str) -> Resource | None:
        return self._encounters.get(key) or self._directory.find(key)

    def _state(self, key: str) -> _EncounterState | None:
        if key not in self._states:
            self._states[key] = None  # for encounters that are part of each other
            encounter = self._encounter(key)
            self._states[key] = None if encounter is None else self._stay_state(encounter)
        return self._states[key]

    def _stay_state(self, encounter: Resource) -> _EncounterState:
        """Returns the state of an encounter, or of the stay it is part of: diagnoses may be coded at discharge.

        An emergency visit that is part of the admission it led to is a separate visit.
        """
        state = self._own_state(encounter)
        if class_of(encounter.get("class")).stay_class is StayClass.EMERGENCY:
            return state
        stay = self._referenced_state(encounter.get("partOf"), encounter)
        return state if stay is None else max(state, stay)

    def _own_state(self, encounter: Resource) -> _EncounterState:
        start, end = period_of(encounter)
        if start is not None and start.earliest > self.prediction_time:
            return _EncounterState.PLANNED
        if end is None:
            return _EncounterState.OPEN
        return _EncounterState.OVER if moment(end) <= self.prediction_time else _EncounterState.RUNNING

    def _listed_by(self) -> Mapping[str, list[str]]:
        """Returns, for each resource listed as a diagnosis or reason, the keys of the encounters that list it."""
        if self._listed_by_key is None:
            self._listed_by_key = {}
            for key, encounter in self._encounters.items():
                for reference in _diagnoses_of(encounter):
                    listed = self._directory.key(reference)
                    if listed is not None:
                        self._listed_by_key.setdefault(listed, []).append(key)
        return self._listed_by_key


def known_resources(resources: Iterable[Resource], prediction_time: datetime) -> list[Resource]:
    """Returns the resources of a chart that were known at `prediction_time`, unchanged."""
    entries = [ResourceEntry(resource) for resource in resources]
    listed = [(entry.source(position), entry) for position, entry in enumerate(entries)]
    encounters = {source: entry.resource for source, entry in listed if entry.kind == "Encounter"}
    cutoff = Cutoff(encounters, Directory.of(entries), prediction_time)
    return [entry.resource for source, entry in listed if cutoff.known(source, entry.resource) is Known.YES]


def _encounters_of(resource: Resource) -> Iterator[Any]:
    """Yields references to encounters: one, or for a DocumentReference a list in `context` (R4) or `encounter` (R5)."""
    for value in (resource.get("encounter"), resource.get("context")):
        inner = value.get("encounter", value) if isinstance(value, dict) else value
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict) and item.get("reference"):
                yield item


def _diagnoses_of(encounter: Resource) -> Iterator[Any]:
    """Yields the references `diagnosis.condition`, `reasonReference` and R5 `reason.value` of an encounter."""
    yield from _list(encounter.get("reasonReference"))
    for name, element in (("diagnosis", "condition"), ("reason", "value")):
        for item in _list(encounter.get(name)):
            value = item.get(element) if isinstance(item, dict) else None
            for one in value if isinstance(value, list) else [value]:
                inner = one.get("reference") if isinstance(one, dict) else None
                yield inner if isinstance(inner, dict) else one


def _created(resource: Resource) -> Instant | None:
    """Returns the earliest creation time of a note's attachments."""
    contents = [item.get("attachment") for item in _list(resource.get("content")) if isinstance(item, dict)]
    attachments = [item for item in (*contents, *_list(resource.get("presentedForm"))) if isinstance(item, dict)]
    found = [parse_instant(attachment.get("creation")) for attachment in attachments]
    return min((instant for instant in found if instant is not None), key=lambda instant: instant.latest, default=None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
