"""The official few-shot draws of EHRSHOT: `all_shots_data.json` of each task.

The file maps a task (for chest X-rays each finding) to k, k to a replicate, and a replicate to the rows of training and
validation: `patient_ids_train_k`, `label_times_train_k`, `label_values_train_k`, and the same with `val`. k = -1 means
all rows. A class with fewer than k rows is drawn with repetition there, and so it is here. Rows are found by patient
and time: the places (`train_idxs`) are those of other arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from risk_model.core.errors import CohortError

Places = NDArray[np.int64]
Draw = tuple[Places, Places]
"""Places of the training and of the validation rows within their splits."""
_NAMES = ("all_shots_data.json", "few_shots_data.json")
_PARTS = (("train", "train"), ("val", "validation"))


@dataclass(frozen=True, slots=True)
class ShotRow:
    subject_id: str
    prediction_time: datetime
    label: int


@dataclass(frozen=True, slots=True)
class OfficialDraw:
    """One replicate: the rows of each split."""

    rows: Mapping[str, tuple[ShotRow, ...]]


OfficialShots = Mapping[str, Mapping[int, tuple[OfficialDraw, ...]]]
"""Task or finding -> k -> replicates; without k = -1."""


def shot_files(path: Path) -> list[Path]:
    """Returns the file itself, or the files TASK/all_shots_data.json of a folder. Raises CohortError without any."""
    if path.is_file():
        return [path]
    folders = [path, *sorted(item for item in path.iterdir() if item.is_dir())] if path.is_dir() else []
    found = [next((folder / name for name in _NAMES if (folder / name).is_file()), None) for folder in folders]
    files = [file for file in found if file is not None]
    if not files:
        raise CohortError(f"{path}: no {_NAMES[0]}, nor TASK/{_NAMES[0]}; expected EHRSHOT's benchmark folder")
    return files


def read_shots(files: Iterable[Path]) -> OfficialShots:
    """Raises CohortError, naming the place, for a file that is none of these."""
    found: dict[str, Mapping[int, tuple[OfficialDraw, ...]]] = {}
    for file in files:
        try:
            content = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise CohortError(f"{file}: cannot be read as JSON ({type(error).__name__})") from None
        for task, by_k in _mapping(content, f"{file}").items():
            found[task] = _by_k(by_k, f"{file}, {task}")
    return found


def _by_k(content: Any, place: str) -> Mapping[int, tuple[OfficialDraw, ...]]:
    found: dict[int, tuple[OfficialDraw, ...]] = {}
    for k, replicates in _mapping(content, place).items():
        if not k.lstrip("-").isdigit():
            raise CohortError(f"{place}: {k!r} is no number of examples")
        if int(k) > 0:
            listed = _mapping(replicates, f"{place}, k = {k}").items()
            found[int(k)] = tuple(_draw(item, f"{place}, k = {k}, replicate {name}") for name, item in listed)
    return dict(sorted(found.items()))


def _draw(content: Any, place: str) -> OfficialDraw:
    values = _mapping(content, place)
    return OfficialDraw({ours: _rows(values, theirs, place) for theirs, ours in _PARTS})


def _rows(values: Mapping[str, Any], part: str, place: str) -> tuple[ShotRow, ...]:
    names = [f"{name}_{part}_k" for name in ("patient_ids", "label_times", "label_values")]
    if missing := next((name for name in names if not isinstance(values.get(name), list)), None):
        raise CohortError(f"{place}: no list {missing!r}")
    columns = [values[name] for name in names]
    if len({len(column) for column in columns}) != 1:
        raise CohortError(f"{place}: {', '.join(names)} differ in length")
    try:
        return tuple(
            ShotRow(str(subject), datetime.fromisoformat(time), int(float(value) > 0))
            for subject, time, value in zip(*columns, strict=True)
        )
    except (TypeError, ValueError):
        raise CohortError(f"{place}: a time or a value of {part} cannot be read") from None


def _mapping(content: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not content:
        raise CohortError(f"{place}: expected a mapping, as in EHRSHOT's {_NAMES[0]}")
    return content


def places_of(shots: Mapping[int, Sequence[OfficialDraw]], rows: Sequence[Any], task: str) -> dict[int, list[Draw]]:
    """k -> draws, as places within the rows of each split, in the order of `rows` (of `PredictionExample`).

    Raises CohortError where a row is not among them, is of another split, or has another label: then data, splits or
    labels are not those that the shots were drawn from.
    """
    known: dict[str, dict[tuple[str, datetime], list[int]]] = {"train": {}, "validation": {}}
    labels: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        if row.split in known:
            key = (row.subject_id, row.prediction_time)
            known[row.split].setdefault(key, []).append(len(labels[row.split]))
        labels[row.split].append(row.label)

    def place(row: ShotRow, split: str) -> int:
        found = known[split].get((row.subject_id, row.prediction_time.replace(tzinfo=None)), [])
        same = [at for at in found if labels[split][at] == row.label]
        if not found:
            raise CohortError(
                f"{task}: a {split} row of the shots file, at {row.prediction_time.isoformat()}, is not among the "
                f"{split} rows of the data; the shots need the labels and metadata/subject_splits.parquet of EHRSHOT"
            )
        if not same:
            raise CohortError(f"{task}: a {split} row of the shots file has another label than the label file")
        return same[0]

    def places(draw: OfficialDraw, split: str) -> Places:
        return np.array([place(row, split) for row in draw.rows[split]], dtype=np.int64)

    return {k: [(places(draw, "train"), places(draw, "validation")) for draw in each] for k, each in shots.items()}
