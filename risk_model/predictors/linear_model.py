"""A linear model of columns, saved as JSON: unknown values count as a typical one beside a weight of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
_PARTS = ("weights", "typical", "unknown")


@dataclass(frozen=True, slots=True)
class LinearModel:
    """margin = intercept + sum of weight * (value - typical), or `unknown` where the value is; arrays (columns,)."""

    names: tuple[str, ...]
    intercept: float
    weights: Floats
    typical: Floats
    unknown: Floats
    file: str = "model.json"

    @property
    def column_names(self) -> list[str]:
        return list(self.names)

    @property
    def is_constant(self) -> bool:
        return not (self.weights.any() or self.unknown.any())

    def margins(self, columns: Columns) -> Floats:
        """Returns log-odds."""
        found: Floats = self.intercept + self._terms(columns).sum(axis=1)
        return found

    def contributions(self, players: Sequence[int]) -> Callable[[Columns, Columns], Floats]:
        """Each player's columns add the difference of their terms: for a sum that is the Shapley value."""
        number = max(players, default=-1) + 1

        def of(row: Columns, reference: Columns) -> Floats:
            mine, theirs = self._terms(np.stack([row, reference]))
            return np.bincount(players, weights=mine - theirs, minlength=number).astype(np.float64)

        return of

    def _terms(self, columns: Columns) -> Floats:
        known = np.isfinite(columns)
        values = np.where(known, columns, 0.0).astype(np.float64)
        return np.where(known, self.weights * (values - self.typical), self.unknown)

    def to_bytes(self) -> bytes:
        raw = {
            "format": "linear",
            "columns": list(self.names),
            "intercept": self.intercept,
            "weights": self.weights.tolist(),
            "typical": self.typical.tolist(),
            "unknown": self.unknown.tolist(),
        }
        return orjson.dumps(raw, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> LinearModel:
        """Raises KeyError, TypeError or ValueError for anything that `to_bytes` did not write."""
        names = tuple(str(name) for name in raw["columns"])
        intercept, parts = float(raw["intercept"]), [np.asarray(raw[key], dtype=np.float64) for key in _PARTS]
        if not all(part.shape == (len(names),) and np.isfinite(part).all() for part in parts):
            raise ValueError("its weights do not fit its columns")
        if not np.isfinite(intercept):
            raise ValueError("its intercept is no number")
        weights, typical, unknown = parts
        return cls(names, intercept, weights, typical, unknown)
