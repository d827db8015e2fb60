"""What a language model thinks of a window of a note: a level of risk, the log-odds behind it, and a sentence.

    Opinion("high", 1.3, "Lactate 6.4, on two pressors.")

The number is made of the probabilities that the model itself gives the levels at the place where it chooses one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from risk_model.core.errors import AnswerError
from risk_model.prompts.answers import RISK_LEVELS

_NOMINAL: Mapping[str, float] = {"low": -2.0, "moderate": 0.0, "high": 2.0}
_FURTHEST = 12.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """`level` is one of RISK_LEVELS. `log_odds` is None where the backend gives no probabilities. `reason` is a
    sentence of the window, "" where none was asked for or given; `dropped` where one was given that the window does
    not hold.
    """

    level: str
    log_odds: float | None = None
    reason: str = ""
    dropped: bool = False
    cited: tuple[int, ...] = ()
    """Numbers of the passages shown that the reason names."""
    cited_dropped: int = 0
    """Numbers it named that no passage had."""

    def __post_init__(self) -> None:
        """Raises AnswerError for what is no opinion."""
        number = self.log_odds is None or (isinstance(self.log_odds, float) and math.isfinite(self.log_odds))
        if self.level not in RISK_LEVELS or not number or not isinstance(self.reason, str):
            raise AnswerError("opinion")

    @property
    def number(self) -> float:
        """The log-odds; for a level without probabilities a fixed value: -2, 0 or 2."""
        return _NOMINAL[self.level] if self.log_odds is None else self.log_odds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Opinion:
        """Raises AnswerError where `raw` is none of ours."""
        try:
            return cls(**{**raw, "cited": tuple(raw.get("cited", ()))})
        except TypeError:
            raise AnswerError("opinion") from None


@dataclass(frozen=True, slots=True)
class Opinions:
    """What a language model said of one patient's windows. Its estimate counts once it has answered for all."""

    said: tuple[Opinion, ...] = ()
    waiting: int = 0
    """Windows that it has yet to be asked about."""
    failed: int = 0
    """Windows for which it gave no usable answer when it was asked."""

    @property
    def whole(self) -> bool:
        return bool(self.said) and not self.waiting and not self.failed


def weighed(weights: Sequence[float], offset: float = 0.0) -> tuple[str, float]:
    """(the likeliest level, log-odds) of the logarithms of weights of RISK_LEVELS, up to one constant.

    The odds are those of the mean level, with low as 0, moderate as a half and high as 1; `offset` is added to their
    logarithm, and decides nothing about the level.

    >>> weighed([0.0, 0.0, 0.0]), weighed([0.0, -1e9, 1.0])
    (('low', 0.0), ('high', 1.0))
    """
    largest = max(weights)
    low, moderate, high = (math.exp(weight - largest) for weight in weights)
    odds = (high + moderate / 2) / max(low + moderate / 2, 1e-30)
    bounded = min(max(math.log(max(odds, 1e-30)), -_FURTHEST), _FURTHEST)
    return RISK_LEVELS[list(weights).index(largest)], bounded + offset
