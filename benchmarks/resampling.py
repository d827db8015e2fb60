"""Figures of two or more models on the same patients, resampled in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BOOTSTRAPS = 1000


def resampled(
    y: Floats, figure: Callable[[Floats | None], Floats], bootstraps: int = BOOTSTRAPS
) -> tuple[Floats, Floats]:
    """(figures, draws): `figure(weight)` with no weight, shape (k,), and for each draw of patients, (draws, k).

    `weight` says how often each row was drawn, shape (n,); a draw with one outcome only is left out. Every figure sees
    the same draws, so differences between models are those of the same patients.
    """
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(bootstraps):
        weight = np.bincount(generator.integers(0, len(y), len(y)), minlength=len(y)).astype(np.float64)
        if 0 < weight @ y < weight.sum():
            drawn.append(figure(weight))
    return figure(None), np.array(drawn)


def with_interval(value: float, draws: Floats) -> dict[str, Any]:
    """A figure with its 95 % interval."""
    return {"value": value, "interval": np.percentile(draws, [2.5, 97.5]).tolist()}
