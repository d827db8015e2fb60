"""Reads patients from a folder of FHIR, one at a time: Bulk Data NDJSON, or one Bundle per file; plain or .gz.

A patient's resources may be in any file in any order: they are first distributed by patient into buckets on disk
(`fhir_mapping.bulk.population`), so that memory holds one bucket, whatever the size of the export. Location, Medication
and Binary resources are added to the patients that reference them. A resource type that is missing from the whole
folder counts as not fetched: an export without procedures does not mean that there were none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fhir_mapping.bulk import BUNDLES, LINES, partition_by_patient

Resource = dict[str, Any]
Progress = Callable[[str], None]
BUCKETS = 64
"""The minimum; the order of patients, and so of a cohort's rows, depends on it."""


@dataclass(frozen=True, slots=True)
class PatientData:
    """All the resources of one patient, its Patient first, and the folder's own split for it, if any."""

    subject_id: str
    resources: tuple[Resource, ...]
    split: str | None = None


class FhirFolder:
    """FhirFolder(path) reads a folder once; `.patients()` then yields PatientData in the order of their ids.

    Raises InvalidInputError for a folder without FHIR or without a Patient, and, with file and line, for invalid FHIR
    JSON. Resources without a proven patient are skipped and counted.
    """

    def __init__(self, folder: Path, progress: Progress = lambda _: None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="riskcards-cohort-")
        try:
            self._dealt = partition_by_patient(
                folder, Path(self._folder.name), progress, suffixes=LINES + BUNDLES, fewest=64, strict=True
            )
        except BaseException:
            self._folder.cleanup()
            raise
        found = self._dealt
        progress(f"{found.resources:,} resources, {found.patient_count:,} patients")
        if found.unowned:
            first = found.faults[0]
            progress(f"{found.unowned:,} resources left out, as {first.place}: {first.reason}")
        self.patient_count, self.not_fetched = found.patient_count, found.not_fetched
        self._without_patient = 0

    def __enter__(self) -> FhirFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def patients(self) -> Iterator[PatientData]:
        for number in range(self._dealt.buckets):
            for subject, lines in self._dealt.charts(number):
                resources: list[Resource] = [orjson.loads(line) for line in lines]
                resources.sort(key=lambda resource: resource["resourceType"] != "Patient")
                if resources[0]["resourceType"] == "Patient":
                    yield PatientData(subject, tuple(resources))
                else:
                    self._without_patient += len(resources)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Resources that are not used, by reason."""
        found = {
            "resources of nobody": self._dealt.unowned,
            "resources of a patient without a Patient": self._without_patient,
        }
        return {reason: number for reason, number in found.items() if number}
