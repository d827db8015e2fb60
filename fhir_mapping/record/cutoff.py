"""The cut against the future: what of a patient's data was known at `prediction_time`. Every record passes through it.

A resource that bears a date after `prediction_time` was not known. One without a date of its own is as old as the
encounters it belongs to: a diagnosis is often coded at discharge and stored without any date, so it counts as known
from the *end* of its encounter on::

    encounter, as of prediction_time      its undated resources
    ----[=====]--------|------            known: it was over
    -------[===========|====]--           cut: coded by its end, which is later
    -------[===========|......            cut: nothing says when the data were written
    -------------------|--[===]--         cut: it had not begun

The second and the third become known where the data were fetched at `prediction_time`, which the caller says by
`undated_known`: what a server returns now of a running stay is known now, and an end that lies ahead is the planned
discharge. Data later than `prediction_time` must not be asked: the answer would depend on the future.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum, IntEnum, auto
from typing import Any

from fhir_mapping.core.times import moment, parse_instant
from fhir_mapping.core.values import Instant, StayClass
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.entries import ResourceEntry
from fhir_mapping.parsing.references import Directory, contained
from fhir_mapping.record.patient_compartment import NOTE_TYPES
from fhir_mapping.resources.stays import period_of, stay_class_of

# Shared by many patients, or about none: they carry no time at which they became known.
_TIMELESS = frozenset(
    {"Patient", "Medication", "Location", "Organization", "Practitioner", "PractitionerRole", "RelatedPerson", "Device",
     "Binary", "Specimen", "Substance", "Group"}
)  # fmt: skip
_ONSET = ("onsetDateTime", "onsetPeriod")
_MEDICATION = ("authoredOn", "effectiveDateTime", "effectivePeriod", "dateAsserted", "occurenceDateTime",
               "occurencePeriod")  # fmt: skip
_PERFORMED = ("performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod")
_OBSERVED = ("issued", "effectiveDateTime", "effectiveInstant", "effectivePeriod")
# When a resource of each type happened or was written.
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
# Of types that only a reference leads to, such as an allergy named in a section of a Composition.
_ANY_DATE = tuple(dict.fromkeys([
    "recordedDate", "assertedDate", "date", *_MEDICATION, *_PERFORMED, *_OBSERVED, "recorded", "period", *_ONSET,
]))  # fmt: skip
# A period of these says what they are about; they are written at its end.
_AT_END = NOTE_TYPES | {"Observation"}
# A bare day, or a time of day without a zone. A month or a year does not say whether it was before or after.
_A_DAY = timedelta(hours=26)


class Known(Enum):
    """What the cut says of one resource."""

    YES = auto()
    LATER = auto()
    """It bears a date after the prediction time."""
    UNDATED = auto()
    """Its own dates do not settle it, and an encounter it belongs to was not over."""


class _Standing(IntEnum):
    """How far an encounter had come; the greatest is the furthest from being over."""

    OVER = 0
    OPEN = 1
    """Begun, and no end is recorded."""
    RUNNING = 2
    """Begun, and the recorded end is later."""
    COMING = 3


class Cutoff:
    """Cutoff(encounters, directory, at).known("Condition/c1", resource) -> Known

    `encounters` are the patient's own by their key (`Encounter/e1`); others are looked up in the directory.
    `undated_known` says that the data were fetched at `at`: the undated resources of a running encounter were known.
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
        self._standings: dict[str, _Standing | None] = {}
        self._naming: dict[str, list[str]] | None = None

    def known(self, source: str, resource: Resource) -> Known:
        """Whether a resource was known at the prediction time. `source` is its key."""
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
        return Known.YES if self._allowed(self._standing_of(source, resource), dated=dated) else Known.UNDATED

    def _allowed(self, standing: _Standing, *, dated: bool) -> bool:
        if standing is _Standing.COMING:
            return False
        return dated or standing is _Standing.OVER or self._undated_known

    def _standing_of(self, source: str, resource: Resource) -> _Standing:
        """Of the encounters a resource belongs to the furthest from over; OVER where the data hold none of them.

        One that names no encounter belongs to those that name it as a diagnosis or reason: it was known when the first
        of these was over.
        """
        own = [self._named(reference, resource) for reference in _encounters_of(resource)]
        found = [standing for standing in own if standing is not None]
        if found:
            return max(found)
        naming = [] if own else [self._standing(key) for key in self._named_by().get(source, ())]
        return min((standing for standing in naming if standing is not None), default=_Standing.OVER)

    def _named(self, reference: Any, container: Resource) -> _Standing | None:
        """The standing of the encounter a reference means; None where it is not in the data."""
        text = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(text, str):
            return None
        if text.startswith("#"):
            inner = contained(container, text[1:])
            return None if inner is None or inner.get("resourceType") != "Encounter" else self._standing_in(inner)
        key = self._directory.key(reference)
        if key is None:  # an absolute URL or a urn that no entry bears: its id must do
            key = "Encounter/" + text.partition("/_history/")[0].rpartition("/")[2].rpartition(":")[2]
        return self._standing(key) if key.startswith("Encounter/") else None

    def _standing(self, key: str) -> _Standing | None:
        if key not in self._standings:
            self._standings[key] = None  # for encounters that are part of each other
            encounter = self._encounters.get(key) or self._directory.find(key)
            self._standings[key] = None if encounter is None else self._standing_in(encounter)
        return self._standings[key]

    def _standing_in(self, encounter: Resource) -> _Standing:
        """A part of a stay is over with the whole: its diagnoses may be coded at the discharge of the stay.

        An emergency visit that is part of the admission it led to is a visit of its own.
        """
        standing = self._alone(encounter)
        if stay_class_of(encounter.get("class")) is StayClass.EMERGENCY:
            return standing
        whole = self._named(encounter.get("partOf"), encounter)
        return standing if whole is None else max(standing, whole)

    def _alone(self, encounter: Resource) -> _Standing:
        start, end = period_of(encounter)
        if start is not None and start.earliest > self.prediction_time:
            return _Standing.COMING
        if end is None:
            return _Standing.OPEN
        return _Standing.OVER if moment(end) <= self.prediction_time else _Standing.RUNNING

    def _named_by(self) -> Mapping[str, list[str]]:
        """What encounters name as diagnosis or reason -> the keys of these encounters."""
        if self._naming is None:
            self._naming = {}
            for key, encounter in self._encounters.items():
                for reference in _diagnoses_of(encounter):
                    named = self._directory.key(reference)
                    if named is not None:
                        self._naming.setdefault(named, []).append(key)
        return self._naming


def known_resources(resources: Iterable[Resource], prediction_time: datetime) -> list[Resource]:
    """Those of a chart that were known at `prediction_time`, as they are."""
    entries = [ResourceEntry(resource) for resource in resources]
    listed = [(entry.source(position), entry) for position, entry in enumerate(entries)]
    encounters = {source: entry.resource for source, entry in listed if entry.kind == "Encounter"}
    cutoff = Cutoff(encounters, Directory.of(entries), prediction_time)
    return [entry.resource for source, entry in listed if cutoff.known(source, entry.resource) is Known.YES]


def _encounters_of(resource: Resource) -> Iterator[Any]:
    """References to encounters: one, or for a DocumentReference a list within its context (R4) or at its root (R5)."""
    for value in (resource.get("encounter"), resource.get("context")):
        inner = value.get("encounter", value) if isinstance(value, dict) else value
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict) and item.get("reference"):
                yield item


def _diagnoses_of(encounter: Resource) -> Iterator[Any]:
    """References to what an encounter was about: `diagnosis.condition`, `reasonReference`, R5 `reason.value`."""
    yield from _list(encounter.get("reasonReference"))
    for name, element in (("diagnosis", "condition"), ("reason", "value")):
        for item in _list(encounter.get(name)):
            value = item.get(element) if isinstance(item, dict) else None
            for one in value if isinstance(value, list) else [value]:
                inner = one.get("reference") if isinstance(one, dict) else None
                yield inner if isinstance(inner, dict) else one


def _created(resource: Resource) -> Instant | None:
    """When the first attachment of a note was made."""
    contents = [item.get("attachment") for item in _list(resource.get("content")) if isinstance(item, dict)]
    attachments = [item for item in (*contents, *_list(resource.get("presentedForm"))) if isinstance(item, dict)]
    found = [parse_instant(attachment.get("creation")) for attachment in attachments]
    return min((instant for instant in found if instant is not None), key=lambda instant: instant.latest, default=None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
