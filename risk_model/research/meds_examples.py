"""Examples of a MEDS dataset for many tasks: subject, prediction time, outcome, text and counts.

Labels come from this project's own task definitions, or from label files of the dataset: MEDS labels
(`subject_id, prediction_time, boolean_value`) as parquet or CSV, or EHRSHOT's `labeled_patients.csv`
(`patient_id, prediction_time, value`). One pass over the data makes the examples of all tasks; a folder per task keeps
them, so that a run that was stopped goes on::

    TASK/rows.jsonl           subject_id, prediction_time, label (of chest X-rays the number of all findings), split
    TASK/codes.txt.gz         one text to a line, in the order of the rows, as JSON strings (and markdown.txt.gz)
    TASK/counts.npz           SciPy sparse matrix (rows, codes), columns in the order of codes.json
"""

from __future__ import annotations

import csv
import gzip
import importlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from risk_model.cohorts.builder import CohortOptions, label_all
from risk_model.cohorts.meds_source import MedsDataset
from risk_model.cohorts.splits import SplitPlan, share
from risk_model.core.errors import CohortError
from risk_model.labels.task_definitions import TaskDefinition
from risk_model.research.ehrshot_tasks import CHEST_XRAY, FINDINGS, finding_labels, finding_task, label_names
from risk_model.research.meds_markdown import SERIALISERS
from risk_model.research.meds_text import Subject, Vocabulary
from risk_model.research.meds_visits import SubjectEvent

Progress = Callable[[str], None]
_SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class PredictionExample:
    """One prediction. `prediction_time` has no zone, as in MEDS."""

    subject_id: str
    prediction_time: datetime
    label: int
    split: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of one task on disk; see the head of this module. `finding` is one of a chest X-ray, else empty."""

    folder: Path
    rows: tuple[PredictionExample, ...]
    finding: str = ""

    @classmethod
    def open(cls, folder: Path) -> Examples:
        lines = (orjson.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines())
        rows = (
            PredictionExample(**{**line, "prediction_time": datetime.fromisoformat(line["prediction_time"])})
            for line in lines
        )
        return cls(folder, tuple(rows))

    @classmethod
    def is_whole(cls, folder: Path, serialisers: Sequence[str]) -> bool:
        """Whether an earlier run has written the examples, with these texts."""
        return all((folder / name).exists() for name in ("rows.jsonl", *(f"{name}.txt.gz" for name in serialisers)))

    def by_finding(self) -> tuple[Examples, ...]:
        """Returns the examples of each finding, on the same rows, texts and counts."""
        return tuple(
            Examples(
                self.folder, tuple(replace(row, label=finding_labels(row.label)[place]) for row in self.rows), finding
            )
            for place, finding in enumerate(FINDINGS)
        )

    def texts(self, serialiser: str) -> Iterator[str]:
        with gzip.open(self.folder / f"{serialiser}.txt.gz") as stream:
            for line in stream:
                yield orjson.loads(line)

    def counts(self) -> Any:
        """SciPy CSR matrix (LightGBM knows no sparse arrays), shape (rows, codes), float32."""
        from scipy.sparse import csr_matrix, load_npz

        return csr_matrix(load_npz(self.folder / "counts.npz"))


def examples_by_definition(
    tasks: Sequence[TaskDefinition], source: MedsDataset, plan: SplitPlan, follow_up: str, progress: Progress
) -> dict[str, tuple[PredictionExample, ...]]:
    """Examples by task definition, labelled from the data. Raises CohortError where the data cannot be read."""
    labelled = label_all(tasks, source, CohortOptions(plan, follow_up=follow_up), progress)
    return {
        task: tuple(
            PredictionExample(row.subject_id, _bare(row.prediction_time), row.label, row.split)
            for row in sorted_rows(found.rows)
        )
        for task, found in labelled.items()
    }


def sorted_rows(rows: Sequence[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: (row.subject_id, row.prediction_time))


def examples_from_label_files(
    folder: Path, tasks: Sequence[str], given: Mapping[str, str], validation: float, test: float
) -> dict[str, tuple[PredictionExample, ...]]:
    """Examples by label files TASK.parquet, TASK.csv, or any of these within a folder TASK.

    Splits are the dataset's own; a subject it does not place, or all where it places none, go by the hash of their id.
    Raises CohortError where a file is missing or is none.
    """
    found = {}
    for task in tasks:
        findings = task == CHEST_XRAY
        rows = [row for path in label_files(folder, task) for row in _labels(path, findings=findings)]
        found[task] = tuple(
            sorted_rows(
                [
                    PredictionExample(s, at, label, given.get(s) or _by_hash(s, validation, test))
                    for s, at, label in rows
                ]
            )
        )
    return found


def _by_hash(subject: str, validation: float, test: float) -> str:
    place = share(f"riskcards/split/{subject}")
    return "test" if place < test else "validation" if place < test + validation else "train"


def label_files(folder: Path, task: str) -> list[Path]:
    """The files that hold a task's labels. Raises CohortError where there are none."""
    found: list[Path] = []
    for name in label_names(task):
        found += [path for path in (folder / f"{name}.parquet", folder / f"{name}.csv") if path.is_file()]
        if (folder / name).is_dir():
            inside = sorted((folder / name).rglob("*.parquet")) or sorted((folder / name).rglob("*.csv"))
            found += [path for path in inside if path.suffix == ".parquet" or "label" in path.name or len(inside) == 1]
    if not found:
        raise CohortError(
            f"{folder}: no labels of {task}; expected {task}.parquet, {task}.csv or a folder {task} of them"
        )
    return found


def _labels(path: Path, *, findings: bool) -> Iterator[tuple[str, datetime, int]]:
    if path.suffix == ".parquet":
        try:
            rows: list[dict[str, Any]] = importlib.import_module("pyarrow.parquet").read_table(path).to_pylist()
        except ImportError:
            raise CohortError("label files in parquet need the extra [meds]: pip install 'riskcards[meds]'") from None
    else:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows, 1):
        yield _label(row, f"{path}, row {number}", findings=findings)


def _label(row: Mapping[str, Any], place: str, *, findings: bool) -> tuple[str, datetime, int]:
    subject = row.get("subject_id", row.get("patient_id"))
    value = next((row[name] for name in ("boolean_value", "value", "integer_value") if row.get(name) is not None), None)
    time = _moment(row.get("prediction_time"))
    if subject is None or value is None or time is None:
        raise CohortError(f"{place}: subject_id, prediction_time and boolean_value (or value) are needed")
    return str(subject), time, _findings(value, place) if findings else _outcome(value, place)


def _findings(value: Any, place: str) -> int:
    """The number whose binary digits are the findings of a chest X-ray."""
    try:
        number = float(str(value).strip())
    except ValueError:
        number = -1.0
    if not 0 <= number < 2 ** len(FINDINGS) or number != int(number):
        raise CohortError(
            f"{place}: {value!r} is not a number of {len(FINDINGS)} findings, 0 to {2 ** len(FINDINGS) - 1}"
        )
    return int(number)


def _outcome(value: Any, place: str) -> int:
    """0 or 1; a level (EHRSHOT's laboratory tasks count 0 normal to 3 severe) is an outcome from 1 on."""
    word = str(value).strip().casefold()
    if word in {"true", "false"}:
        return int(word == "true")
    try:
        level = float(word)
    except ValueError:
        level = -1.0
    if level not in {0.0, 1.0, 2.0, 3.0, 4.0}:
        raise CohortError(
            f"{place}: {value!r} is no outcome: true, false, or a level from 0 to 4 is needed (only the task "
            f"{CHEST_XRAY!r} has several answers at once; of another one make one file for each answer)"
        )
    return int(level > 0)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return _bare(value)
    try:
        return _bare(datetime.fromisoformat(str(value).strip()))
    except ValueError:
        return None


def _bare(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def prepare_examples(
    wanted: Mapping[str, Sequence[PredictionExample]],
    source: MedsDataset,
    vocabulary: Vocabulary,
    out: Path,
    serialisers: Sequence[str],
    budget: int,
) -> dict[str, Examples]:
    """Write the examples of every task below `out`, in one pass over the data; the examples in the order of the data.

    A row whose subject is not in the data is left out: `len(wanted[task])` counts them. A task's `rows.jsonl` comes
    last.
    """
    by_subject: dict[str, list[tuple[str, PredictionExample]]] = {}
    for task, rows in wanted.items():
        for row in rows:
            by_subject.setdefault(row.subject_id, []).append((task, row))
    with ExitStack() as stack:
        writers = {task: _Writer(out, task, serialisers, stack) for task in wanted}
        for subject_id, events in source.subjects():
            asked = by_subject.get(subject_id)
            if asked is None:
                continue
            subject = Subject(_events(events), vocabulary)
            for task, example in asked:
                writers[task].add(example, subject, budget)
    return {task: writer.close() for task, writer in writers.items()}


def _events(rows: Iterator[dict[str, Any]]) -> Iterator[SubjectEvent]:
    for row in rows:
        code, time, number, end = row["code"], row["time"], row.get("numeric_value"), row.get("end")
        if isinstance(code, str):
            value = float(number) if isinstance(number, int | float) and np.isfinite(number) else None
            unit, text, encounter = (_text(row.get(name)) for name in ("unit", "text_value", "encounter"))
            at, until = (_bare(moment) if isinstance(moment, datetime) else None for moment in (time, end))
            yield SubjectEvent(at, code, value, unit, text, encounter, until)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


class _Writer:
    """The folder of one task while it is written: under another name until it is whole."""

    def __init__(self, out: Path, task: str, serialisers: Sequence[str], stack: ExitStack) -> None:
        self._final, self._new = out / task, out / f"{task}.new"
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(parents=True)
        self._rows: list[PredictionExample] = []
        self._codes: dict[str, int] = {}
        self._columns: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        self._numbers: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self._texts: dict[str, gzip.GzipFile] = {
            name: stack.enter_context(gzip.GzipFile(self._new / f"{name}.txt.gz", "wb", compresslevel=3, mtime=0))
            for name in serialisers
        }

    def add(self, example: PredictionExample, subject: Subject, budget: int) -> None:
        self._rows.append(example)
        for name, stream in self._texts.items():
            text = SERIALISERS[name](subject, example.prediction_time, budget)
            stream.write(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE))
        found = subject.counts(example.prediction_time)
        self._columns.append(np.array([self._codes.setdefault(c, len(self._codes)) for c in found], np.int32))
        self._numbers.append(np.array(list(found.values()), np.float32))

    def close(self) -> Examples:
        from scipy.sparse import csr_array, save_npz

        ends = np.concatenate([[0], np.cumsum([len(columns) for columns in self._columns])]).astype(np.int64)
        columns = np.concatenate([np.zeros(0, np.int32), *self._columns])
        numbers = np.concatenate([np.zeros(0, np.float32), *self._numbers])
        save_npz(self._new / "counts.npz", csr_array((numbers, columns, ends), (len(self._rows), len(self._codes))))
        (self._new / "codes.json").write_bytes(orjson.dumps(list(self._codes)))
        lines = (
            {"subject_id": r.subject_id, "prediction_time": r.prediction_time.isoformat(), "label": r.label,
             "split": r.split} for r in self._rows
        )  # fmt: skip
        (self._new / "rows.jsonl").write_bytes(
            b"".join(orjson.dumps(x, option=orjson.OPT_APPEND_NEWLINE) for x in lines)
        )
        # What an earlier run made of the same rows stays: texts of other serialisers, vectors, results.
        self._final.mkdir(exist_ok=True)
        for path in sorted(self._new.iterdir(), key=lambda path: path.name == "rows.jsonl"):
            path.replace(self._final / path.name)
        self._new.rmdir()
        return Examples(self._final, tuple(self._rows))


def read_vocabulary(folder: Path) -> Vocabulary:
    """From metadata/codes.parquet; an empty one where the dataset has none: then a code is its own description."""
    path = folder / "metadata" / "codes.parquet"
    if not path.is_file():
        return Vocabulary({}, {})
    return Vocabulary.of(importlib.import_module("pyarrow.parquet").read_table(path).to_pylist())


def by_task(prepared: Mapping[str, Examples]) -> dict[str, Examples]:
    """Returns the examples of each task with a yes-or-no answer: chest X-rays once for each finding."""
    found: dict[str, Examples] = {}
    for task, examples in prepared.items():
        if task == CHEST_XRAY:
            found |= {finding_task(task, each.finding): each for each in examples.by_finding()}
        else:
            found[task] = examples
    return found


def summary(rows: Sequence[PredictionExample]) -> dict[str, dict[str, int]]:
    """By split: rows, subjects, and rows with the outcome."""
    split = {name: [row for row in rows if row.split == name] for name in _SPLIT_NAMES}
    return {
        name: {
            "rows": len(part),
            "subjects": len({row.subject_id for row in part}),
            "outcomes": Counter(row.label for row in part)[1],
        }
        for name, part in split.items()
    }
