"""A Bulk Data export as a stream of records: any number of patients, in memory never more than one bucket of them.

    dealt = deal(folder, work)                      # pass one: every line to the bucket of its patient, on disk
    for item in dealt.patients(prediction_time):    # pass two: one bucket after the other
        ...                                         # a PatientRecord, or a ExportFault that names what could not be one

A folder holds files as `export_files` reads them, each resource type in one or several, lines in any order. After each
input file the state is written down: a run that was stopped goes on where it was. A type of resource of which the
folder has none at all counts as not fetched.
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

from fhir_mapping.bulk.export_files import LINES, PERSONAL, SHARED, UnownedError, files_in, home_of, resources_of
from fhir_mapping.core.errors import FhirMappingError, InvalidInputError
from fhir_mapping.parsing.resource_reader import ResourceEntry
from fhir_mapping.record.patient_record import PatientRecord
from fhir_mapping.resources.site_maps import SiteMap

NAMED_FAULTS = 1000
"""So many faults are named; all are counted."""
_BUCKET_BYTES = 4 * 2**20  # of which come thirty times as many bytes of features
_MOST = 384  # in pass one each bucket is an open file
_GZIP_RATIO = 12
# Also at an absolute URL: that the Binary is here, but perhaps another server's, is what its reader has to be told.
_POINTER = re.compile(
    rb'"(?:https?://[^"\s]{1,500}/)?((?:Medication|Location|Binary)/[A-Za-z0-9\-._]{1,64})(?:/_history/[^"/]+)?"'
)
_STATE, _SHARED_FILE = "state.json", "shared.sqlite"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportFault:
    """A line or a patient that could not be used, while everything else was kept; `place` is `file:line` or its key."""

    place: str
    reason: str


class _State(msgspec.Struct):
    """What pass one has done, on disk beside the buckets; `ends` are the sizes of the files after the last input."""

    inputs: list[tuple[str, int, int]]
    buckets: int
    home: str | None = None
    resources: int = 0
    patients: int = 0
    unowned: int = 0
    done: list[str] = []
    ends: dict[str, int] = {}
    kinds: list[str] = []
    faults: list[tuple[str, str]] = []
    fault_count: int = 0

    def fault(self, place: str, why: InvalidInputError) -> None:
        self.fault_count += 1
        self.unowned += isinstance(why, UnownedError)
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append((place, str(why)))


def partition_by_patient(
    folder: Path,
    work: Path,
    progress: Progress | None = None,
    *,
    suffixes: tuple[str, ...] = LINES,
    fewest: int = 4,
    strict: bool = False,
) -> PatientPartitions:
    """Pass one. `work` is a folder of our own; one that was left half done, by the same input, is gone on with.

    Raises InvalidInputError when the folder has no file with one of the suffixes, or no Patient in it; with `strict`
    for the first line that cannot be read too, naming its place. What belongs to nobody is counted either way. There
    are at least `fewest` buckets, which the order of the patients follows.
    """
    files = files_in(folder, suffixes)
    root = folder if folder.is_dir() else folder.parent
    work.mkdir(parents=True, exist_ok=True)
    state = _begun(work, files, root, fewest)

    def complain(place: str, why: InvalidInputError) -> None:
        state.fault(place, why)
        if strict and not isinstance(why, UnownedError):
            raise InvalidInputError(f"{root / place}: {why}")

    for path in files:
        name = str(path.relative_to(root))
        if name in state.done:
            continue
        _deal_file(path, name, work, state, complain)
        state.done.append(name)
        _save(work, state)
        if progress is not None:
            progress(f"{len(state.done)} of {len(files)} files dealt")
    if not state.patients:
        raise InvalidInputError(f"{folder}: no Patient in {len(files)} files; a population needs its patients")
    return PatientPartitions(work)


def _begun(work: Path, files: Sequence[Path], root: Path, fewest: int) -> _State:
    """The state of an earlier run on the same files, its half-written tails cut off; else a fresh one."""
    listed = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    state = _load(work)
    if state is None or state.inputs != listed:
        size = sum(n * (_GZIP_RATIO if name.endswith(".gz") else 1) for name, n, _ in listed)
        home = home_of(path for path in root.glob("*.json") if path.is_file())
        state = _State(listed, min(max(size // _BUCKET_BYTES, fewest), _MOST), home)
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


def _deal_file(
    path: Path, name: str, work: Path, state: _State, fault: Callable[[str, InvalidInputError], None]
) -> None:
    kinds = set(state.kinds)
    with ExitStack() as stack:
        buckets = [stack.enter_context((work / _bucket(n)).open("ab")) for n in range(state.buckets)]
        shared = stack.enter_context(_Shared.writing(work / _SHARED_FILE))
        for kind, owner, line in resources_of(path, name, state.home, fault):
            kinds.add(kind)
            state.resources += 1
            state.patients += kind == "Patient"
            if kind in SHARED:
                shared.put(f"{kind}/{owner.decode()}", line)
            elif owner:
                _write(buckets[zlib.crc32(owner) % state.buckets], owner, line)
    state.kinds = sorted(kinds)


def _write(bucket: IO[bytes], patient: bytes, line: bytes) -> None:
    bucket.write(b"%b\t%b\n" % (patient, line))


@dataclass(frozen=True, slots=True)
class _Shared:
    """What patients share, on disk by `Type/id`: the notes of an export are larger than memory."""

    database: sqlite3.Connection

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[_Shared]:
        """All of one input file or nothing of it: a file dealt again puts the same lines in the same places."""
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
    """The buckets of pass one. Another process may open the same `work` folder and read other buckets."""

    work: Path
    buckets: int = field(init=False)
    not_fetched: frozenset[str] = field(init=False)
    faults: tuple[ExportFault, ...] = field(init=False)
    fault_count: int = field(init=False)
    unowned: int = field(init=False)
    resources: int = field(init=False)
    patient_count: int = field(init=False)
    _shared: _Shared = field(init=False, repr=False)

    def __post_init__(self) -> None:
        state = _load(self.work)
        if state is None:
            raise InvalidInputError(f"{self.work}: not the work folder of a population")
        self.buckets = state.buckets
        self.not_fetched = PERSONAL - set(state.kinds)
        self.faults = tuple(ExportFault(place, reason) for place, reason in state.faults)
        self.fault_count, self.unowned = state.fault_count, state.unowned
        self.resources, self.patient_count = state.resources, state.patients
        self._shared = _Shared.reading(self.work / _SHARED_FILE)

    def patients(self, prediction_time: datetime | None = None) -> Iterator[PatientRecord | ExportFault]:
        """Every patient as known at `prediction_time` (None: each at the latest time of its own data)."""
        for number in range(self.buckets):
            yield from self.bucket(number, prediction_time)

    def bucket(
        self, number: int, prediction_time: datetime | None = None, site_map: SiteMap | None = None
    ) -> Iterator[PatientRecord | ExportFault]:
        """The patients of one bucket in the order of their ids."""
        for patient, lines in self.charts(number):
            yield self._record(patient, lines, prediction_time, site_map)

    def charts(self, number: int) -> Iterator[tuple[str, list[bytes]]]:
        """The resources of each patient of one bucket, as JSON, with those they point at; a patient that only others
        name has no Patient among them.
        """
        path = self.work / _bucket(number)
        lines: dict[bytes, list[bytes]] = {}
        with path.open("rb") as stream:
            for row in stream:
                patient, _, line = row.partition(b"\t")
                lines.setdefault(patient, []).append(line)
        for patient in sorted(lines):
            own = lines.pop(patient)
            yield patient.decode(), [*own, *self._pointed_at(own)]

    def _record(
        self, patient: str, lines: list[bytes], at: datetime | None, site_map: SiteMap | None
    ) -> PatientRecord | ExportFault:
        try:
            entries = [ResourceEntry(line) for line in lines]
            return PatientRecord.from_entries(entries, patient, at, not_fetched=self.not_fetched, site_map=site_map)
        except FhirMappingError as error:
            return ExportFault(f"Patient/{patient}", str(error))

    def _pointed_at(self, lines: Iterable[bytes]) -> list[bytes]:
        """The shared resources these lines refer to, and what those refer to."""
        found: dict[str, bytes | None] = {}
        waiting = list(lines)
        while waiting:
            for key in {match.decode() for match in _POINTER.findall(waiting.pop())} - found.keys():
                found[key] = self._shared.get(key)
                waiting += filter(None, (found[key],))
        return [line for line in found.values() if line is not None]
