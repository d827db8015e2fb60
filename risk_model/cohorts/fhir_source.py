"""Reads patients from a folder of FHIR, one at a time: Bulk Data NDJSON, or one Bundle per file; plain or .gz.

A patient's resources may be in any file in any order: they are first distributed by patient into buckets on disk
(`fhir_mapping.bulk.population`), so that memory holds one bucket, whatever the size of the export. Location, Medication
and Binary resources are added to the patients that reference them. A resource type that is missing from a whole export
counts as not fetched: an export without procedures does not mean that there were none. A Bundle is read as `FILE` is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from fhir_mapping import PatientRecord, SiteMap
from fhir_mapping.bulk import BUNDLES, LINES, ExportFault, PatientPartitions, partition_by_patient

Resource = dict[str, Any]
Progress = Callable[[str], None]
BUCKETS = 64
"""The minimum; the order of patients, and so of a cohort's rows, depends on it."""
_NAMED = 8


@dataclass(frozen=True, slots=True)
class PatientData:
    """All the resources of one patient, its Patient first, the folder's own split for it, if any, and the types that
    were not, or not all, fetched."""

    subject_id: str
    resources: tuple[Resource, ...]
    split: str | None = None
    not_fetched: frozenset[str] = frozenset()
    well_formed: bool = False
    """The resources were made here, so that none is malformed or another patient's."""

    def record(self, at: datetime | None, site_map: SiteMap | None = None) -> PatientRecord:
        """Returns the record as known at a time (None: the latest in the data). Raises FhirMappingError."""
        return PatientRecord.from_resources(
            self.resources, self.subject_id, at, not_fetched=self.not_fetched, site_map=site_map
        )


@dataclass
class FhirPart:
    """A bucket of patients; `unread` fills, as it is read, with patient ids without a Patient and the number of their
    resources."""

    work: Path
    number: int
    unread: dict[str, int] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def patients(self) -> Iterator[PatientData]:
        dealt = PatientPartitions(self.work)
        for subject, lines in dealt.charts(self.number):
            resources: list[Resource] = [orjson.loads(line) for line in lines]
            resources.sort(key=lambda resource: resource["resourceType"] != "Patient")
            if resources[0]["resourceType"] == "Patient":
                yield PatientData(subject, tuple(resources), not_fetched=dealt.not_fetched_of(subject))
            else:
                self.unread[subject] = len(resources)


class FhirFolder:
    """FhirFolder(path) reads a folder once; `.patients()` then yields PatientData in the order of their ids.

    `work` is a folder for the buckets, where an interrupted run on the same input resumes; without it they are
    temporary.

    Raises InvalidInputError for a folder without FHIR or without a Patient, and, if `strict`, with file and line, for
    invalid FHIR JSON and incomplete Bundles; else `faults` names what cannot be read, and the types that an incomplete
    Bundle lacks count as not fetched. Resources without a proven patient are skipped and counted, patients without a
    Patient named.
    """

    def __init__(
        self, folder: Path, progress: Progress = lambda _: None, *, strict: bool = True, work: Path | None = None
    ) -> None:
        self._progress = progress
        self._folder = None if work is not None else tempfile.TemporaryDirectory(prefix="riskcards-cohort-")
        buckets = Path(self._folder.name) if self._folder is not None else (work or Path()) / "buckets"
        try:
            self._dealt = partition_by_patient(
                folder, buckets, progress, suffixes=LINES + BUNDLES, fewest=BUCKETS, strict=strict
            )
        except BaseException:
            self._clean_up()
            raise
        found = self._dealt
        progress(f"{found.resources:,} resources, {found.patient_count:,} patients")
        if found.unowned:
            first = found.faults[0]
            progress(f"{found.unowned:,} resources left out, as {first.place}: {first.reason}")
        self.patient_count, self.not_fetched = found.patient_count, found.not_fetched
        self.without_patient: dict[str, int] = {}

    def __enter__(self) -> FhirFolder:
        return self

    @property
    def faults(self) -> tuple[ExportFault, ...]:
        """The files, lines and resources that were not read, at most `NAMED_FAULTS` of them."""
        return self._dealt.faults

    def __exit__(self, *_: object) -> None:
        if self.without_patient:
            named = ", ".join(list(self.without_patient)[:_NAMED])
            self._progress(f"{len(self.without_patient):,} patients left out, without a Patient resource: {named}")
        self._clean_up()

    def _clean_up(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def patients(self) -> Iterator[PatientData]:
        for part in self.parts():
            yield from part.patients()
            self.count(part.unread)

    def parts(self) -> Sequence[FhirPart]:
        """Returns the patients in parts that other processes can read, in order."""
        return [FhirPart(self._dealt.work, number) for number in self._dealt.filled()]

    def keys(self, parts: Sequence[FhirPart]) -> list[str]:
        """Returns for each part the hash of its content."""
        return self._dealt.digests(part.number for part in parts)

    def count(self, unread: Mapping[str, int], _met: Collection[str] = ()) -> None:
        """Adds what was left out of a part, once its patients were read."""
        self.without_patient |= unread

    @property
    def left_out(self) -> Mapping[str, int]:
        """Resources that are not used, by reason."""
        found = {
            "resources of nobody": self._dealt.unowned,
            "resources of a patient without a Patient": sum(self.without_patient.values()),
        }
        return {reason: number for reason, number in found.items() if number}
