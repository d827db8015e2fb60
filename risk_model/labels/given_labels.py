"""Labels somebody else made: files of the MEDS label schema, and those of ACES.

MEDS (LabelSchema): `subject_id`, `prediction_time` and `boolean_value`; with other value columns a label is positive
where its integer or float is greater than zero. ACES (https://github.com/justin13601/ACES) writes the same columns, or,
in earlier versions, `index_timestamp` or `prediction_timestamp` and `label`. Parquet, or CSV with a header; a folder
holds such files in any depth. Times without a zone are UTC, as in MEDS.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fhir_mapping.bulk import subject_number
from risk_model.core.errors import CohortError, UnknownTaskError
from risk_model.labels.labelling import Excluded, Labelled
from risk_model.labels.task_definitions import TaskDefinition, find_definition, parse_task
from risk_model.labels.timeline import PatientTimeline

_TIMES = ("prediction_time", "index_timestamp", "prediction_timestamp", "trigger")
_VALUES = ("boolean_value", "label", "integer_value", "float_value")
_YES, _NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})
DEFINITION = "given-labels"


@dataclass
class GivenLabels:
    """GivenLabels.open(path): (prediction time, label) of each subject. `left_out` counts what was not used."""

    file: Path
    by_subject: Mapping[str, tuple[tuple[datetime, bool], ...]]
    left_out: Counter[str] = field(default_factory=Counter)
    met: set[str] = field(default_factory=set)
    """The patients that were read."""

    @classmethod
    def open(cls, path: Path) -> GivenLabels:
        """Raises CohortError for a file that is no label file, naming the column, and for one without a label."""
        found: dict[str, dict[datetime, bool]] = {}
        left_out: Counter[str] = Counter()
        for place, row in _rows(path):
            subject, at, answer = _read(row, place)
            if at is None or answer is None:
                left_out["labels without a time or a value"] += 1
                continue
            earlier = found.setdefault(subject, {})
            if earlier.get(at, answer) is not answer:
                raise CohortError(f"{place}: subject {subject} has two labels at {at.isoformat()} that disagree")
            left_out["labels given twice"] += at in earlier
            earlier[at] = answer
        if not found:
            raise CohortError(f"{path}: no label in it")
        return cls(path, {subject: tuple(sorted(times.items())) for subject, times in found.items()}, +left_out)

    @property
    def fingerprint(self) -> str:
        """Differs wherever the labels do."""
        content = "\n".join(f"{subject} {rows}" for subject, rows in sorted(self.by_subject.items()))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def of(self, timeline: PatientTimeline) -> Iterator[Labelled | Excluded]:
        """Yields the rows of one patient. The encounter is the inpatient stay at that time, if there is one."""
        names = (timeline.subject_id, str(subject_number(timeline.subject_id)))
        name = next((name for name in names if name in self.by_subject), None)
        if name is None:
            return
        first_stay = min((stay.start for stay in timeline.stays), default=None)
        for at, answer in self.by_subject[name]:
            stay = _stay_at(timeline, at)
            encounter = None if stay is None else stay.partition("/")[2]
            if (first_stay is None or at < first_stay) and not _known_before(timeline, at):
                yield Excluded(timeline.subject_id, encounter, "nothing is known before the prediction")
            elif timeline.death is not None and timeline.death.latest < at:
                yield Excluded(timeline.subject_id, encounter, "died before the prediction")
            else:
                yield Labelled(timeline.subject_id, encounter, at, int(answer), None, None, None)

    def unused(self) -> Mapping[str, int]:
        """Returns the counts of labels that gave no row because of their file or the data, after all patients."""
        met = self.met | {str(subject_number(name)) for name in self.met}
        missing = sum(len(rows) for name, rows in self.by_subject.items() if name not in met)
        return dict(self.left_out) | ({"labels of subjects that the data do not have": missing} if missing else {})


def task_of_labels(task: str) -> TaskDefinition:
    """Returns the definition kept with a cohort of given labels: of a shipped task its own question, else a new one.

    Raises TaskDefinitionError for a name that is none.
    """
    try:
        known = find_definition(task)
        content: dict[str, Any] = yaml.safe_load(known.text)
    except UnknownTaskError:
        content = {
            "id": task,
            "title": task.replace("_", " ").capitalize(),
            "trigger": {"event": "admission"},
            "window": {"to": "end of stay"},
            "label": {"later_event": True},
        }
    for name in ("alias", "default", "levels", "include", "exclude"):
        content.pop(name, None)
    content |= {
        "definition": DEFINITION,
        "source": "Labels were given as a file; what stands below did not make them.",
        "timeline": "The prediction times and labels are those of the file.",
        "label": content.get("label") or {"later_event": True},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return replace(parse_task(text, "given labels"), text=text)


def _known_before(timeline: PatientTimeline, at: datetime) -> bool:
    """Whether any event is dated at or before a time."""
    return any(event.time is not None and event.time <= at for event in timeline.events)


def _stay_at(timeline: PatientTimeline, at: datetime) -> str | None:
    """Returns the inpatient stay that holds a time, its end included; of several the last."""
    holding = [s for s in timeline.stays if s.start <= at and (at <= s.end if s.end is not None else s.running)]
    return next((stay.source for stay in reversed(holding) if stay.stay_class == "inpatient"), None)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.exists():
        raise CohortError(f"{path}: no such file or folder")
    files = sorted(p for p in path.rglob("*") if p.suffix in {".parquet", ".csv"}) if path.is_dir() else [path]
    if not files:
        raise CohortError(f"{path}: no .parquet or .csv file in it")
    for file in files:
        rows: Iterable[Mapping[str, Any]]
        rows = _parquet_rows(file) if file.suffix == ".parquet" else _csv_rows(file)
        for number, row in enumerate(rows, 1):
            yield f"{file}, row {number}", row


def _parquet_rows(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise CohortError("parquet needs the extra [meds]: pip install 'riskcards[meds]'") from None
    try:
        table = parquet.read_table(file)
    except (OSError, ValueError) as error:
        raise CohortError(f"{file}: cannot be read as parquet ({type(error).__name__})") from None
    rows: list[dict[str, Any]] = table.select([n for n in table.column_names if n in _KNOWN]).to_pylist()
    return rows


def _csv_rows(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return [dict(row) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{file}: cannot be read as CSV ({type(error).__name__})") from None


_KNOWN = frozenset({"subject_id", "patient_id", *_TIMES, *_VALUES})


def _read(row: Mapping[str, Any], place: str) -> tuple[str, datetime | None, bool | None]:
    subject = row.get("subject_id", row.get("patient_id"))
    times = [name for name in _TIMES if name in row]
    values = [name for name in _VALUES if name in row]
    for missing, wanted in ((subject is None, "subject_id"), (not times, _TIMES[0]), (not values, _VALUES[0])):
        if missing:
            raise CohortError(f"{place}: no {wanted}; expected a label file of MEDS or ACES")
    given = next((row[name] for name in values if row[name] not in {None, ""}), None)
    return str(subject), _time(row[times[0]], place), _answer(given, place)


def _time(value: Any, place: str) -> datetime | None:
    if value in {None, ""}:
        return None
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise CohortError(f"{place}: {value!r} is not a time such as 2024-05-01 12:00:00") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _answer(value: Any, place: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip().casefold()
    if text in _YES | _NO:
        return text in _YES
    try:
        return float(text) > 0
    except ValueError:
        raise CohortError(f"{place}: {value!r} is not a label, such as true, false, 1 or 0") from None
