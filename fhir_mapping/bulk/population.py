"""Reads a Bulk Data export of any size as a stream of records; only one bucket of patients is in memory.

    found = partition_by_patient(folder, work)      # pass one: writes every line to the bucket of its patient, on disk
    for item in found.patients(prediction_time):    # pass two: one bucket after the other
        ...                                         # a PatientRecord, or an ExportFault for a patient without one

A folder has files as `export_files` reads them, each resource type in one or several, lines in any order. The state is
saved after each input file, so that an interrupted run resumes. A Bundle is a complete chart: a type that is not in it
is absent, unless the Bundle reports missing matches. In an export, which has one file for each type, a type without any
resource counts as not fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fhir_mapping.bulk.export_files import PERSONAL
from fhir_mapping.bulk.partition_files import (
    ALL_PATIENTS,
    SHARED_FILE,
    ExportFault,
    PartitionState,
    SharedResources,
    bucket_name,
)
from fhir_mapping.core.errors import FhirMappingError, InvalidInputError
from fhir_mapping.parsing.resource_reader import ResourceEntry
from fhir_mapping.record.patient_record import PatientRecord
from fhir_mapping.site_maps.site_map import SiteMap

# Absolute URLs too: their server may be another one, which the reader of the Binary decides.
_REFERENCE = re.compile(
    rb'"(?:https?://[^"\s]{1,500}/)?((?:Medication|Location|Binary)/[A-Za-z0-9\-._]{1,64})(?:/_history/[^"/]+)?"'
)


@dataclass(slots=True)
class PatientPartitions:
    """The buckets of pass one. Several processes may open the same `work` folder and read different buckets."""

    work: Path
    buckets: int = field(init=False)
    not_fetched: frozenset[str] = field(init=False)
    faults: tuple[ExportFault, ...] = field(init=False)
    fault_count: int = field(init=False)
    unowned: int = field(init=False)
    resources: int = field(init=False)
    patient_count: int = field(init=False)
    _incomplete: dict[str, frozenset[str]] = field(init=False, repr=False)
    _shared: SharedResources = field(init=False, repr=False)

    def __post_init__(self) -> None:
        state = PartitionState.load(self.work)
        if state is None:
            raise InvalidInputError(
                f"{self.work}: no patients partitioned here; on a cluster, --work must be a folder that all nodes share"
            )
        self.buckets = state.buckets
        self.not_fetched = PERSONAL - set(state.kinds) if state.exported else frozenset()
        self._incomplete = {patient: frozenset(kinds) for patient, kinds in state.incomplete.items()}
        self.faults = tuple(ExportFault(place, reason) for place, reason in state.faults)
        self.fault_count, self.unowned = state.fault_count, state.unowned
        self.resources, self.patient_count = state.resources, state.patients
        self._shared = SharedResources.reading(self.work / SHARED_FILE)

    def not_fetched_of(self, patient: str) -> frozenset[str]:
        """Returns the types that were not, or not all, fetched for this patient."""
        nothing: frozenset[str] = frozenset()
        return self.not_fetched | self._incomplete.get(ALL_PATIENTS, nothing) | self._incomplete.get(patient, nothing)

    def filled(self) -> list[int]:
        """Returns the numbers of the buckets that hold patients, in order."""
        return [number for number in range(self.buckets) if (self.work / bucket_name(number)).stat().st_size]

    def digests(self, numbers: Iterable[int]) -> list[str]:
        """Returns for each bucket the sha256 of all that its records depend on."""
        common = hashlib.sha256(repr([sorted(self.not_fetched), *self._sorted_incomplete()]).encode())
        for key, line in self._shared.all():
            common.update(b"%d %d " % (len(key), len(line)) + key.encode() + line)
        found = []
        for number in numbers:
            digest = common.copy()
            with (self.work / bucket_name(number)).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            found.append(digest.hexdigest())
        return found

    def _sorted_incomplete(self) -> list[tuple[str, list[str]]]:
        return [(patient, sorted(kinds)) for patient, kinds in sorted(self._incomplete.items())]

    def patients(self, prediction_time: datetime | None = None) -> Iterator[PatientRecord | ExportFault]:
        """Yields every patient as known at `prediction_time` (None: each at the latest time of its own data)."""
        for number in range(self.buckets):
            yield from self.bucket(number, prediction_time)

    def bucket(
        self, number: int, prediction_time: datetime | None = None, site_map: SiteMap | None = None
    ) -> Iterator[PatientRecord | ExportFault]:
        """Yields the patients of one bucket in the order of their ids."""
        for patient, lines in self.charts(number):
            yield self._record(patient, lines, prediction_time, site_map)

    def charts(self, number: int) -> Iterator[tuple[str, list[bytes]]]:
        """Yields id and resources (as JSON) of each patient of one bucket, with shared resources they refer to.

        A patient that is only referred to has no Patient resource.
        """
        path = self.work / bucket_name(number)
        lines: dict[bytes, list[bytes]] = {}
        with path.open("rb") as stream:
            for row in stream:
                patient, _, line = row.partition(b"\t")
                lines.setdefault(patient, []).append(line)
        for patient in sorted(lines):
            own = lines.pop(patient)
            # What the chart itself has comes last and so wins.
            yield patient.decode(), [*self._referenced(own), *own]

    def _record(
        self, patient: str, lines: list[bytes], at: datetime | None, site_map: SiteMap | None
    ) -> PatientRecord | ExportFault:
        try:
            entries = [ResourceEntry(line) for line in lines]
            not_fetched = self.not_fetched_of(patient)
            return PatientRecord.from_entries(entries, patient, at, not_fetched=not_fetched, site_map=site_map)
        except FhirMappingError as error:
            return ExportFault(f"Patient/{patient}", str(error))

    def _referenced(self, lines: Iterable[bytes]) -> list[bytes]:
        """Returns the shared resources that these lines refer to, directly or indirectly."""
        found: dict[str, bytes | None] = {}
        pending = list(lines)
        while pending:
            for key in {match.decode() for match in _REFERENCE.findall(pending.pop())} - found.keys():
                found[key] = self._shared.get(key)
                pending += filter(None, (found[key],))
        return [line for line in found.values() if line is not None]
