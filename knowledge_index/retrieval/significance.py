"""Significance of the difference between two retrievers: paired by query, without assuming normality.

Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval evaluation"
(CIKM 2007): the randomisation test for p, the bootstrap over queries for the interval. Both are seeded and
deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10_000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean difference between two retrievers over the same queries, its 95 % interval and two-sided p."""

    difference: float
    interval: tuple[float, float]
    p: float

    def to_json(self) -> dict[str, object]:
        return {"difference": self.difference, "interval": list(self.interval), "p": self.p}


def paired(one: Sequence[float], other: Sequence[float]) -> Paired:
    """Compares the values of two retrievers for the same queries, in the same order.

    >>> paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    Paired(difference=0.0, interval=(0.0, 0.0), p=1.0)
    """
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    mean = float(differences.mean())
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), size=(ROUNDS, len(differences)))
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9
    # The observed labelling counts as one permutation: p is never zero.
    p = (int(extreme.sum()) + 1) / (ROUNDS + 1)
    return Paired(mean, interval(differences), p)


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over queries."""
    drawn = np.asarray(values, np.float64)
    rows = np.random.default_rng(_SEED).integers(0, len(drawn), size=(ROUNDS, len(drawn)))
    low, high = np.percentile(drawn[rows].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
