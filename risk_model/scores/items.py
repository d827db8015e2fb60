"""Adds up score items; an item with a missing input contributes a range of points.

A score with a missing input is a range from the fewest to the most points that the input could give: unknown is never
normal. A further known input can only narrow the range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fhir_mapping import FeatureVector
from risk_model.core.values import ScoreResult


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """One input: its points if known, else the fewest and most it could give."""

    name: str
    value: str
    points: int | None
    fewest: int = 0
    most: int = 0


def total(
    name: str,
    maximum: int,
    items: Sequence[ScoreItem],
    band: Callable[[int], str] | None,
    source: str,
    worst_band: Callable[[int], str] | None = None,
) -> ScoreResult:
    """Returns the sum over `items`. `band` names a total, if the score has bands.

    `worst_band` names the high end, if a missing input could change the rule.
    """
    known = [item for item in items if item.points is not None]
    base = sum(item.points or 0 for item in known)
    missing = [item for item in items if item.points is None]
    low, high = base + sum(item.fewest for item in missing), base + sum(item.most for item in missing)
    at_least = band(low) if band is not None else None
    at_most = (worst_band or band)(high) if band is not None else None
    return ScoreResult(
        name=name,
        low=low,
        high=high,
        maximum=maximum,
        band=at_least if at_least == at_most else None,
        missing=tuple(item.name for item in missing),
        inputs=tuple((item.name, item.value, item.points or 0) for item in known),
        source=source,
    )


def steps(value: float, *bounds: tuple[float, int], otherwise: int) -> int:
    """Returns the points of the first step with an upper bound (inclusive) of at least `value`.

    >>> steps(25, (8, 3), (11, 1), (20, 0), (24, 2), otherwise=3)
    3
    """
    return next((points for bound, points in bounds if value <= bound), otherwise)


def below(value: float, *bounds: tuple[float, int], otherwise: int) -> int:
    """Returns the points of the first step with an upper bound (exclusive) above `value`.

    >>> below(100, (70, 13), (100, 5), (200, 0), otherwise=2)
    0
    """
    return next((points for bound, points in bounds if value < bound), otherwise)


def item(name: str, value: float | None, unit: str, most: int, points: Callable[[float], int]) -> ScoreItem:
    if value is None:
        return ScoreItem(name, "", None, 0, most)
    return ScoreItem(name, _in_words(value, unit), points(value))


def worst(
    name: str, low: float | None, high: float | None, unit: str, most: int, points: Callable[[float], int]
) -> ScoreItem:
    """The item for the lowest or the highest value, whichever scores more."""
    if low is None or high is None:
        return ScoreItem(name, "", None, 0, most)
    value = max((low, high), key=points)
    return ScoreItem(name, _in_words(value, unit), points(value))


def _in_words(value: float, unit: str) -> str:
    """Returns a value with its unit.

    >>> _in_words(85.5, "%"), _in_words(1.001, "days")
    ('85.5 %', '1 day')
    """
    number = f"{round(value, 2):g}"
    return f"{number} {'day' if (number, unit) == ('1', 'days') else unit}".strip()


def flag(name: str, value: float | None, points: int) -> ScoreItem:
    """A yes-no item."""
    if value is None:
        return ScoreItem(name, "", None, 0, points)
    return ScoreItem(name, "yes" if value else "no", points if value else 0)


def adult(vector: FeatureVector, years: int) -> bool:
    age = vector.number("age.last")
    return age is not None and age >= years


def with_risk(result: ScoreResult, risk: Callable[[int], tuple[float, float] | None], outcome: str) -> ScoreResult:
    """Returns the result with the range of published risks of `outcome` from its fewest to its most points.

    `risk` returns the published range of a number of points, None where nothing is published; it does not fall with
    rising points.
    """
    fewest, most = risk(result.low), risk(result.high)
    if fewest is None or most is None:
        return result
    return replace(result, published_risk=(fewest[0], most[1]), published_outcome=outcome)
