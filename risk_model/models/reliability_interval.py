"""The interval of models without conformal thresholds: outcome rates of out-of-fold patients with similar estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

_Z90 = 1.6448536269514722
_NEIGHBOURS = 1


def reliability_interval(manifest: Mapping[str, Any], probability: float) -> tuple[float, float]:
    """Returns the Wilson interval of the rate among the most similar patients; rows of one patient count as one."""
    bins: Sequence[Mapping[str, float]] = manifest["reliability"]
    nearest = min(range(len(bins)), key=lambda i: abs(bins[i]["probability"] - probability))
    near = bins[max(0, nearest - _NEIGHBOURS) : nearest + _NEIGHBOURS + 1]
    rows, outcomes = sum(b["patients"] for b in near), sum(b["outcomes"] for b in near)
    share = manifest["patients"] / manifest["rows"]
    low, high = wilson(outcomes * share, rows * share)
    return min(low, probability), max(high, probability)


def wilson(events: float, n: float) -> tuple[float, float]:
    """Returns the Wilson score interval at 90 %.

    >>> low, high = wilson(10, 100)
    >>> round(low, 3), round(high, 3)
    (0.061, 0.16)
    """
    if n == 0:
        return 0.0, 1.0
    p, z = events / n, _Z90
    centre, spread = (p + z * z / (2 * n)), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
