"""A patient's whole history including the future: only labels are read from it.

A `PatientTimeline` holds everything in the data; a `PatientRecord` holds only what was known at its prediction time.
Labels come from the first, features from the second, and no code path leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fhir_mapping import Instant, PatientRecord, SiteMap, Stay, StayClass
from fhir_mapping.core import parse_instant
from fhir_mapping.resources import disposition
from risk_model.labels.events import EVENT_TYPES, EventReader, TimelineEvent

Resource = dict[str, Any]


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
    resources: tuple[Resource, ...] = field(repr=False)
    _events: EventReader = field(repr=False)

    @classmethod
    def of(
        cls,
        resources: Sequence[Resource],
        subject_id: str,
        site_map: SiteMap | None = None,
        *,
        well_formed: bool = False,
    ) -> PatientTimeline:
        """Returns the timeline from all the resources of one patient. Raises FhirMappingError as PatientRecord does.

        `well_formed`: the resources were made here and are this patient's, so that those of a type need to be read only
        when a predicate asks for their events.
        """
        read = EventReader(tuple(resources), subject_id, site_map, on_demand=well_formed)
        record = read.record
        patient = next(r for r in read.translated if r.get("resourceType") == "Patient" and r.get("id") == subject_id)
        death = parse_instant(patient.get("deceasedDateTime"))
        return cls(
            subject_id=subject_id,
            birth=record.birth,
            sex=record.sex,
            death=death,
            death_undated=death is None and patient.get("deceasedBoolean") is True,
            stays=record.stays,
            resources=read.translated,
            _events=read,
        )

    @property
    def events(self) -> tuple[TimelineEvent, ...]:
        """Every event, undated ones first, then in time order."""
        return self._events.of(*EVENT_TYPES)

    def events_of(self, *kinds: str) -> tuple[TimelineEvent, ...]:
        """Returns the events of these kinds (see `TimelineEvent.kind`), in the same order."""
        return self._events.of(*kinds)

    @property
    def last(self) -> datetime | None:
        """The latest dated event of this patient, or beginning or end of a stay."""
        return self._events.last()

    def record_at(self, moment: datetime, encounter_id: str) -> PatientRecord:
        """Returns the record of a stay as known then, of which only the stays may be used."""
        return self._events.stays_at(moment, encounter_id)

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
