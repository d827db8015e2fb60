"""Geometry of the small figures: plain numbers for the templates, which draw them as SVG without script or style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fhir_mapping.core import format_number

Point = tuple[float, float]
SPARK_WIDTH, SPARK_HEIGHT = 320.0, 64.0
_PAD = 5.0


def polyline(points: Sequence[Point]) -> str:
    """
    >>> polyline([(1, 2), (3.25, 4)])
    '1.0,2.0 3.2,4.0'
    """
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def nice_top(value: float) -> float:
    """The end of a probability axis: the next of a few round numbers.

    >>> nice_top(0.13), nice_top(0.004), nice_top(0.9)
    (0.2, 0.05, 1.0)
    """
    return next(top for top in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0) if value <= top)


@dataclass(frozen=True, slots=True)
class Spark:
    """A course of values. `points` are all of them, `line` joins them; empty with fewer than two times."""

    line: str
    points: tuple[Point, ...]
    low: str
    high: str


def spark(times: Sequence[datetime], values: Sequence[float]) -> Spark:
    """At most the newest 120 values, in SPARK_WIDTH x SPARK_HEIGHT."""
    times, values = times[-120:], values[-120:]
    span = (times[-1] - times[0]).total_seconds() if times else 0.0
    if not span:
        return Spark("", (), "", "")
    low, high = min(values), max(values)
    reach = high - low
    points = tuple(
        (
            _PAD + (SPARK_WIDTH - 2 * _PAD) * (moment - times[0]).total_seconds() / span,
            SPARK_HEIGHT / 2 if not reach else SPARK_HEIGHT - _PAD - (SPARK_HEIGHT - 2 * _PAD) * (value - low) / reach,
        )
        for moment, value in zip(times, values, strict=True)
    )
    return Spark(polyline(points), points, format_number(low), format_number(high))
