"""The values of a record, without its constructors: what features, problems and serialisers are computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fhir_mapping.core.values import (
    Administration,
    Availability,
    Condition,
    FeatureVector,
    Instant,
    Measurement,
    Medication,
    Note,
    Procedure,
    Refusal,
    Stay,
    UndatedEncounter,
)
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.record.cutoff import Encountered
from fhir_mapping.record.usable_resources import Charted
from fhir_mapping.resources.demographics import Demographics


@dataclass(frozen=True, slots=True)
class RecordView(ABC):
    """One patient as known at `prediction_time` (UTC). See `PatientRecord`.

    `encounters` are the Encounters behind `stays`, one by one, with the key of the one each is part of.
    `consciousness` is the latest coded level (`alert`, `voice`, `pain`, `unresponsive` or `confusion`), its time and
    its source.
    """

    subject_id: str
    prediction_time: datetime
    demographics: Demographics
    current_stay: Stay | None
    stays: tuple[Stay, ...]
    encounters: tuple[Stay, ...]
    conditions: tuple[Condition, ...]
    medications: tuple[Medication, ...]
    administrations: tuple[Administration, ...]
    procedures: tuple[Procedure, ...]
    measurements: tuple[Measurement, ...]
    consciousness: tuple[str, datetime, str] | None
    refused: tuple[Refusal, ...]
    not_fetched: frozenset[str]
    no_stay: str
    """Why `current_stay` is None: `no-stay`, `encounter-not-found`, `not-fetched`, or why it is unknown whether an
    encounter is one (`no-start`, `no-class`, `class-not-understood`); an empty string if there is a stay."""
    undated_encounters: tuple[UndatedEncounter, ...]
    elsewhere: frozenset[str]
    """Keys of visits in person during the stay that are not part of it."""
    identifiers: frozenset[str] = field(repr=False, compare=False)
    """Names, addresses and numbers of the patient and people around; only de-identification uses them."""
    _notes: tuple[Note, ...] = field(repr=False)
    _present: frozenset[str] = field(repr=False)
    _charted: Charted = field(repr=False, compare=False)
    _known_from: Mapping[str, Encountered] = field(repr=False, compare=False)

    @property
    def birth(self) -> Instant | None:
        """The birth date with its precision, or None if unknown."""
        return self.demographics.birth

    @property
    def sex(self) -> str | None:
        """FHIR administrative gender: `female`, `male` or `other`; None if unknown."""
        return self.demographics.sex

    @property
    def deceased(self) -> datetime | None:
        """The time of death if it is at or before the prediction time, else None."""
        return self.demographics.deceased

    def availability(self, resource_type: str) -> Availability:
        """Returns whether resources of this type were fetched, are known to be absent, or were not (all) fetched."""
        if resource_type in self._present:
            return Availability.FETCHED
        return Availability.NOT_FETCHED if resource_type in self.not_fetched else Availability.ABSENT

    @abstractmethod
    def features(self) -> FeatureVector:
        """Returns the features of the record."""

    def notes(self) -> tuple[Note, ...]:
        """Returns the notes known at the prediction time, newest first, without duplicates."""
        return self._notes

    def charted(self) -> Iterator[tuple[str, Resource]]:
        """Yields key and resource of every Observation known at the prediction time, also those no feature uses."""
        return self._charted.known_by(self.prediction_time)

    def known_from(self, source: str) -> Encountered | None:
        """Returns when a condition, medication or procedure without a date of its own was known; None for others."""
        return self._known_from.get(source)
