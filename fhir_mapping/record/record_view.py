"""The read-only interface of `PatientRecord`, so that features, problems and serialisers do not import the class."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from fhir_mapping.core.values import (
    Administration,
    Condition,
    FeatureVector,
    Instant,
    Measurement,
    Medication,
    Note,
    Procedure,
    Refusal,
    Stay,
)
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.record.cutoff import Encountered
from fhir_mapping.resources.demographics import Demographics


class RecordView(Protocol):
    """One patient as known at `prediction_time`. See `PatientRecord`."""

    @property
    def subject_id(self) -> str: ...
    @property
    def prediction_time(self) -> datetime: ...
    @property
    def demographics(self) -> Demographics: ...
    @property
    def birth(self) -> Instant | None: ...
    @property
    def sex(self) -> str | None: ...
    @property
    def deceased(self) -> datetime | None: ...
    @property
    def current_stay(self) -> Stay | None: ...
    @property
    def stays(self) -> tuple[Stay, ...]: ...
    @property
    def encounters(self) -> tuple[Stay, ...]: ...
    @property
    def conditions(self) -> tuple[Condition, ...]: ...
    @property
    def medications(self) -> tuple[Medication, ...]: ...
    @property
    def administrations(self) -> tuple[Administration, ...]: ...
    @property
    def procedures(self) -> tuple[Procedure, ...]: ...
    @property
    def measurements(self) -> tuple[Measurement, ...]: ...
    @property
    def consciousness(self) -> tuple[str, datetime, str] | None: ...
    @property
    def refused(self) -> tuple[Refusal, ...]: ...
    @property
    def not_fetched(self) -> frozenset[str]: ...

    def features(self) -> FeatureVector: ...

    def notes(self) -> tuple[Note, ...]: ...

    def known_from(self, source: str) -> Encountered | None: ...

    def charted(self) -> Iterator[tuple[str, Resource]]: ...
