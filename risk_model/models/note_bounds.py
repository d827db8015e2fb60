"""How far what a language model read may move an estimate: within a bound around the estimate without any note.

A language model can be talked into anything by what it reads. What it may change is therefore bounded by a model that
read no words at all, and which side of a threshold a patient stands on is decided without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log

NOTE_BOUND = 0.7
"""Log-odds: odds at most doubled or halved."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A probability held near its anchor; `cut` where it would have gone further."""

    probability: float
    anchor: float
    cut: bool


def within(probability: float, anchor: float, bound: float = NOTE_BOUND) -> Bounded:
    """
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
