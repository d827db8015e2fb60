"""`riskcards map FOLDER`: JSON Lines or a MEDS dataset of every patient, on any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import orjson

from artifact_store import Parts
from cds_service.commands.shared.files import bundle_files, line_files, output_stream
from cds_service.commands.shared.model_sources import counting, report_line
from cds_service.commands.shared.parallel import Parallel
from fhir_mapping import PatientRecord, SiteMap
from fhir_mapping.bulk import BUNDLES, LINES, ExportFault, PatientPartitions, partition_by_patient
from fhir_mapping.record import MedsEvent, meds_events

if TYPE_CHECKING:
    from cds_service.commands.patients.findings_reader import FindingsReader
    from risk_model.deidentification import Deidentifier

FORMS = ("features", "notes", "findings", "markdown", "codes", "meds")
NAMED = 20  # faults shown one by one; the others are counted


@dataclass(frozen=True, slots=True)
class Form:
    """The output format for each record."""

    name: str
    budget: int
    as_of: datetime | None
    site_map: SiteMap | None = None
    deidentifier: Deidentifier | None = None

    def document(self, record: PatientRecord) -> dict[str, object]:
        """Returns the record as the document of `--json`. The record is de-identified already (`of`)."""
        if self.name == "features":
            return record.features().to_json()
        head: dict[str, object] = {
            "subject_id": record.subject_id,
            "prediction_time": record.prediction_time.isoformat(),
        }
        if self.name == "notes":
            return head | {"notes": [note.to_json() for note in record.notes()], "refused": _refused_notes(record)}
        if self.name == "findings":
            return head | _findings_reader().document(record.notes(), record.refused)
        if self.name == "meds":
            return head | {"meds": list(record.to_meds())}
        text = record.to_markdown(self.budget) if self.name == "markdown" else record.to_codes(self.budget)
        return head | {self.name: text}

    @property
    def settings(self) -> dict[str, Any]:
        """All that the documents depend on beside the data, as JSON values."""
        return {
            "lines": self.name,
            "budget": self.budget,
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "site_map": None if self.site_map is None else self.site_map.fingerprint,
            "deidentifier": None if self.deidentifier is None else self.deidentifier.fingerprint,
        }


def _refused_notes(record: PatientRecord) -> list[dict[str, str]]:
    """Returns the refusals of notes and of parts of them."""
    return [
        {"source": refusal.source, "reason": refusal.reason} | ({"detail": refusal.detail} if refusal.detail else {})
        for refusal in record.refused
        if refusal.source.startswith(("DocumentReference/", "Composition/", "DiagnosticReport/"))
    ]


@cache
def _findings_reader() -> FindingsReader:
    """Returns the reader of this process; only `--to findings` opens a vocabulary."""
    from cds_service.commands.patients.findings_reader import FindingsReader

    return FindingsReader()


class MappedPart(msgspec.Struct):
    """The patients of a part: as lines, or with `--to meds` the events of each."""

    patients: int = 0
    lines: bytes = b""
    events: list[tuple[str, tuple[MedsEvent, ...]]] = []
    faults: list[ExportFault] = []


def map_folder(folder: Path, form: Form, *, out: Path | None, parallel: Parallel, splits: bool = False) -> int:
    """Maps every patient of a folder; returns the number of unreadable lines, files and patients."""
    faults = _Faults()
    if not (line_files(folder) or bundle_files(folder)):
        raise click.UsageError(f"{folder}: no .ndjson, .ndjson.gz, .json or .json.gz file in this folder")
    with parallel.folder(out) as work, counting("patients mapped") as progress:
        dealt = partition_by_patient(folder, work / "buckets", report_line, suffixes=LINES + BUNDLES)
        faults.add_all(dealt.faults, dealt.fault_count)
        parts, numbers = Parts(work, form.settings), dealt.filled()
        found = _decoded(
            parts.results(partial(_part, dealt.work, form), numbers, dealt.digests(numbers), parallel.workers)
        )
        patients = 0
        with _output(form, out, splits=splits) as write:
            for part in found:
                write(part)
                faults.add_all(part.faults, len(part.faults))
                patients += part.patients
                progress(patients, dealt.patient_count)
        parts.clear()
    return faults.report(patients)


def _decoded(results: Iterable[bytes]) -> Iterator[MappedPart]:
    return (msgspec.msgpack.decode(result, type=MappedPart) for result in results)


def _part(work: Path, form: Form, number: int) -> bytes:
    """Maps the patients of one bucket, in a worker."""
    found, lines = MappedPart(), []
    for item in PatientPartitions(work).bucket(number, form.as_of, form.site_map):
        if isinstance(item, ExportFault):
            found.faults.append(item)
            continue
        record = item if form.deidentifier is None else form.deidentifier.record(item)
        found.patients += 1
        if form.name == "meds":
            found.events.append((record.subject_id, meds_events(record)))
        else:
            lines.append(orjson.dumps(form.document(record), option=orjson.OPT_APPEND_NEWLINE))
    found.lines = b"".join(lines)
    return msgspec.msgpack.encode(found)


@contextmanager
def _output(form: Form, out: Path | None, *, splits: bool) -> Iterator[Callable[[MappedPart], object]]:
    """Yields what writes a part to `out`, atomically, or to standard output."""
    if form.name == "meds":
        from fhir_mapping.bulk import MedsWriter

        assert out is not None
        with MedsWriter(out, created_at=datetime.now(UTC), version=version("riskcards"), splits=splits) as dataset:

            def write(part: MappedPart) -> None:
                for subject, events in part.events:
                    dataset.add_events(subject, events)

            yield write
        return
    with output_stream(out) as stream:
        yield lambda part: stream.write(part.lines)


class _Faults:
    """Counts unreadable input; the first NAMED faults are printed."""

    def __init__(self) -> None:
        self._named: list[ExportFault] = []
        self._count = 0

    def add_all(self, found: Iterable[ExportFault], count: int) -> None:
        self._named.extend(islice(found, NAMED - len(self._named)))
        self._count += count

    def report(self, patients: int) -> int:
        """Prints the summary to standard error and returns the number of faults."""
        for fault in self._named:
            click.echo(f"{fault.place}: {fault.reason}", err=True)
        if self._count > len(self._named):
            click.echo(f"... and {self._count - len(self._named)} more", err=True)
        click.echo(f"{patients} patients mapped, {self._count} lines or patients not readable", err=True)
        return self._count
