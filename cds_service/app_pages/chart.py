"""The chart the app shows: one patient's, from a SMART session or from the demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fhir_mapping import PatientRecord, SiteMap, Stay
from fhir_mapping.parsing import Resource

# Resource types that only the note reader needs; without them a record is cheap to rebuild.
NOTE_TYPES = frozenset({"DocumentReference", "Composition", "DiagnosticReport", "Binary"})


class ReadAt(Protocol):
    """Returns the record as of a time; None means the time of the estimate. Raises HookError, FhirMappingError."""

    def __call__(self, at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord: ...


def _no_name() -> str:
    return ""


class StayChooser(Protocol):
    """Chooses the stay that is estimated, where the EHR opened the app for a patient but for no stay."""

    def stays(self) -> Sequence[Stay]:
        """Returns the stays known now, also those after the one that is shown. Raises HookError, FhirMappingError."""

    def choose(self, stay: str) -> None:
        """Makes the stay of this key (`Encounter/...`) the one that is estimated. Raises HookError 404, 409."""


@dataclass(frozen=True, slots=True)
class OpenChart:
    """One chart as one user has it open. `user` is a reference such as Practitioner/7, or empty if unknown."""

    read: ReadAt
    user: str
    name: Callable[[], str] = _no_name
    """The patient's name for the page's banner; empty where the EHR shows its own banner."""
    about: str = ""
    """A remark on these data, such as "synthetic patient"."""
    frame_ancestors: tuple[str, ...] = ("'none'",)
    """The origins that may embed the app, as CSP sources."""
    tenant: str | None = None
    choice: StayChooser | None = None
    """The stays to choose from; None where the EHR chose the stay."""
    style: Mapping[str, str] = field(default_factory=dict)
    """The EHR's style: validated values by their SMART names."""


class ChartSource(Protocol):
    """Returns the chart of a session id in the app's URL. Raises HookError 404, 401 if there is none."""

    def __call__(self, session: str, /) -> OpenChart: ...


def reader_of(
    resources: Sequence[Resource], patient: str, encounter: str | None, as_of: datetime, site_map: SiteMap | None = None
) -> ReadAt:
    """Returns a reader of a chart whose resources were all fetched at `as_of`."""

    def read(at: datetime | None = None, /, *, with_notes: bool = True) -> PatientRecord:
        kept = resources if with_notes else [r for r in resources if r.get("resourceType") not in NOTE_TYPES]
        return PatientRecord.from_resources(
            kept, patient, at or as_of, encounter_id=encounter, site_map=site_map, undated_known=at in {None, as_of}
        )

    return read
