"""Reads patients from a MEDS dataset: parquet rows become FHIR resources, so that both kinds of source share one path.

MEDS (Medical Event Data Standard, https://github.com/Medical-Event-Data-Standard/meds): rows `subject_id, time, code,
numeric_value` (and `text_value`, `unit`, `end`, an encounter id, if present), each subject contiguous in one file;
splits in `metadata/subject_splits.parquet` are kept (tuning is validation, held_out is test). Times are read as UTC.
What the rows become is in `meds_chart`; codes that are not read are counted in `unread`. Needs the extra `[meds]`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from artifact_store import sha256_of
from fhir_mapping.bulk import PERSONAL
from risk_model.cohorts.fhir_source import PatientData, Progress
from risk_model.cohorts.meds_chart import SubjectRows
from risk_model.core.errors import CohortError

_SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}
_COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "text_value", "unit", "end", "resource", "system", "status", "order",
    "issued",
)  # fmt: skip
_ROWS_A_PART = 100_000
_ENCOUNTER_COLUMNS = ("encounter", "visit_id", "encounter_id", "hadm_id")
"""An encounter id of a dataset: ours, OMOP's, MIMIC's."""


class MedsDataset:
    """MedsDataset(folder).patients() yields PatientData. Raises CohortError if the folder holds no MEDS data."""

    def __init__(self, folder: Path, progress: Progress = lambda _: None) -> None:
        try:
            self._parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise CohortError("MEDS datasets need the extra [meds]: pip install 'riskcards[meds]'") from None
        data = folder / "data" if (folder / "data").is_dir() else folder
        self.files = tuple(p for p in sorted(data.rglob("*.parquet")) if "metadata" not in p.parts)
        if not self.files:
            raise CohortError(f"{folder}: no parquet files; expected a MEDS dataset with data/*.parquet")
        self._splits = self._read_splits(folder / "metadata" / "subject_splits.parquet")
        self._progress = progress
        self.unread: Counter[str] = Counter()
        self._met: set[str] = set()

    def __enter__(self) -> MedsDataset:
        return self

    def __exit__(self, *_: object) -> None:
        if self.unread:
            worst = ", ".join(f"{name} ({number})" for name, number in self.unread.most_common(8))
            self._progress(f"{sum(self.unread.values()):,} rows not read: {worst}")

    @property
    def not_fetched(self) -> frozenset[str]:
        """Resource types of which the dataset, as far as it was read, has none."""
        return PERSONAL - self._met

    @property
    def left_out(self) -> Mapping[str, int]:
        """Rows that are not used, by the beginning of their code."""
        return dict(self.unread.most_common())

    @property
    def splits(self) -> Mapping[str, str]:
        """Subject -> train, validation or test, if the dataset has splits."""
        return self._splits

    def patients(self) -> Iterator[PatientData]:
        for part in self.parts():
            yield from part.patients()
            self.count(part.unread, part.met)

    def parts(self) -> Sequence[MedsPart]:
        """Returns the subjects in parts that other processes can read, in the order of the files.

        Raises CohortError for a file that is no MEDS data, and for a subject in two places.
        """
        found: list[MedsPart] = []
        seen: set[int] = set()
        for path in self.files:
            for start, stop, subjects in self._runs(path):
                twice = next((subject for subject in subjects if subject in seen), None)
                if twice is not None:
                    raise CohortError(f"{path}: subject {twice} is not contiguous, as MEDS asks; sort by subject_id")
                seen.update(subjects)
                found.append(
                    MedsPart(
                        path, start, stop, {str(n): self._splits[str(n)] for n in subjects if str(n) in self._splits}
                    )
                )
            self._progress(f"{path.name}: {len(seen):,} subjects")
        return found

    def keys(self, parts: Sequence[MedsPart]) -> list[str]:
        """Returns for each part the hash of its content."""
        digests = {path: sha256_of(path) for path in {part.file for part in parts}}
        return [repr((digests[part.file], part.start, part.stop, sorted(part.splits.items()))) for part in parts]

    def count(self, unread: Mapping[str, int], met: Collection[str]) -> None:
        """Adds what was left out of a part, once its patients were read."""
        self.unread.update(unread)
        self._met.update(met)

    def _runs(self, path: Path) -> Iterator[tuple[int, int, list[int]]]:
        """Yields (first row, row after the last, subjects) of parts of whole subjects."""
        with _readable(path):
            file = self._parquet.ParquetFile(path)
            _check_columns(path, file.schema_arrow)
            subjects = file.read(columns=["subject_id"])["subject_id"]
            if subjects.null_count:
                raise CohortError(f"{path}: {subjects.null_count} rows without a subject_id")
            column = subjects.to_numpy()
        edges = np.flatnonzero(np.r_[True, column[1:] != column[:-1]]) if len(column) else np.array([], np.int64)
        begin = 0
        while begin < len(edges):
            end = max(int(np.searchsorted(edges, edges[begin] + _ROWS_A_PART, "right")), begin + 1)
            stop = int(edges[end]) if end < len(edges) else len(column)
            listed = column[edges[begin:end]].tolist()
            if len(set(listed)) < len(listed):
                twice = next(n for n, times in Counter(listed).items() if times > 1)
                raise CohortError(f"{path}: subject {twice} is not contiguous, as MEDS asks; sort by subject_id")
            yield int(edges[begin]), stop, listed
            begin = end

    def subjects(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Yields each subject with its rows in file order; read them before the next subject."""
        for part in self.parts():
            yield from part.subjects()

    def _read_splits(self, path: Path) -> Mapping[str, str]:
        if not path.exists():
            return {}
        rows = self._parquet.read_table(path).to_pylist()
        return {str(row["subject_id"]): _SPLITS[row["split"]] for row in rows if row.get("split") in _SPLITS}


@dataclass
class MedsPart:
    """Rows `start` to `stop` of a file, of whole subjects. `unread` and `met` fill as the patients are read."""

    file: Path
    start: int
    stop: int
    splits: Mapping[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    met: set[str] = field(default_factory=set)

    def patients(self) -> Iterator[PatientData]:
        for subject, rows in self.subjects():
            resources = SubjectRows(subject, self.unread).read(rows)
            self.met.update(resource["resourceType"] for resource in resources)
            yield PatientData(subject, resources, self.splits.get(subject), well_formed=True)

    def subjects(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        for subject, rows in groupby(self._rows(), key=lambda row: row["subject_id"]):
            yield str(subject), rows

    def _rows(self) -> Iterator[dict[str, Any]]:
        with _readable(self.file):
            file = importlib.import_module("pyarrow.parquet").ParquetFile(self.file)
            names = file.schema_arrow.names
            kept = [name for name in _COLUMNS if name in names]
            encounter = next((name for name in _ENCOUNTER_COLUMNS if name in names), None)
            columns = [*kept, encounter] if encounter else kept
            keys = [*kept, "encounter"] if encounter else kept
            for batch in self._batches(file, columns):
                lists = [batch.column(place).to_pylist() for place in range(len(columns))]
                yield from (dict(zip(keys, values, strict=True)) for values in zip(*lists, strict=True))

    def _batches(self, file: Any, columns: Sequence[str]) -> Iterator[Any]:
        """Yields the batches of the part's rows; row groups outside it are not read."""
        position = 0
        for group in range(file.num_row_groups):
            length = file.metadata.row_group(group).num_rows
            if position + length > self.start and position < self.stop:
                at = position
                for batch in file.iter_batches(columns=list(columns), row_groups=[group]):
                    first, last = max(self.start - at, 0), min(self.stop - at, len(batch))
                    if first < last:
                        yield batch.select(columns).slice(first, last - first)
                    at += len(batch)
            position += length


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises CohortError where the file cannot be read as parquet."""
    try:
        yield
    except CohortError:
        raise
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None


def _check_columns(path: Path, schema: Any) -> None:
    """Raises CohortError for columns that MEDS asks for and that are missing or hold something else.

    A date or a text in the place of a time would be an event without a time.
    """
    missing = [name for name in ("subject_id", "time", "code") if name not in schema.names]
    if missing:
        raise CohortError(f"{path}: no column {missing[0]!r}; expected MEDS data")
    types = importlib.import_module("pyarrow").types
    for name, fits, asked in (
        ("time", types.is_timestamp, "a timestamp"),
        ("numeric_value", lambda kind: types.is_floating(kind) or types.is_integer(kind), "a number"),
    ):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and not (fits(kind) or types.is_null(kind)):
            raise CohortError(f"{path}: column {name!r} is {kind}, and MEDS asks for {asked}; convert it")
