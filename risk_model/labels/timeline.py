"""A patient's whole history including the future: only labels are read from it.

A `PatientTimeline` holds everything in the data; a `PatientRecord` holds only what was known at its prediction time.
Labels come from the first, features from the second, and no code path leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fhir_mapping import Coding, Condition, Instant, Medication, PatientRecord, Procedure, SiteMap, Stay, StayClass
from fhir_mapping.core import parse_instant
from fhir_mapping.resources import disposition
from fhir_mapping.terminology import codings

Resource = dict[str, Any]
# Later than everything in the data. A day before the calendar's end, so that time zones fit.
_ALL_KNOWN = datetime(9999, 12, 30, tzinfo=UTC)


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


@dataclass(frozen=True, slots=True)
class PatientTimeline:
    """All events of one patient. Stays are oldest first; parts of a stay and adjoining inpatient stays are merged.

    `death` keeps the precision of the source; `death_undated`: the patient is dead and there is no date.
    """

    subject_id: str
    birth: Instant | None
    sex: str | None
    death: Instant | None
    death_undated: bool
    stays: tuple[Stay, ...]
    events: tuple[TimelineEvent, ...]
    last: datetime | None
    """The latest dated event of this patient."""
    resources: tuple[Resource, ...] = field(repr=False, default=())

    @classmethod
    def of(cls, resources: Sequence[Resource], subject_id: str, site_map: SiteMap | None = None) -> PatientTimeline:
        """Returns the timeline from all the resources of one patient. Raises FhirMappingError as PatientRecord does."""
        record = PatientRecord.from_resources(resources, subject_id, _ALL_KNOWN, site_map=site_map, undated_known=True)
        if site_map is not None:
            resources = [site_map.translate(resource) for resource in resources]
        patient = next(r for r in resources if r.get("resourceType") == "Patient" and r.get("id") == subject_id)
        events = sorted(_events(record, resources), key=lambda e: (e.time is not None, e.time or _ALL_KNOWN, e.source))
        times = [e.time for e in events if e.time is not None]
        times += [moment for stay in record.stays for moment in (stay.start, stay.end) if moment is not None]
        death = parse_instant(patient.get("deceasedDateTime"))
        return cls(
            subject_id=subject_id,
            birth=record.birth,
            sex=record.sex,
            death=death,
            death_undated=death is None and patient.get("deceasedBoolean") is True,
            stays=record.stays,
            events=tuple(events),
            last=max(times, default=None),
            resources=tuple(resources),
        )

    def died_in(self, stay: Stay) -> bool | None:
        """Whether the patient died in this stay; None if unknown (still running, death undated).

        A coded disposition decides first. A death with a date only counts as in hospital if the stay includes that day
        and no disposition says that the patient left alive.
        """
        left = disposition(stay)
        if left == "died":
            return True
        if self.death is not None and self._overlaps(self.death, stay):
            imprecise = self.death.earliest != self.death.latest
            return not (left is not None and imprecise)
        if left is not None:
            return False
        if stay.end is None or (self.death_undated and stay is self._last_stay()):
            return None
        return False

    def dead_at(self, moment: datetime, stay: Stay | None) -> bool:
        """Whether the patient had died by then: at the recorded time, by the end of a recorded day, or with the stay.

        A discharge may be entered days after the death; the stay ends a day that is only known as a date.
        """
        if self.death is not None and self.death.latest <= moment:
            return True
        return stay is not None and stay.end is not None and stay.end <= moment and self.died_in(stay) is True

    def within_other_encounters(self) -> int:
        """Returns how many inpatient stays are part of an encounter that is neither inpatient nor an emergency visit.

        If there are any, the classes do not identify hospital stays (MIMIC-IV on FHIR: an intensive care stay within an
        "observation"), and a transfer within one stay would count as a readmission.
        """
        classes = {stay.source: stay.stay_class for stay in self.stays}
        found = 0
        for resource in self.resources:
            parent = resource.get("partOf")
            whole = parent.get("reference") if isinstance(parent, dict) else None
            inside = classes.get(f"Encounter/{resource.get('id')}") is StayClass.INPATIENT
            found += inside and classes.get(str(whole)) in {
                StayClass.OBSERVATION,
                StayClass.OUTPATIENT,
                StayClass.OTHER,
            }
        return found

    def _overlaps(self, death: Instant, stay: Stay) -> bool:
        return death.latest >= stay.start and (stay.end is None or death.earliest <= stay.end)

    def _last_stay(self) -> Stay | None:
        return self.stays[-1] if self.stays else None


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
