"""One line for each patient of a folder, on any number of workers: what `score` and `explain` of a folder share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from artifact_store import Parts
from cds_service.commands.shared.files import output_stream
from cds_service.commands.shared.model_sources import counting, report_line
from cds_service.commands.shared.parallel import Parallel
from fhir_mapping import FhirMappingError, SiteMap
from risk_model import Pipeline
from risk_model.cohorts import FhirFolder, FhirPart, PatientData
from risk_model.evaluation import Prediction, write_predictions

NAMED = 20
"""Faults shown one by one; the others are counted."""


class PatientLine(NamedTuple):
    """The line of a patient; `abstained` is the code of an abstention, "" for an estimate of `probability`."""

    text: bytes
    abstained: str
    prediction_time: datetime
    probability: float | None


class LineMaker(Protocol):
    """Makes the lines of a command; a value that can be sent to workers."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that the lines depend on beside the data, as JSON values."""
        ...

    def line(self, patient: PatientData) -> PatientLine:
        """Raises FhirMappingError for a patient that cannot be read."""
        ...

    def refusal(self, place: str, reason: str) -> bytes: ...


class PartLines(msgspec.Struct):
    """The lines of one part, and what is counted of its patients."""

    lines: bytes = b""
    patients: int = 0
    abstained: dict[str, int] = {}
    refused: list[tuple[str, str]] = []
    unread: dict[str, int] = {}
    estimates: list[tuple[str, datetime, float]] = []


@dataclass
class Counted:
    """Counts of a run. `refused` counts patients and files, the first of which are `named` with the reason."""

    answered: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, part: PartLines) -> None:
        self.answered += len(part.estimates)
        self.abstained.update(part.abstained)
        for place, reason in part.refused:
            self.refuse(place, reason)

    def refuse(self, place: str, reason: str) -> None:
        self.refused += 1
        if len(self.named) < NAMED:
            self.named.append((place, reason))


def line_settings(
    opened: tuple[Pipeline, str], as_of: datetime | None, site_map: SiteMap | None
) -> dict[str, str | None]:
    """Returns what estimates depend on beside the data."""
    pipeline, task = opened
    return {
        "task": task,
        "model": pipeline.models[task].fingerprint,
        "as_of": None if as_of is None else as_of.isoformat(),
        "site_map": None if site_map is None else site_map.fingerprint,
    }


def write_lines(
    folder: Path,
    maker: LineMaker,
    out: Path | None,
    parallel: Parallel,
    *,
    label: str,
    predictions: Path | None = None,
) -> Counted:
    """Writes the lines to `out`, atomically, or to standard output, in the order of patient ids within the folder's
    buckets.

    Files that cannot be read and patients without a Patient are refusals at the end. `predictions` is a parquet file
    to write the estimates to as well, in the schema of meds-evaluation.
    """
    counted = Counted()
    estimates: list[Prediction] = []
    with (
        parallel.folder(out) as work,
        FhirFolder(folder, report_line, strict=False, work=work) as source,
        counting(label) as progress,
    ):
        parts, listed, done = Parts(work, maker.settings), source.parts(), 0
        with output_stream(out) as stream:
            for raw in parts.results(partial(_part_lines, maker), listed, source.keys(listed), parallel.workers):
                part = msgspec.msgpack.decode(raw, type=PartLines)
                stream.write(part.lines)
                counted.add(part)
                source.count(part.unread)
                if predictions is not None:
                    estimates += (Prediction(*estimate) for estimate in part.estimates)
                done += part.patients
                progress(done, source.patient_count)
            for place, reason in _not_read(source):
                counted.refuse(place, reason)
                stream.write(maker.refusal(place, reason))
        if predictions is not None:
            write_predictions(predictions, estimates)
        parts.clear()
    return counted


def _part_lines(maker: LineMaker, part: FhirPart) -> bytes:
    """Makes the lines of the patients of one part, in a worker."""
    lines, found, abstained = [], PartLines(), Counter[str]()
    for patient in part.patients():
        found.patients += 1
        try:
            made = maker.line(patient)
        except FhirMappingError as error:
            place = f"Patient/{patient.subject_id}"
            found.refused.append((place, str(error)))
            lines.append(maker.refusal(place, str(error)))
            continue
        lines.append(made.text)
        if made.abstained:
            abstained[made.abstained] += 1
        elif made.probability is not None:
            found.estimates.append((patient.subject_id, made.prediction_time, made.probability))
    found.lines, found.abstained, found.unread = b"".join(lines), dict(abstained), part.unread
    return msgspec.msgpack.encode(found)


def _not_read(source: FhirFolder) -> Iterator[tuple[str, str]]:
    """Yields place and reason of what was not read, once all patients were."""
    for fault in source.faults:
        yield fault.place, fault.reason
    for subject, resources in source.without_patient.items():
        yield f"Patient/{subject}", f"no Patient resource with this id; {resources} resources name it"
