"""`riskcards map FOLDER`: JSON Lines or a MEDS dataset of every patient, on one or several processes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import orjson

from artifact_store import atomic_file
from cds_service.commands.shared.files import bundle_files, line_files
from fhir_mapping import PatientRecord, SiteMap
from fhir_mapping.bulk import BUNDLES, LINES, ExportFault, PatientPartitions, partition_by_patient
from fhir_mapping.record import MedsEvent, meds_events

if TYPE_CHECKING:
    from cds_service.commands.patients.findings_reader import FindingsReader
    from risk_model.deidentification import Deidentifier

FORMS = ("features", "notes", "findings", "markdown", "codes", "meds")
NAMED = 20  # faults shown one by one; the others are counted

Mapped = tuple[str, bytes | tuple[MedsEvent, ...]]


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

    def of(self, record: PatientRecord) -> Mapped:
        if self.deidentifier is not None:
            record = self.deidentifier.record(record)
        if self.name == "meds":
            return record.subject_id, meds_events(record)
        return record.subject_id, orjson.dumps(self.document(record), option=orjson.OPT_APPEND_NEWLINE)


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


def map_folder(
    folder: Path, form: Form, *, out: Path | None, work: Path | None, processes: int, splits: bool = False
) -> int:
    """Maps every patient of a folder; returns the number of unreadable lines, files and patients."""
    faults, resumable = _Faults(), work is not None
    with ExitStack() as stack:
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riskcards-map-")))
        if not (line_files(folder) or bundle_files(folder)):
            raise click.UsageError(f"{folder}: no .ndjson, .ndjson.gz, .json or .json.gz file in this folder")
        dealt = partition_by_patient(
            folder, work / "buckets", lambda text: click.echo(text, err=True), suffixes=LINES + BUNDLES
        )
        faults.add_all(dealt.faults, dealt.fault_count)
        if resumable and form.name != "meds" and out is not None:
            return faults.report(_resumable(dealt, form, processes, out, work / "written.json", faults))
        kept = (item for batch in mapped_buckets(dealt, form, processes) for item in batch)
        if form.name == "meds":
            assert out is not None
            return faults.report(_to_dataset(kept, out, faults, splits=splits))
        stream = stack.enter_context(atomic_file(out)) if out is not None else sys.stdout.buffer
        return faults.report(sum(_write(stream, item, faults) for item in kept))


def mapped_buckets(
    dealt: PatientPartitions, form: Form, processes: int, first: int = 0
) -> Iterator[list[Mapped | ExportFault]]:
    """Yields the mapped patients bucket by bucket, in order; at most processes + 1 buckets are in memory."""
    numbers = iter(range(first, dealt.buckets))
    if processes == 1:
        yield from (_bucket(dealt, form, number) for number in numbers)
        return
    job = partial(_bucket_of, str(dealt.work), form)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(job, number) for number in islice(numbers, processes + 1)]
        while running:
            yield running.pop(0).result()
            running.extend(pool.submit(job, number) for number in islice(numbers, 1))


_OPENED: dict[str, PatientPartitions] = {}


def _bucket_of(work: str, form: Form, number: int) -> list[Mapped | ExportFault]:
    """Maps a bucket in a worker process, which opens the work folder once."""
    if work not in _OPENED:
        _OPENED[work] = PatientPartitions(Path(work))
    return _bucket(_OPENED[work], form, number)


def _bucket(dealt: PatientPartitions, form: Form, number: int) -> list[Mapped | ExportFault]:
    return [
        item if isinstance(item, ExportFault) else form.of(item)
        for item in dealt.bucket(number, form.as_of, form.site_map)
    ]


def _resumable(dealt: PatientPartitions, form: Form, processes: int, out: Path, state: Path, faults: _Faults) -> int:
    """Writes JSON Lines bucket by bucket and records the progress, so that the same command resumes."""
    key = [str(out.resolve()), form.name, form.budget, None if form.as_of is None else form.as_of.isoformat()]
    if form.deidentifier is not None:
        key.append(form.deidentifier.fingerprint)
    done, size, patients = 0, 0, 0
    if state.exists() and out.exists():
        earlier = orjson.loads(state.read_bytes())
        if earlier["key"] == key and out.stat().st_size >= earlier["bytes"]:
            done, size, patients = earlier["buckets"], earlier["bytes"], earlier["patients"]
    with out.open("r+b" if size else "wb") as stream:
        stream.truncate(size)
        stream.seek(size)
        for number, batch in enumerate(mapped_buckets(dealt, form, processes, done), start=done + 1):
            patients += sum(_write(stream, item, faults) for item in batch)
            stream.flush()
            progress = {"key": key, "buckets": number, "bytes": stream.tell(), "patients": patients}
            state.write_bytes(orjson.dumps(progress))
            click.echo(f"{number} of {dealt.buckets} parts mapped, {patients} patients", err=True)
    return patients


def _write(stream: IO[bytes], item: Mapped | ExportFault, faults: _Faults) -> int:
    if isinstance(item, ExportFault):
        faults.add_all([item], 1)
        return 0
    assert isinstance(item[1], bytes)
    stream.write(item[1])
    return 1


def _to_dataset(found: Iterable[Mapped | ExportFault], out: Path, faults: _Faults, *, splits: bool) -> int:
    from fhir_mapping.bulk import MedsWriter

    patients = 0
    with MedsWriter(out, created_at=datetime.now(UTC), version=version("riskcards"), splits=splits) as dataset:
        for item in found:
            if isinstance(item, ExportFault):
                faults.add_all([item], 1)
                continue
            assert isinstance(item[1], tuple)
            dataset.add_events(item[0], item[1])
            patients += 1
    return patients


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
