"""A sparse matrix larger than memory: cells are stored in files by range of rows and sorted one range at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_CELL = np.dtype([("row", "<i4"), ("column", "<i4"), ("value", "<f4"), ("kind", "u1")])


class RowBlock(NamedTuple):
    """Consecutive rows: the number of cells of each, shape (rows,); and, in row and column order, the columns, values
    and kinds of the cells, each of shape (cells,).
    """

    counts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    kinds: NDArray[np.uint8]


class CellFiles:
    """Cells added in any order; of several at one position the first is kept.

    `bounds` are the first rows of the ranges, then the number of rows. The temporary files in `folder` are unnamed.
    Memory holds the cells of one range, three times while sorting.
    """

    def __init__(self, bounds: NDArray[np.int64], columns: int, folder: Path | None = None) -> None:
        self._bounds, self._columns = bounds, columns
        # Open from here to `rows`.
        self._streams: list[Any] = [tempfile.TemporaryFile(dir=folder) for _ in bounds[:-1]]  # noqa: SIM115

    def add(
        self,
        rows: NDArray[np.integer],
        columns: NDArray[np.integer],
        values: NDArray[np.floating],
        kinds: NDArray[np.uint8],
    ) -> None:
        cells = np.empty(len(rows), _CELL)
        cells["row"], cells["column"], cells["value"], cells["kind"] = rows, columns, values, kinds
        place = np.searchsorted(self._bounds, rows, "right") - 1
        order = np.argsort(place, kind="stable")
        for at, part in zip(*_runs(place[order], cells[order]), strict=True):
            self._streams[at].write(part.tobytes())

    def rows(self) -> Iterator[RowBlock]:
        """Yields every range. Can be called once: it deletes the files."""
        for first, end, stream in zip(self._bounds[:-1], self._bounds[1:], self._streams, strict=True):
            stream.seek(0)
            cells = np.frombuffer(stream.read(), _CELL)
            stream.close()
            place = cells["row"].astype(np.int64) * self._columns + cells["column"]
            cells = cells[np.unique(place, return_index=True)[1]]
            counts = np.bincount(cells["row"] - first, minlength=int(end - first))
            yield RowBlock(counts, *(np.ascontiguousarray(cells[name]) for name in ("column", "value", "kind")))


def _runs(place: NDArray[np.int64], cells: NDArray[Any]) -> tuple[list[int], list[NDArray[Any]]]:
    """The ranges that occur in `place`, which is sorted, and the cells of each."""
    present, first = np.unique(place, return_index=True)
    return present.tolist(), np.split(cells, first[1:]) if len(first) else []
