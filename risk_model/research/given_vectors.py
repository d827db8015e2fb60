"""Vectors of records that another program made, such as CLMBR's, as a representation beside our own.

A `.npz` file holds arrays `subject_id` (rows,), `prediction_time` (rows,; datetime64 or ISO 8601 text) and `vectors`
(rows, dimensions); a `.parquet` file has the columns `subject_id`, `prediction_time` and a list column `vector`.
Pickles are not opened: `docs/ehrshot.md` shows how to convert EHRSHOT's.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.core.errors import CohortError

Key = tuple[str, datetime]
_ARRAYS = ("subject_id", "prediction_time", "vectors")


@dataclass(frozen=True, slots=True)
class GivenVectors:
    """GivenVectors.open("clmbr", path).matrix(rows, task) has a vector for every row."""

    name: str
    file: Path
    places: Mapping[Key, int]
    vectors: NDArray[np.float32]
    digest: str

    @classmethod
    def open(cls, name: str, path: Path) -> GivenVectors:
        """Raises CohortError for a file that holds no such vectors, with two for one prediction, or with NaN."""
        subjects, times, vectors = _columns(path)
        if vectors.ndim != 2 or not vectors.shape[1] or not len(subjects) == len(times) == len(vectors):
            raise CohortError(f"{path}: {len(subjects)} subjects, {len(times)} times, vectors {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise CohortError(f"{path}: a vector has a number that is not finite")
        places: dict[Key, int] = {}
        for place, (subject, time) in enumerate(zip(subjects, times, strict=True)):
            key = (str(subject), _moment(time, path))
            if key in places and not np.array_equal(vectors[places[key]], vectors[place]):
                raise CohortError(f"{path}: two different vectors of one subject at {key[1].isoformat()}")
            places.setdefault(key, place)
        return cls(name, path, places, vectors, hashlib.sha256(path.read_bytes()).hexdigest())

    def matrix(self, rows: Sequence[Any], task: str) -> NDArray[np.float32]:
        """Shape (rows, dimensions), in the order of `rows`. Raises CohortError where a row has no vector."""
        places = [self.places.get((row.subject_id, row.prediction_time)) for row in rows]
        if missing := places.count(None):
            raise CohortError(
                f"{self.file}: no vector for {missing:,} of {len(rows):,} predictions of {task}; representations are "
                "compared on the same rows only, so make the missing vectors, or leave the task out"
            )
        return self.vectors[[place for place in places if place is not None]]


def named_file(text: str) -> tuple[str, Path]:
    """Returns the name and the file of `NAME=FILE`; without a name the file's own.

    >>> named_file("clmbr=a.npz"), named_file("x/b.npz")[0]
    (('clmbr', PosixPath('a.npz')), 'b')
    """
    name, equals, file = text.rpartition("=")
    return (name, Path(file)) if equals and name else (Path(file).stem, Path(file))


def _columns(path: Path) -> tuple[Any, Any, NDArray[np.float32]]:
    if path.suffix == ".npz":
        return _of_npz(path)
    if path.suffix == ".parquet":
        return _of_parquet(path)
    raise CohortError(f"{path}: vectors are read from .npz or .parquet; a pickle is not opened, see docs/ehrshot.md")


def _of_npz(path: Path) -> tuple[Any, Any, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in _ARRAYS if name in archive}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CohortError(f"{path}: cannot be read as arrays without pickles ({type(error).__name__})") from None
    if missing := next((name for name in _ARRAYS if name not in found), None):
        raise CohortError(f"{path}: no array {missing!r}; expected {', '.join(_ARRAYS)}")
    return found["subject_id"].tolist(), found["prediction_time"], np.asarray(found["vectors"], np.float32)


def _of_parquet(path: Path) -> tuple[Any, Any, NDArray[np.float32]]:
    try:
        table = importlib.import_module("pyarrow.parquet").read_table(path)
    except ImportError:
        raise CohortError("parquet needs the extra [meds]: pip install 'riskcards[meds]'") from None
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None
    names = ("subject_id", "prediction_time", "vector")
    if missing := next((name for name in names if name not in table.column_names), None):
        raise CohortError(f"{path}: no column {missing!r}; expected {', '.join(names)}")
    subjects, times, vectors = (table[name].to_pylist() for name in names)
    try:
        return subjects, times, np.asarray(vectors, np.float32)
    except (TypeError, ValueError):
        raise CohortError(f"{path}: the vectors differ in length, or are no lists of numbers") from None


def _moment(value: Any, path: Path) -> datetime:
    found = value.astype("datetime64[us]").item() if isinstance(value, np.datetime64) else value
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            found = None
    if not isinstance(found, datetime):
        raise CohortError(f"{path}: {value!r} is no prediction time such as 2020-05-01T12:00:00")
    return found.replace(tzinfo=None)
