"""Reads the dated events of a patient from resources, all at once or only those of the kinds that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from fhir_mapping import Coding, Condition, Medication, PatientRecord, Procedure, SiteMap
from fhir_mapping.core import parse_instant
from fhir_mapping.terminology import codings

Resource = dict[str, Any]
# Later than everything in the data. A day before the calendar's end, so that time zones fit.
_ALL_KNOWN = datetime(9999, 12, 30, tzinfo=UTC)
EVENT_TYPES = {
    "condition": ("Condition",),
    "procedure": ("Procedure",),
    "medication": ("MedicationRequest", "MedicationStatement", "MedicationAdministration"),
    "measurement": ("Observation",),
    "report": ("DiagnosticReport",),
}
"""The kinds of events, and the resource types that each is read from."""
_STAY_TYPES = ("Patient", "Encounter", "Location")
_READ_FROM = frozenset(name for types in EVENT_TYPES.values() for name in types)
_DATES = ("recordedDate", "onsetDateTime", "performedDateTime", "authoredOn", "effectiveDateTime", "issued")
_FIRST_LOOK = 32
"""Resources with the latest dates that are read to find the last event; more, twice as many each time, if needed."""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """A coded event. `time` is its date; an undated entry of a stay is known at the stay's end."""

    kind: str
    """`condition`, `procedure`, `medication`, `measurement` or `report`."""
    time: datetime | None
    codings: tuple[Coding, ...] = ()
    concept: str | None = None
    value: float | None = None
    stay: str | None = None
    source: str = ""


@dataclass
class EventReader:
    """EventReader(resources, subject_id, site_map, on_demand=False).of("condition", "procedure")

    With `on_demand` a kind of event is read when it is first asked for, and stays from the Encounters alone. Else all
    resources are read at once, so that whatever is malformed, or another patient's, raises FhirMappingError here.
    """

    resources: tuple[Resource, ...]
    subject_id: str
    site_map: SiteMap | None
    on_demand: bool
    record: PatientRecord = field(init=False)
    """The record at the end of the data; with `on_demand` it has no events."""
    _found: dict[str, tuple[TimelineEvent, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.record = self._record(self._of_types(_STAY_TYPES) if self.on_demand else self.resources)
        if not self.on_demand:
            self._keep(self.record, self.translated, EVENT_TYPES)

    @cached_property
    def translated(self) -> tuple[Resource, ...]:
        """The resources in the codes that the site map gives."""
        if self.site_map is None:
            return self.resources
        return tuple(self.site_map.translate(resource) for resource in self.resources)

    def of(self, *kinds: str) -> tuple[TimelineEvent, ...]:
        """Returns the events of these kinds, undated ones first, then in time order."""
        missing = [kind for kind in kinds if kind not in self._found]
        if missing:
            chosen = self._of_types(tuple(name for kind in missing for name in EVENT_TYPES[kind]))
            known = self._record(self._of_types(_STAY_TYPES) + chosen) if chosen else self.record
            self._keep(known, chosen if self.site_map is None else self.translated, missing)
        ordered = tuple(event for kind in EVENT_TYPES if kind in kinds for event in self._found[kind])
        return tuple(sorted(ordered, key=_place)) if len(kinds) > 1 else ordered

    def last(self) -> datetime | None:
        """Returns the latest event, or beginning or end of a stay; None without any."""
        moments = [moment for stay in self.record.stays for moment in (stay.start, stay.end) if moment is not None]
        bounds = self._bounds() if self.on_demand and len(self._found) < len(EVENT_TYPES) else None
        if bounds is None:
            return max([*moments, *(e.time for e in self.of(*EVENT_TYPES) if e.time is not None)], default=None)
        latest, place, step = max(moments, default=None), 0, _FIRST_LOOK
        while place < len(bounds) and (latest is None or bounds[place][0] > latest):
            chosen = tuple(resource for _, resource in bounds[place : place + step])
            record = self._record(self._of_types(_STAY_TYPES) + chosen)
            times = [event.time for event in _events(record, chosen) if event.time is not None]
            latest = max([*times, *([] if latest is None else [latest])], default=None)
            place, step = place + step, step * 2
        return latest

    def stays_at(self, moment: datetime, encounter_id: str) -> PatientRecord:
        """Returns the record as known then, of which only the stays may be used."""
        chosen = [r for r in self.translated if not self.on_demand or r.get("resourceType") in _STAY_TYPES]
        return PatientRecord.from_resources(chosen, self.subject_id, moment, encounter_id=encounter_id)

    def _of_types(self, types: Sequence[str]) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.resources if resource.get("resourceType") in types)

    def _record(self, resources: Sequence[Resource]) -> PatientRecord:
        return PatientRecord.from_resources(
            resources, self.subject_id, _ALL_KNOWN, site_map=self.site_map, undated_known=True
        )

    def _keep(self, record: PatientRecord, resources: Sequence[Resource], kinds: Iterable[str]) -> None:
        found: dict[str, list[TimelineEvent]] = {kind: [] for kind in kinds}
        for event in _events(record, resources):
            if event.kind in found:
                found[event.kind].append(event)
        self._found |= {kind: tuple(sorted(events, key=_place)) for kind, events in found.items()}

    def _bounds(self) -> list[tuple[datetime, Resource]] | None:
        """Returns each resource with a time that its event cannot be later than, the latest first; None where a date is
        no full time."""
        ends = [stay.end for stay in self.record.encounters if stay.end is not None]
        found: list[tuple[datetime, Resource]] = []
        for resource in self.resources:
            if resource["resourceType"] not in _READ_FROM:
                continue
            texts = [resource[name] for name in _DATES if name in resource]
            texts += resource.get("effectivePeriod", {}).values()
            try:
                moments = [datetime.fromisoformat(text) for text in texts]
            except ValueError:
                return None
            if any(moment.tzinfo is None for moment in moments):
                return None
            if moments or ends:  # an undated event of an encounter is known at its end
                found.append((max(moments or ends), resource))
        found.sort(key=lambda item: item[0], reverse=True)
        return found


def _place(event: TimelineEvent) -> tuple[bool, datetime, str]:
    return event.time is not None, event.time or _ALL_KNOWN, event.source


def _events(record: PatientRecord, resources: Sequence[Resource]) -> Iterator[TimelineEvent]:
    ends = {stay.source: stay.end for stay in record.encounters}

    def known(item: Condition | Procedure | Medication) -> datetime | None:
        """Returns the end of the encounters that an undated entry belongs to, or of the one that lists it."""
        found = record.known_from(item.source)
        return ends.get(item.stay or "") if found is None or found.over is None else found.over

    for condition in record.conditions:
        when = condition.recorded or condition.onset or known(condition)
        yield TimelineEvent("condition", when, condition.codings, stay=condition.stay, source=condition.source)
    for procedure in record.procedures:
        when = procedure.performed or known(procedure)
        yield TimelineEvent("procedure", when, procedure.codings, stay=procedure.stay, source=procedure.source)
    for drug in record.medications:
        when = drug.start or known(drug)
        yield TimelineEvent("medication", when, drug.codings, stay=drug.stay, source=drug.source)
    for item in record.measurements:
        yield TimelineEvent("measurement", item.time, (), item.concept, item.value, source=item.source)
    for resource in resources:
        if resource.get("resourceType") == "DiagnosticReport" and resource.get("status") in _REPORTED:
            yield _report(resource)


_REPORTED = frozenset({"final", "amended", "corrected", "appended", "preliminary"})


def _report(resource: Resource) -> TimelineEvent:
    """Returns a report with its own code and the codes of its conclusion."""
    at = parse_instant(resource.get("issued")) or parse_instant(resource.get("effectiveDateTime"))
    conclusions = resource.get("conclusionCode")
    found = [*codings(resource.get("code"))]
    for conclusion in conclusions if isinstance(conclusions, list) else ():
        found.extend(codings(conclusion))
    return TimelineEvent(
        "report", None if at is None else at.latest, tuple(found), source=f"DiagnosticReport/{resource.get('id')}"
    )
