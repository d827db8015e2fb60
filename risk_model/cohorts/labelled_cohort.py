"""A cohort folder: labelled prediction times of many patients, split, with the data to compute features from.

::

    cohort.json          task, definition, counts, exclusions by reason, splits, warnings, sha256 of the other files
    task.yaml            the label definition itself, as it was
    labels.jsonl         one row to a line, by patient and time:
                         {"subject_id", "encounter_id", "prediction_time", "label": 0|1, "level": name or null,
                          "split": "train"|"validation"|"test", "fold": 0.. or null, "person"}
    patients.ndjson.gz   one labelled patient to a line: {"subject_id", "resources": [...]}, as they came; a member of
                         the gzip file for each part of the source
    site_map.yaml        meanings of local codes, if built with a site map

Rows of one person (see `patient_identity`) share split and fold. No pickle is used. To read it::

    cohort = LabelledCohort.open(folder)                 # hashes checked first
    for row, record in cohort.records("train"):          # a PatientRecord as of row.prediction_time
        x, y = features(record), row.label

`records` is the only way from a cohort to features, and a `PatientRecord` holds only what was known then: resources
without a date of their own (a discharge diagnosis, an undated procedure) count as known from the end of their encounter
(`fhir_mapping.record.cutoff`).
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from artifact_store import ManifestError, ManifestMissingError, open_manifest
from fhir_mapping import PatientRecord, SiteMap
from risk_model.core.errors import CohortError
from risk_model.labels.task_definitions import TaskDefinition, parse_task

FORMAT = 1
LABELS, PATIENTS, TASK, MANIFEST = "labels.jsonl", "patients.ndjson.gz", "task.yaml", "cohort.json"
SITE_MAP = "site_map.yaml"
_GZIP, _BLOCK = 31, 2**18
"""Format of zlib, and bytes read at once."""


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One prediction. `person` is the same for two charts of one patient; splits and folds use it."""

    subject_id: str
    encounter_id: str | None
    prediction_time: datetime
    label: int
    level: str | None
    split: str
    fold: int | None
    person: str

    def to_json(self) -> dict[str, Any]:
        return {
            "subject_id": self.subject_id,
            "encounter_id": self.encounter_id,
            "prediction_time": self.prediction_time.isoformat(),
            "label": self.label,
            "level": self.level,
            "split": self.split,
            "fold": self.fold,
            "person": self.person,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> CohortRow:
        return cls(**{**raw, "prediction_time": datetime.fromisoformat(raw["prediction_time"])})


@dataclass(frozen=True, slots=True)
class CohortPart:
    """The bytes of some of the patients in the file of all."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class LabelledCohort:
    """LabelledCohort.open(folder); `.manifest` is cohort.json, `.rows` are all rows in file order."""

    folder: Path
    manifest: Mapping[str, Any]
    rows: tuple[CohortRow, ...]

    @classmethod
    def open(cls, folder: Path) -> LabelledCohort:
        """Raises CohortError if a file is missing, altered since it was built, or of another format."""
        try:
            manifest = open_manifest(
                folder,
                manifest_name=MANIFEST,
                files_key="sha256",
                required=(LABELS, PATIENTS, TASK),
                check=_check_format,
            )
            manifest.verify()
        except ManifestMissingError:
            raise CohortError(f"{folder}: no cohort; make one with `riskcards cohort build`") from None
        except ManifestError as error:
            raise CohortError(f"{error}; build the cohort again") from None
        lines = (folder / LABELS).read_bytes().splitlines()
        return cls(folder, manifest.fields, tuple(CohortRow.from_json(orjson.loads(line)) for line in lines))

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    @property
    def definition(self) -> str:
        return str(self.manifest["definition"])

    @property
    def asked(self) -> TaskDefinition:
        """The label definition, from the cohort's own copy of the file."""
        return parse_task((self.folder / TASK).read_text("utf-8"), TASK)

    @property
    def site_map(self) -> SiteMap | None:
        """The site map, from the cohort's own copy of the file."""
        return SiteMap.open(self.folder / SITE_MAP) if SITE_MAP in self.manifest["sha256"] else None

    def split(self, name: str | None = None) -> tuple[CohortRow, ...]:
        """Returns the rows of one split, or all."""
        return tuple(row for row in self.rows if name is None or row.split == name)

    def records(
        self, split: str | None = None, part: CohortPart | None = None
    ) -> Iterator[tuple[CohortRow, PatientRecord]]:
        """Yields each row, of all patients or those of a part, with the record as known at its prediction time, in the
        order of the data, which is not that of the rows."""
        wanted: dict[str, list[CohortRow]] = {}
        for row in self.split(split):
            wanted.setdefault(row.subject_id, []).append(row)
        not_fetched, site_map = frozenset(self.manifest["not_fetched"]), self.site_map
        with self._lines(part) as stream:
            for line in stream:
                patient = orjson.loads(line)
                for row in wanted.get(patient["subject_id"], ()):
                    yield row, record_of(patient["resources"], row, not_fetched, site_map)

    def _lines(self, part: CohortPart | None) -> gzip.GzipFile:
        if part is None:
            return gzip.open(self.folder / PATIENTS)
        with (self.folder / PATIENTS).open("rb") as stream:
            stream.seek(part.start)
            return gzip.GzipFile(fileobj=BytesIO(stream.read(part.stop - part.start)))

    def parts(self) -> list[CohortPart]:
        """Returns the patients in parts that other processes can read, in order: those that were labelled together."""
        ends, member = [0], zlib.decompressobj(_GZIP)
        with (self.folder / PATIENTS).open("rb") as stream:
            while block := stream.read(_BLOCK):
                while block:
                    member.decompress(block)
                    block = member.unused_data
                    if member.eof:
                        ends.append(stream.tell() - len(block))
                        member = zlib.decompressobj(_GZIP)
            if stream.tell() > ends[-1]:  # a last part that is cut off is an error when it is read
                ends.append(stream.tell())
        return [CohortPart(start, stop) for start, stop in pairwise(ends)]

    def keys(self, parts: Sequence[CohortPart]) -> list[str]:
        """Returns for each part the hash of its content."""
        digests = self.manifest["sha256"]
        return [f"{sorted(digests.items())} {part.start}-{part.stop}" for part in parts]


def record_of(
    resources: list[dict[str, Any]], row: CohortRow, not_fetched: frozenset[str], site_map: SiteMap | None = None
) -> PatientRecord:
    """Returns the record of a row as known at its prediction time."""
    return PatientRecord.from_resources(
        resources,
        row.subject_id,
        row.prediction_time,
        encounter_id=row.encounter_id,
        not_fetched=not_fetched,
        site_map=site_map,
    )


def _check_format(fields: Mapping[str, Any]) -> None:
    if fields.get("format") != FORMAT:
        raise ValueError("a cohort of another format")


def counts(rows: tuple[CohortRow, ...]) -> dict[str, Any]:
    """Returns the numbers of rows, patients and positives, overall and by split; and of levels, if any."""
    by_split = {name: _count([r for r in rows if r.split == name]) for name in ("train", "validation", "test")}
    found: dict[str, Any] = {**_count(list(rows)), "by_split": by_split}
    levels = Counter(row.level for row in rows if row.level is not None)
    return found | ({"levels": dict(sorted(levels.items()))} if levels else {})


def _count(rows: list[CohortRow]) -> dict[str, int]:
    return {
        "rows": len(rows),
        "patients": len({row.subject_id for row in rows}),
        "positives": sum(row.label for row in rows),
    }
