"""Alert policy: when a card is suppressed and when a warning becomes info, against alert fatigue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cds_service.store.store import Override
from risk_model import RiskEstimate

RATE_WINDOW = timedelta(hours=24)
# The warning rate of fewer cards than this is not meaningful.
_RATE_MINIMUM = 20
MAX_SNOOZE_HOURS = 72.0


class Shown(StrEnum):
    """Whether a card was shown, or why not; stored with it."""

    SHOWN = "shown"
    SILENT = "silent"
    SUPPRESSED = "suppressed"
    BELOW_THRESHOLD = "below-threshold"


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """After an override that user sees no card on that stay for `snooze_hours`, unless a risk changed by `delta`.

    0 hours means no snooze; at most 72 hours count. `warnings_per_100` limits the warnings among a service's cards of
    the last 24 hours (0: no limit).
    """

    snooze_hours: float = 0.0
    delta: float = 0.05
    warnings_per_100: float = 0.0
    quiet_below_threshold: bool = False

    def suppressed(self, override: Override | None, estimates: Sequence[RiskEstimate], now: datetime) -> bool:
        """Whether this user's override is within the snooze and no estimate has changed since."""
        hours = min(self.snooze_hours, MAX_SNOOZE_HOURS)
        if override is None or now - override.at >= timedelta(hours=hours):
            return False
        return all(_unchanged(override.probabilities, estimate, self.delta) for estimate in estimates)

    def over_cap(self, warnings: int, cards: int) -> bool:
        """Whether one more warning would exceed the cap, after `warnings` among `cards` in the window."""
        if not self.warnings_per_100:
            return False
        return cards >= _RATE_MINIMUM and 100 * (warnings + 1) > self.warnings_per_100 * (cards + 1)


def _unchanged(seen: Mapping[str, float | None], estimate: RiskEstimate, delta: float) -> bool:
    """Whether an estimate is as before: within `delta`, or an abstention again."""
    if estimate.task not in seen:
        return False
    before, now = seen[estimate.task], estimate.probability
    if before is None or now is None:
        return before is now
    return abs(now - before) < delta
