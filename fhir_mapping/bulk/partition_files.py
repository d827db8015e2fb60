"""The work folder between the two passes: state of pass one, buckets of patients, resources shared by patients."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from artifact_store import atomic_file
from fhir_mapping.bulk.export_files import IncompleteError, UnownedError
from fhir_mapping.core.errors import InvalidInputError

NAMED_FAULTS = 1000
"""The number of faults kept; all are counted."""
_STATE, SHARED_FILE = "state.json", "shared.sqlite"
ALL_PATIENTS = ""


@dataclass(frozen=True, slots=True)
class ExportFault:
    """A line or patient that could not be used; `place` is `file:line` or the patient's key. All others are kept."""

    place: str
    reason: str


class PartitionState(msgspec.Struct):
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
            patient = error.patient or ALL_PATIENTS
            self.incomplete[patient] = sorted(error.kinds.union(self.incomplete.get(patient, ())))
            return
        self.fault_count += 1
        self.unowned += isinstance(error, UnownedError)
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append((place, str(error)))

    @classmethod
    def load(cls, work: Path) -> PartitionState | None:
        """Returns the state saved in `work`, or None where there is none."""
        try:
            return msgspec.json.decode((work / _STATE).read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def save(self, work: Path) -> None:
        self.ends = {path.name: path.stat().st_size for path in work.glob("*.ndjson")}
        with atomic_file(work / _STATE) as stream:
            stream.write(msgspec.json.encode(self))


@dataclass(frozen=True, slots=True)
class SharedResources:
    """Resources shared by patients, on disk by `Type/id`: the notes of an export are larger than memory."""

    database: sqlite3.Connection

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[SharedResources]:
        """Opens for writing in one transaction per input file; a repeated file overwrites its own lines."""
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS shared (key TEXT PRIMARY KEY, line BLOB NOT NULL)")
            yield cls(database)

    @classmethod
    def reading(cls, path: Path) -> SharedResources:
        return cls(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True))

    def put(self, key: str, line: bytes) -> None:
        self.database.execute("INSERT OR REPLACE INTO shared VALUES (?, ?)", (key, line))

    def get(self, key: str) -> bytes | None:
        found = self.database.execute("SELECT line FROM shared WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yields keys and lines in the order of the keys."""
        yield from self.database.execute("SELECT key, line FROM shared ORDER BY key")


def bucket_name(number: int) -> str:
    return f"bucket-{number:03d}.ndjson"
