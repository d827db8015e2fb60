"""A Bulk Data export as a stream of records: any number of patients, in memory never more than one bucket of them.

    dealt = deal(folder, work)                      # pass one: every line to the bucket of its patient, on disk
    for item in dealt.patients(prediction_time):    # pass two: one bucket after the other
        ...                                         # a PatientRecord, or a Fault that names what could not be one

A folder holds `*.ndjson` and `*.ndjson.gz`, each resource type in one or several files, lines in any order
(https://hl7.org/fhir/uv/bulkdata/). After each input file the state is written down: a run that was stopped goes on
where it was. A type of resource of which the folder has none at all counts as not fetched.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypedDict

import msgspec

from fhir_mapping.belonging import CLINICAL, NOTE_TYPES
from fhir_mapping.errors import FhirMappingError, InvalidInputError
from fhir_mapping.reading import Entry, check_utf8
from fhir_mapping.record import PatientRecord
from fhir_mapping.site_map import SiteMap

SUFFIXES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
MAX_LINE = 64 * 2**20
NAMED_FAULTS = 1000
"""So many faults are named; all are counted."""
_BUCKET_BYTES = 4 * 2**20  # of which come thirty times as many bytes of features
_FEWEST, _MOST = 4, 384  # in pass one each bucket is an open file
_GZIP_RATIO = 12
_PERSONAL = CLINICAL | NOTE_TYPES
# They name nobody: a patient comes with those its resources point at (a drug, a bed and its ward, a note's bytes).
_SHARED = frozenset({"Medication", "Location", "Binary"})
_POINTER = re.compile(rb'"((?:Medication|Location|Binary)/[A-Za-z0-9\-.]{1,64})"')
_PATIENT = re.compile(r"(?:Patient/)?([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?\Z")
_STATE, _SHARED_FILE = "state.json", "shared.sqlite"

Progress = Callable[[str], None]


class _Owner(TypedDict, total=False):
    resourceType: Any
    id: Any
    subject: Any
    patient: Any


_OWNER = msgspec.json.Decoder(_Owner)


@dataclass(frozen=True, slots=True)
class Fault:
    """A line or a patient that could not be used, while everything else was kept; `place` is `file:line` or its key."""

    place: str
    reason: str


class _State(msgspec.Struct):
    """What pass one has done, on disk beside the buckets; `ends` are the sizes of the files after the last input."""

    inputs: list[tuple[str, int, int]]
    buckets: int
    done: list[str] = []
    ends: dict[str, int] = {}
    kinds: list[str] = []
    faults: list[tuple[str, str]] = []
    fault_count: int = 0

    def fault(self, place: str, reason: str) -> None:
        self.fault_count += 1
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append((place, reason))


def deal(folder: Path, work: Path, progress: Progress | None = None) -> Dealt:
    """Pass one. `work` is a folder of our own; one that was left half done, by the same input, is gone on with.

    Raises InvalidInputError when the folder has no NDJSON, or no Patient in it.
    """
    files = tuple(p for p in sorted(folder.rglob("*")) if p.is_file() and p.name.endswith(SUFFIXES))
    if not files:
        raise InvalidInputError(f"{folder}: no file ending in {', '.join(SUFFIXES)} in this folder")
    work.mkdir(parents=True, exist_ok=True)
    state = _begun(work, files, folder)
    for path in files:
        name = str(path.relative_to(folder))
        if name in state.done:
            continue
        _deal_file(path, name, work, state)
        state.done.append(name)
        _save(work, state)
        if progress is not None:
            progress(f"{len(state.done)} of {len(files)} files dealt")
    if "Patient" not in state.kinds:
        raise InvalidInputError(f"{folder}: no Patient in {len(files)} files; a population needs its patients")
    return Dealt(work)


def _begun(work: Path, files: Iterable[Path], folder: Path) -> _State:
    """The state of an earlier run on the same files, its half-written tails cut off; else a fresh one."""
    listed = [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    state = _load(work)
    if state is None or state.inputs != listed:
        size = sum(n * (_GZIP_RATIO if name.endswith(".gz") else 1) for name, n, _ in listed)
        state = _State(listed, min(max(size // _BUCKET_BYTES, _FEWEST), _MOST))
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


def _deal_file(path: Path, name: str, work: Path, state: _State) -> None:
    kinds = set(state.kinds)
    with ExitStack() as stack:
        buckets = [stack.enter_context((work / _bucket(n)).open("ab")) for n in range(state.buckets)]
        shared = stack.enter_context(_Shared.writing(work / _SHARED_FILE))
        for number, line in lines_of(path, name, state.fault):
            try:
                kind, owner = _owner(line)
            except InvalidInputError as error:
                state.fault(f"{name}:{number}", str(error))
                continue
            kinds.add(kind)
            if kind in _SHARED:
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


def lines_of(path: Path, name: str, fault: Callable[[str, str], None]) -> Iterator[tuple[int, bytes]]:
    """The numbered lines of a file, plain or .gz; `fault(place, reason)` hears where it cannot be read any further."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise OSError(f"a line longer than {MAX_LINE // 2**20} MiB")
                line = line.strip().removeprefix(b"\xef\xbb\xbf")
                if line:
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        fault(f"{name}:{number + 1}", f"cannot be read any further: {error}")


def _owner(line: bytes) -> tuple[str, bytes]:
    """(type, patient id), (type, own id) of what is shared, (type, nothing) of what is not read.

    Raises InvalidInputError for a line that is no resource, or a clinical one whose patient cannot be told.
    """
    check_utf8(line)
    try:
        head = _OWNER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(f"not a FHIR resource: {error}") from None
    kind, identifier = head.get("resourceType"), head.get("id")
    if not isinstance(kind, str):
        raise InvalidInputError("a resource without resourceType")
    if kind == "Patient":
        return kind, _patient_id(identifier)
    if kind in _SHARED:
        return kind, identifier.encode() if isinstance(identifier, str) else b""
    if kind not in _PERSONAL:
        return kind, b""
    subject = head.get("subject") or head.get("patient")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str) or not reference.startswith("Patient/"):
        raise InvalidInputError(f"{kind}: the subject is not a Patient of this export")
    return kind, _patient_id(reference)


def _patient_id(text: Any) -> bytes:
    found = _PATIENT.match(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidInputError("a Patient without a usable id")
    return found[1].encode()


def _bucket(number: int) -> str:
    return f"bucket-{number:03d}.ndjson"


@dataclass(slots=True)
class Dealt:
    """The buckets of pass one. Another process may open the same `work` folder and read other buckets."""

    work: Path
    buckets: int = field(init=False)
    not_fetched: frozenset[str] = field(init=False)
    faults: tuple[Fault, ...] = field(init=False)
    fault_count: int = field(init=False)
    _shared: _Shared = field(init=False, repr=False)

    def __post_init__(self) -> None:
        state = _load(self.work)
        if state is None:
            raise InvalidInputError(f"{self.work}: not the work folder of a population")
        self.buckets = state.buckets
        self.not_fetched = _PERSONAL - set(state.kinds)
        self.faults = tuple(Fault(place, reason) for place, reason in state.faults)
        self.fault_count = state.fault_count
        self._shared = _Shared.reading(self.work / _SHARED_FILE)

    def patients(self, prediction_time: datetime | None = None) -> Iterator[PatientRecord | Fault]:
        """Every patient as known at `prediction_time` (None: each at the latest time of its own data)."""
        for number in range(self.buckets):
            yield from self.bucket(number, prediction_time)

    def bucket(
        self, number: int, prediction_time: datetime | None = None, site_map: SiteMap | None = None
    ) -> Iterator[PatientRecord | Fault]:
        """The patients of one bucket in the order of their ids."""
        path = self.work / _bucket(number)
        lines: dict[bytes, list[bytes]] = {}
        with path.open("rb") as stream:
            for row in stream:
                patient, _, line = row.partition(b"\t")
                lines.setdefault(patient, []).append(line)
        for patient in sorted(lines):
            yield self._record(patient.decode(), lines.pop(patient), prediction_time, site_map)

    def _record(
        self, patient: str, lines: list[bytes], at: datetime | None, site_map: SiteMap | None
    ) -> PatientRecord | Fault:
        try:
            entries = [Entry(line) for line in (*lines, *self._pointed_at(lines))]
            return PatientRecord.from_entries(entries, patient, at, not_fetched=self.not_fetched, site_map=site_map)
        except FhirMappingError as error:
            return Fault(f"Patient/{patient}", str(error))

    def _pointed_at(self, lines: Iterable[bytes]) -> list[bytes]:
        """The shared resources these lines refer to, and what those refer to."""
        found: dict[str, bytes | None] = {}
        waiting = list(lines)
        while waiting:
            for key in {match.decode() for match in _POINTER.findall(waiting.pop())} - found.keys():
                found[key] = self._shared.get(key)
                waiting += filter(None, (found[key],))
        return [line for line in found.values() if line is not None]
