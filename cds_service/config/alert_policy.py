"""When a card stays unseen, and when a warning is softened: alerts that come too often are not read at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cds_service.store.store import Override
from risk_model import RiskEstimate

RATE_WINDOW = timedelta(hours=24)
# A share of fewer cards than this says nothing.
_RATE_MINIMUM = 20
MAX_SNOOZE_HOURS = 72.0


class Shown(StrEnum):
    """What became of a card; kept with it."""

    SHOWN = "shown"
    SILENT = "silent"
    SUPPRESSED = "suppressed"
    BELOW_THRESHOLD = "below-threshold"


@dataclass(frozen=True, slots=True)
class QuietRules:
    """For `snooze_hours` after an override that user sees no card on that stay, unless a risk moved by `delta`.

    0 hours: no snooze; more than 72 count as 72. `warnings_per_100` caps warnings among a service's cards of the last
    day (0: no cap).
    """

    snooze_hours: float = 0.0
    delta: float = 0.05
    warnings_per_100: float = 0.0
    quiet_below_threshold: bool = False

    def suppressed(self, override: Override | None, estimates: Sequence[RiskEstimate], now: datetime) -> bool:
        """Whether this user has set these estimates aside not long ago, and nothing has moved since."""
        hours = min(self.snooze_hours, MAX_SNOOZE_HOURS)
        if override is None or now - override.at >= timedelta(hours=hours):
            return False
        return all(_unmoved(override.probabilities, estimate, self.delta) for estimate in estimates)

    def over_cap(self, warnings: int, cards: int) -> bool:
        """Whether, after so many warnings among the cards of the window, one more would go over the cap."""
        if not self.warnings_per_100:
            return False
        return cards >= _RATE_MINIMUM and 100 * (warnings + 1) > self.warnings_per_100 * (cards + 1)


def _unmoved(seen: Mapping[str, float | None], estimate: RiskEstimate, delta: float) -> bool:
    """A risk that appeared, vanished or moved is news; the same abstention again is none."""
    if estimate.task not in seen:
        return False
    before, now = seen[estimate.task], estimate.probability
    if before is None or now is None:
        return before is now
    return abs(now - before) < delta
