"""Limits how far findings of a language model can change an estimate: within a range around the estimate without notes.

Text in a note can make a language model say anything. Its influence is therefore limited by a model that uses no text,
and that model alone decides on which side of a threshold a patient falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log

NOTE_BOUND = 0.7
"""Log-odds: 0.7 at most doubles or halves the odds."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A probability limited to a range around its anchor; `cut` is true if it was outside."""

    probability: float
    anchor: float
    cut: bool


def within(probability: float, anchor: float, bound: float = NOTE_BOUND) -> Bounded:
    """Returns the probability limited to `bound` log-odds around `anchor`.

    >>> within(0.30, 0.20), within(0.99, 0.20).cut, round(within(0.99, 0.20).probability, 3)
    (Bounded(probability=0.3, anchor=0.2, cut=False), True, 0.335)
    >>> within(0.0, 1.0)
    Bounded(probability=1.0, anchor=1.0, cut=True)
    """
    centre = _log_odds(anchor)
    moved = _log_odds(probability)
    if abs(moved - centre) <= bound:
        return Bounded(probability, anchor, cut=False)
    if centre in {inf, -inf}:
        return Bounded(anchor, anchor, cut=True)
    edge = centre + bound if moved > centre else centre - bound
    return Bounded(1 / (1 + exp(-edge)), anchor, cut=True)


def _log_odds(probability: float) -> float:
    if probability in {0.0, 1.0}:
        return inf if probability else -inf
    return log(probability / (1 - probability))
