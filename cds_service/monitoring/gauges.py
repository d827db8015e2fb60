"""The main monitoring figures for /metrics, counted in the background, at most once a minute in each worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock, Thread

import numpy as np

from cds_service.monitoring.document import abstentions, burden, feedback
from cds_service.monitoring.model_fit import TRAINING, calibration_now, latest
from cds_service.store.errors import StoreError
from cds_service.store.store import Store
from risk_model import RiskModel
from risk_model.models import compare_distributions, compare_training_probabilities

DAYS = 7
CALIBRATED_DAYS = 180
FRESH_SECONDS = 60.0
WAIT_SECONDS = 1.0
_SHARE = 20
LOG = logging.getLogger("riskcards")
Figures = Mapping[tuple[str, str], float]


class Gauges:
    """Gauges(store, models).figures() -> {("readmission-30d", "warnings_per_100"): 12.5, ...}"""

    def __init__(
        self, store: Store, models: Mapping[str, RiskModel], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._models = models
        self._clock = clock
        self._lock, self._starting = Lock(), Lock()
        self._read, self._pause = float("-inf"), FRESH_SECONDS
        self._counting: Thread | None = None
        self._figures: Figures = {}

    def figures(self) -> Figures:
        """Returns figures at most a minute old, counted now if need be. Raises StoreError.

        A count takes at most a twentieth of the time: of a large store the figures are older.
        """
        with self._lock:
            if self._is_due():
                # Set before the query, so that a database that is down is not queried on every scrape.
                began = self._read = self._clock()
                self._figures = dict(self._counted())
                self._pause = max(FRESH_SECONDS, _SHARE * (self._clock() - began))
            return self._figures

    def latest(self) -> Figures:
        """Returns the newest figures, at once: they are counted in the background, by one thread, when they are due.

        Only the first ones are waited for, at most WAIT_SECONDS.
        """
        with self._starting:
            if self._counting is None and self._is_due():
                self._counting = Thread(target=self._count, name="gauges", daemon=True)
                self._counting.start()
            counting = self._counting
        if counting is not None and not self._figures:
            counting.join(WAIT_SECONDS)
        return self._figures

    def _is_due(self) -> bool:
        return self._clock() - self._read >= self._pause

    def _count(self) -> None:
        try:
            self.figures()
        except StoreError as error:
            # The counters are still correct, and readiness reports that the store is down.
            LOG.error("monitoring %s", error)
        except Exception as error:  # noqa: BLE001 - a scrape must go on without these figures
            LOG.error("monitoring error=%s", error.__class__.__name__)
        finally:
            self._counting = None

    def _counted(self) -> Iterator[tuple[tuple[str, str], float]]:
        since = datetime.now(UTC) - timedelta(days=DAYS)
        history = self._store.history
        counts, answered = history.counts(since), history.estimates(since)
        # Readmission is known a month later, so calibration covers a longer period.
        with_outcome = history.estimates(datetime.now(UTC) - timedelta(days=CALIBRATED_DAYS), with_outcome=True)
        tables = (burden(counts), feedback(counts, history.feedback(since)), abstentions(answered))
        for table in tables:
            for of, item in table.items():
                yield from (((of, name), value) for name, value in item.items() if _is_rate(name, value))
        for task, model in self._models.items():
            own = np.array([item.probability for item in latest(answered, model)], dtype=np.float64)
            found = compare_distributions("probability", own, compare_training_probabilities(model), TRAINING)
            if found.psi is not None:
                yield (task, "estimates_psi"), found.psi
            reported = calibration_now(latest(with_outcome, model))
            for name, value in reported.items():
                yield (task, f"calibration_{name.removeprefix('calibration_')}"), value


def _is_rate(name: str, value: object) -> bool:
    return "per_100" in name and isinstance(value, float)
