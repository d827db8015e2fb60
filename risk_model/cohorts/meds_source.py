"""Reads patients from a MEDS dataset: parquet rows become FHIR resources, so that both kinds of source share one path.

MEDS (Medical Event Data Standard, https://github.com/Medical-Event-Data-Standard/meds): rows `subject_id, time, code,
numeric_value` (and `text_value`, `unit`, `end`, an encounter id, if present), each subject contiguous in one file;
splits in `metadata/subject_splits.parquet` are kept (tuning is validation, held_out is test). Times are read as UTC.
What the rows become is in `meds_chart`; codes that are not read are counted in `unread`. Needs the extra `[meds]`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from fhir_mapping.bulk import PERSONAL
from risk_model.cohorts.fhir_source import PatientData, Progress
from risk_model.cohorts.meds_chart import SubjectRows
from risk_model.core.errors import CohortError

_SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}
_COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "end", "resource", "system")
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
        for subject, rows in self.subjects():
            resources = SubjectRows(subject, self.unread).read(rows)
            self._met.update(resource["resourceType"] for resource in resources)
            yield PatientData(subject, resources, self._splits.get(subject))

    def subjects(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Yields each subject with its rows in file order; read them before the next subject."""
        seen: set[str] = set()
        for path in self.files:
            for subject, rows in groupby(self._rows(path), key=lambda row: str(row["subject_id"])):
                if subject in seen:
                    raise CohortError(f"{path}: subject {subject} is not contiguous, as MEDS asks; sort by subject_id")
                seen.add(subject)
                yield subject, rows
            self._progress(f"{path.name}: {len(seen):,} subjects")

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            file = self._parquet.ParquetFile(path)
            names = file.schema_arrow.names
            missing = [name for name in ("subject_id", "time", "code") if name not in names]
            if missing:
                raise CohortError(f"{path}: no column {missing[0]!r}; expected MEDS data")
            kept = [name for name in _COLUMNS if name in names]
            encounter = next((name for name in _ENCOUNTER_COLUMNS if name in names), None)
            for batch in file.iter_batches(columns=[*kept, encounter] if encounter else kept):
                if encounter not in {None, "encounter"}:
                    batch = batch.rename_columns([*kept, "encounter"])
                yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            if isinstance(error, CohortError):
                raise
            raise CohortError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None

    def _read_splits(self, path: Path) -> Mapping[str, str]:
        if not path.exists():
            return {}
        rows = self._parquet.read_table(path).to_pylist()
        return {str(row["subject_id"]): _SPLITS[row["split"]] for row in rows if row.get("split") in _SPLITS}
