"""Writes a MEDS dataset: data/*.parquet, metadata/codes.parquet, metadata/dataset.json, optional subject splits.

    with MedsWriter(folder, created_at=now) as dataset:      # needs the extra riskcards[meds]
        dataset.add(record)

MEDS requires integer subject ids: ours are 63 bits of the SHA-256 of the patient id, so that a patient has the same one
in every export. `metadata/subject_ids.parquet` maps them to patient ids and is as confidential as the records.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from artifact_store import check_writable
from fhir_mapping.core.errors import FhirMappingError
from fhir_mapping.record.meds import MedsEvent, meds_events
from fhir_mapping.record.record_view import RecordView

SPLITS = (("train", 0.8), ("tuning", 0.9), ("held_out", 1.0))
"""Split names with the cumulative share of subjects."""
EVENTS_PER_SHARD = 500_000
_PARTS = ("data", "metadata")


class MedsExportError(FhirMappingError):
    """A MEDS dataset cannot be written: the extra is not installed, or the folder is not an empty one."""


def subject_number(patient_id: str) -> int:
    """Returns the MEDS subject id of a patient id: a positive integer of at most 63 bits.

    >>> subject_number("p1") == subject_number("p1") > 0
    True
    """
    return int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8]) >> 1


class MedsWriter:
    """Writes records into a new MEDS dataset; a subject's events are contiguous, in time order, in one shard.

    Beside the columns of MEDS there are `resource` (`Condition/c1`), `encounter` (`Encounter/e1`), `system` (of a
    local code), `end`, `status`, `order` (of a drug) and `issued` (of a result).

    `created_at` goes into dataset.json. `splits` writes metadata/subject_splits.parquet by the subject id alone, so
    that a patient is always in the same split. Raises MedsExportError if the extra is missing or `folder` is not empty.
    """

    def __init__(self, folder: Path, *, created_at: datetime, version: str = "", splits: bool = False) -> None:
        try:
            import meds
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MedsExportError("MEDS export needs the extra: pip install 'riskcards[meds]'") from None
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MedsExportError(f"{folder}: not an empty folder; existing datasets are not overwritten")
        self._meds: Any = meds
        self._pa: Any = pyarrow
        self._folder = folder
        self._created_at = created_at
        self._version = version
        self._splits = splits
        self._subjects: dict[int, str] = {}
        self._codes: dict[str, str | None] = {}
        self._pending: list[tuple[int, MedsEvent]] = []
        self._shards = 0
        self._created_folder = not folder.exists()
        check_writable(folder)
        for name in _PARTS:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> MedsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            if not (self._folder / "metadata" / "dataset.json").exists():
                self._discard()

    def _discard(self) -> None:
        for name in _PARTS:
            shutil.rmtree(self._folder / name, ignore_errors=True)
        if self._created_folder:
            self._folder.rmdir()

    def add(self, record: RecordView) -> None:
        """Adds all events of a record; each patient may be added once."""
        self.add_events(record.subject_id, meds_events(record))

    def add_events(self, patient_id: str, found: Iterable[MedsEvent]) -> None:
        """Adds all events of one patient, static first, then in time order. Raises MedsExportError the second time."""
        number = subject_number(patient_id)
        if number in self._subjects:
            raise MedsExportError("the same patient was added twice; a subject's events must be contiguous")
        self._subjects[number] = patient_id
        for event in found:
            if self._codes.get(event.code) is None:
                self._codes[event.code] = event.description
            self._pending.append((number, event))
        if len(self._pending) >= EVENTS_PER_SHARD:
            self._write_shard()

    def close(self) -> None:
        """Writes the pending events, then the metadata; dataset.json last, as the mark of a complete dataset."""
        if self._pending or not self._shards:
            self._write_shard()
        metadata = self._folder / "metadata"
        codes = sorted(self._codes.items())
        self._write(
            self._meds.CodeMetadataSchema,
            {
                "code": [code for code, _ in codes],
                "description": [text for _, text in codes],
                "parent_codes": self._pa.array([None] * len(codes), self._pa.list_(self._pa.string())),
            },
            metadata / "codes.parquet",
        )
        if self._splits:
            parts = {"subject_id": list(self._subjects), "split": [_split(number) for number in self._subjects]}
            self._write(self._meds.SubjectSplitSchema, parts, metadata / "subject_splits.parquet")
        owners = {"subject_id": list(self._subjects), "patient_id": list(self._subjects.values())}
        self._pa.parquet.write_table(self._pa.table(owners), metadata / "subject_ids.parquet")
        facts = {
            "dataset_name": "riskcards export",
            "etl_name": "riskcards",
            "etl_version": self._version,
            "meds_version": self._meds.__version__,
            "created_at": self._created_at.astimezone(UTC).isoformat(),
        }
        self._meds.DatasetMetadataSchema.validate(facts)
        (metadata / "dataset.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))

    def _write_shard(self) -> None:
        numbers, found = [number for number, _ in self._pending], [event for _, event in self._pending]
        # MEDS times have no zone; ours are UTC throughout.
        times = [_naive(event.time) for event in found]
        columns = {
            "subject_id": self._pa.array(numbers, self._pa.int64()),
            "time": self._pa.array(times, self._pa.timestamp("us")),
            "code": self._pa.array([event.code for event in found], self._pa.string()),
            "numeric_value": self._pa.array([event.numeric_value for event in found], self._pa.float32()),
            "text_value": self._pa.array([event.text_value for event in found], self._pa.large_string()),
            "resource": self._pa.array([event.resource for event in found], self._pa.string()),
            "encounter": self._pa.array([event.encounter for event in found], self._pa.string()),
            "system": self._pa.array([event.system for event in found], self._pa.string()),
            "status": self._pa.array([event.status for event in found], self._pa.string()),
            "order": self._pa.array([event.order for event in found], self._pa.string()),
            "issued": self._pa.array([_naive(event.issued) for event in found], self._pa.timestamp("us")),
            "end": self._pa.array([_naive(event.end) for event in found], self._pa.timestamp("us")),
        }
        self._write(self._meds.DataSchema, columns, self._folder / "data" / f"{self._shards}.parquet")
        self._pending.clear()
        self._shards += 1

    def _write(self, schema: Any, columns: dict[str, Any], path: Path) -> None:
        """Writes a table through the MEDS schema, which rejects invalid columns."""
        self._pa.parquet.write_table(schema.align(self._pa.table(columns)), path)


def _naive(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=None)


def _split(number: int) -> str:
    # The subject number is a hash already; its remainder decides the split.
    share = (number % 100_003) / 100_003
    return next(name for name, limit in SPLITS if share < limit)
