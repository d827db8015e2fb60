"""What the app is opened on: one patient's chart, from a SMART session or from the demo's ward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fhir_mapping import PatientRecord, SiteMap
from fhir_mapping.parsing import Resource

# What only the reader of notes needs; leaving it out makes a record cheap to cut again.
NOTE_TYPES = frozenset({"DocumentReference", "Composition", "DiagnosticReport", "Binary"})


class ReadAt(Protocol):
    """The record as known at a moment; None means the moment of the estimate. Raises HookError, FhirMappingError."""

    def __call__(self, at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord: ...


def _no_name() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class OpenChart:
    """One chart as one user has it open. `user` is a reference such as Practitioner/7, or empty where nobody says."""

    read: ReadAt
    user: str
    name: Callable[[], str] = _no_name
    """For the page's banner; says nothing where the EHR shows its own."""
    about: str = ""
    """Anything the reader must know of these data, such as that they are synthetic."""
    frame_ancestors: tuple[str, ...] = ("'none'",)
    """Who may show the app in a frame, as CSP sources."""
    tenant: str | None = None
    style: Mapping[str, str] = field(default_factory=dict)
    """The EHR's look: checked values by SMART's names."""


class ChartSource(Protocol):
    """The word in the app's address to the chart behind it. Raises HookError 404, 401 where there is none."""

    def __call__(self, session: str, /) -> OpenChart: ...


def reader_of(
    resources: Sequence[Resource], patient: str, encounter: str | None, as_of: datetime, site_map: SiteMap | None = None
) -> ReadAt:
    """The reader of a chart whose resources are all at hand, fetched at `as_of`."""

    def read(at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord:
        kept = resources if with_notes else [r for r in resources if r.get("resourceType") not in NOTE_TYPES]
        return PatientRecord.from_resources(
            kept, patient, at or as_of, encounter_id=encounter, site_map=site_map, undated_known=at in {None, as_of}
        )

    return read
