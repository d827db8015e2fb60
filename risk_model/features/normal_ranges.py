"""Normal ranges for age and sex: which values are low, normal or high, and which of them medicine is sure to harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from risk_model.core.values import Abnormality

Array = NDArray[np.float64]
OLD = 65
"""Years from which `from_65` bounds hold."""
_FILE = Path(__file__).resolve().parents[1] / "tables" / "normal_ranges.yaml"


def as_measured(value: NDArray[np.floating]) -> Array:
    """Returns values as they were before they became float32, to four decimals: 1.1 and not 1.10000002384, which is
    above a bound of 1.1."""
    exact: Array = np.asarray(value, dtype=np.float64)
    return exact.round(4)


@dataclass(frozen=True, slots=True)
class NormalRange:
    """A normal range, both ends included; an end of -inf or inf is no bound."""

    low: float
    high: float

    def of(self, value: float) -> Abnormality:
        """Returns where a value lies.

        >>> NormalRange(135, 145).of(120), NormalRange(135, 145).of(145)
        (<Abnormality.LOW: 'low'>, <Abnormality.NORMAL: 'normal'>)
        """
        return Abnormality.LOW if value < self.low else Abnormality.HIGH if value > self.high else Abnormality.NORMAL


@dataclass(frozen=True, slots=True)
class RangeTable:
    """The normal ranges of one concept by sex and age. `harm_low` and `harm_high`: that departure may raise a risk."""

    low: float
    high: float
    harm_low: bool
    harm_high: bool
    other: Mapping[str, NormalRange]
    """Bounds for `female`, `male` and `from_65`."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> RangeTable:
        """Returns the table of one entry of the file. Raises KeyError or ValueError for an entry that is not valid."""
        harm = raw["harm"]
        if harm not in {"low", "high", "both"}:
            raise ValueError(f"harm: {harm!r} is neither low, high nor both")
        base = _bounds(raw, -inf, inf)
        other = {
            group: _bounds(raw[group], base.low, base.high) for group in ("female", "male", "from_65") if group in raw
        }
        return cls(base.low, base.high, harm in {"low", "both"}, harm in {"high", "both"}, other)

    def to_json(self) -> dict[str, Any]:
        """Returns the entry of the file."""
        harm = "both" if self.harm_low and self.harm_high else "low" if self.harm_low else "high"
        other = {name: _finite(bounds.low, bounds.high) for name, bounds in self.other.items()}
        return {"harm": harm, **_finite(self.low, self.high), **other}

    def bounds(self, female: Array, age: Array) -> tuple[Array, Array]:
        """Returns lowest and highest normal values, each of the shape of `female` (1, 0 or NaN) and `age` (years).

        For unknown sex or age the range is the widest of those that could hold.
        """
        low, high = np.full(female.shape, self.low), np.full(female.shape, self.high)
        for name, holds in (("female", female == 1), ("male", female == 0), ("from_65", age >= OLD)):
            if name in self.other:
                bounds, unknown = self.other[name], np.isnan(age if name == "from_65" else female)
                low = np.where(holds, bounds.low, np.where(unknown, np.minimum(low, bounds.low), low))
                high = np.where(holds, bounds.high, np.where(unknown, np.maximum(high, bounds.high), high))
        return low, high


def _finite(low: float, high: float) -> dict[str, float]:
    return {name: value for name, value in (("low", low), ("high", high)) if np.isfinite(value)}


def _bounds(raw: Mapping[str, Any], low: float, high: float) -> NormalRange:
    found = NormalRange(float(raw.get("low", low)), float(raw.get("high", high)))
    if found.low > found.high:
        raise ValueError(f"low {found.low} is above high {found.high}")
    return found


@cache
def normal_ranges() -> Mapping[str, RangeTable]:
    """Returns the shipped table: concept -> ranges."""
    return {name: RangeTable.parse(raw) for name, raw in yaml.safe_load(_FILE.read_text("utf-8")).items()}


def normal_range(concept: str, sex: str | None, age: float | None) -> NormalRange | None:
    """Returns the normal range of a concept for a patient; None if it has none.

    >>> normal_range("hematocrit", "female", 40), normal_range("hematocrit", "male", 40)
    (NormalRange(low=36.0, high=47.0), NormalRange(low=39.0, high=52.0))
    """
    table = normal_ranges().get(concept)
    if table is None:
        return None
    female = np.array([{"female": 1.0, "male": 0.0}.get(sex or "", np.nan)])
    low, high = table.bounds(female, np.array([np.nan if age is None else float(age)]))
    return NormalRange(float(low[0]), float(high[0]))
