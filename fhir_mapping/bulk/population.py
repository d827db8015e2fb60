"""Reads a Bulk Data export of any size as a stream of records; only one bucket of patients is in memory.

    found = partition_by_patient(folder, work)      # pass one: writes every line to the bucket of its patient, on disk
    for item in found.patients(prediction_time):    # pass two: one bucket after the other
        ...                                         # a PatientRecord, or an ExportFault for a patient without one

A folder has files as `export_files` reads them, each resource type in one or several, lines in any order. The state is
saved after each input file, so that an interrupted run resumes. A Bundle is a chart of its own: a type that it does
not have, the patient has none of, unless the Bundle says that matches are missing. In an export, one file to a type, a
type without any resource counts as not fetched.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

from fhir_mapping.bulk.export_files import (
    LINES,
    PERSONAL,
    IncompleteError,
    UnownedError,
    export_server,
    files_in,
    resources_of,
)
from fhir_mapping.core.errors import FhirMappingError, InvalidInputError
from fhir_mapping.parsing.resource_reader import ResourceEntry
from fhir_mapping.record.patient_record import PatientRecord
from fhir_mapping.resources.site_maps import SiteMap

NAMED_FAULTS = 1000
"""The number of faults kept; all are counted."""
_BUCKET_BYTES = 4 * 2**20  # features need about thirty times as many bytes
_MAX_BUCKETS = 384  # in pass one each bucket is an open file
_GZIP_RATIO = 12
# Absolute URLs too: their server may be another one, which the reader of the Binary decides.
_REFERENCE = re.compile(
    rb'"(?:https?://[^"\s]{1,500}/)?((?:Medication|Location|Binary)/[A-Za-z0-9\-._]{1,64})(?:/_history/[^"/]+)?"'
)
_STATE, _SHARED_FILE = "state.json", "shared.sqlite"
_ALL_PATIENTS = ""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportFault:
    """A line or patient that could not be used; `place` is `file:line` or the patient's key. All others are kept."""

    place: str
    reason: str


class _State(msgspec.Struct):
    """Progress of pass one, saved with the buckets; `ends` are the bucket sizes in bytes after the last input file."""

    inputs: list[tuple[str, int, int]]
    buckets: int
    server: str | None = None
    resources: int = 0
    patients: int = 0
    unowned: int = 0
    done: list[str] = []
    ends: dict[str, int] = {}
    kinds: list[str] = []
    exported: bool = False
    incomplete: dict[str, list[str]] = {}
    faults: list[tuple[str, str]] = []
    fault_count: int = 0

    def fault(self, place: str, error: InvalidInputError) -> None:
        if isinstance(error, IncompleteError):
            patient = error.patient or _ALL_PATIENTS
            self.incomplete[patient] = sorted(error.kinds.union(self.incomplete.get(patient, ())))
            return
        self.fault_count += 1
        self.unowned += isinstance(error, UnownedError)
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append((place, str(error)))


def partition_by_patient(
    folder: Path,
    work: Path,
    progress: Progress | None = None,
    *,
    suffixes: tuple[str, ...] = LINES,
    fewest: int = 4,
    strict: bool = False,
) -> PatientPartitions:
    """Returns the resources of `folder`, partitioned by patient in `work`; an interrupted run on the same input
    resumes.

    Raises InvalidInputError if the folder has no file with one of the suffixes, or no Patient; with `strict` also for
    the first line that cannot be read, naming its place. Resources without a patient are counted in any case. There
    are at least `fewest` buckets; patients come in the order of the buckets.
    """
    files = files_in(folder, suffixes)
    root = folder if folder.is_dir() else folder.parent
    work.mkdir(parents=True, exist_ok=True)
    state = _resume_or_start(work, files, root, fewest)

    def report(place: str, error: InvalidInputError) -> None:
        state.fault(place, error)
        if strict and not isinstance(error, UnownedError):
            raise InvalidInputError(f"{root / place}: {error}")

    for path in files:
        name = str(path.relative_to(root))
        if name in state.done:
            continue
        _partition_file(path, name, work, state, report)
        state.done.append(name)
        _save(work, state)
        if progress is not None:
            progress(f"{len(state.done)} of {len(files)} files partitioned")
    if not state.patients:
        raise InvalidInputError(f"{folder}: no Patient in {len(files)} files")
    return PatientPartitions(work)


def _resume_or_start(work: Path, files: Sequence[Path], root: Path, fewest: int) -> _State:
    """Returns the state of an earlier run on the same files, with partly written lines removed, else a new one."""
    listed = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    state = _load(work)
    if state is None or state.inputs != listed:
        size = sum(n * (_GZIP_RATIO if name.endswith(".gz") else 1) for name, n, _ in listed)
        server = export_server(path for path in root.glob("*.json") if path.is_file())
        state = _State(listed, min(max(size // _BUCKET_BYTES, fewest), _MAX_BUCKETS), server)
        (work / _SHARED_FILE).unlink(missing_ok=True)
    for path in work.glob("*.ndjson"):
        with path.open("r+b") as stream:
            stream.truncate(state.ends.get(path.name, 0))
    return state


def _load(work: Path) -> _State | None:
    try:
        return msgspec.json.decode((work / _STATE).read_bytes(), type=_State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _save(work: Path, state: _State) -> None:
    state.ends = {path.name: path.stat().st_size for path in work.glob("*.ndjson")}
    (work / f"{_STATE}.new").write_bytes(msgspec.json.encode(state))
    (work / f"{_STATE}.new").replace(work / _STATE)


def _partition_file(
    path: Path, name: str, work: Path, state: _State, fault: Callable[[str, InvalidInputError], None]
) -> None:
    kinds = set(state.kinds)
    with ExitStack() as stack:
        buckets = [stack.enter_context((work / _bucket(n)).open("ab")) for n in range(state.buckets)]
        shared = stack.enter_context(_Shared.writing(work / _SHARED_FILE))
        for kind, owner, line, common, of_bundle in resources_of(path, name, state.server, fault):
            kinds.add(kind)
            state.exported = state.exported or (kind in PERSONAL and not of_bundle)
            state.resources += 1
            state.patients += kind == "Patient"
            if common:
                shared.put(f"{kind}/{owner.decode()}", line)
            elif owner:
                _write(buckets[zlib.crc32(owner) % state.buckets], owner, line)
    state.kinds = sorted(kinds)


def _write(bucket: IO[bytes], patient: bytes, line: bytes) -> None:
    bucket.write(b"%b\t%b\n" % (patient, line))


@dataclass(frozen=True, slots=True)
class _Shared:
    """Resources shared by patients, on disk by `Type/id`: the notes of an export are larger than memory."""

    database: sqlite3.Connection

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[_Shared]:
        """Opens for writing in one transaction per input file; a repeated file overwrites its own lines."""
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS shared (key TEXT PRIMARY KEY, line BLOB NOT NULL)")
            yield cls(database)

    @classmethod
    def reading(cls, path: Path) -> _Shared:
        return cls(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True))

    def put(self, key: str, line: bytes) -> None:
        self.database.execute("INSERT OR REPLACE INTO shared VALUES (?, ?)", (key, line))

    def get(self, key: str) -> bytes | None:
        found = self.database.execute("SELECT line FROM shared WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]


def _bucket(number: int) -> str:
    return f"bucket-{number:03d}.ndjson"


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
    _shared: _Shared = field(init=False, repr=False)

    def __post_init__(self) -> None:
        state = _load(self.work)
        if state is None:
            raise InvalidInputError(f"{self.work}: not a work folder of partition_by_patient")
        self.buckets = state.buckets
        self.not_fetched = PERSONAL - set(state.kinds) if state.exported else frozenset()
        self._incomplete = {patient: frozenset(kinds) for patient, kinds in state.incomplete.items()}
        self.faults = tuple(ExportFault(place, reason) for place, reason in state.faults)
        self.fault_count, self.unowned = state.fault_count, state.unowned
        self.resources, self.patient_count = state.resources, state.patients
        self._shared = _Shared.reading(self.work / _SHARED_FILE)

    def not_fetched_of(self, patient: str) -> frozenset[str]:
        """Returns the types that were not, or not all, fetched for this patient."""
        nothing: frozenset[str] = frozenset()
        return self.not_fetched | self._incomplete.get(_ALL_PATIENTS, nothing) | self._incomplete.get(patient, nothing)

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
        path = self.work / _bucket(number)
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
