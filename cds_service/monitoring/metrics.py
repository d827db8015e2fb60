"""The Prometheus metrics: answers, statuses, times, alert burden, overrides, abstentions. Label values are closed sets.

Label values never come from a request: they are our names of services, tasks and results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from risk_model import Assessment

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 4.5, 10.0)
_PROBABILITIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0)
OTHER = "other"


class Metrics:
    """One set per application; summed over workers when PROMETHEUS_MULTIPROC_DIR names a folder they share."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._answers = Counter(
            "riskcards_answers", "Answers by service and result.", ["service", "result"], registry=own
        )
        self._seconds = Histogram(
            "riskcards_hook_seconds", "Time to answer a hook.", ["service"], buckets=_SECONDS, registry=own
        )
        self._cards = Counter(
            "riskcards_cards_shown", "Cards shown by indicator.", ["service", "indicator"], registry=own
        )
        self._abstentions = Counter("riskcards_abstentions", "Estimates withheld.", ["task", "code"], registry=own)
        self._estimates = Histogram(
            "riskcards_estimate", "Probabilities estimated.", ["task"], buckets=_PROBABILITIES, registry=own
        )
        self._inputs = Counter("riskcards_inputs", "Model inputs, known or unknown.", ["task", "known"], registry=own)
        self._feedback = Counter("riskcards_feedback", "Feedback by outcome.", ["service", "outcome"], registry=own)
        self._refused = Counter("riskcards_tokens_refused", "Client tokens refused.", registry=own)
        self._watched = Gauge(
            "riskcards_monitor",
            "From the store: of 7 days cards, warnings, overrides, abstentions per 100 and PSI of estimates; "
            "of 180 days calibration against the outcomes imported.",
            ["of", "figure"],
            multiprocess_mode="mostrecent",
            registry=own,
        )
        self._load = Gauge(
            "riskcards_requests", "Hook requests now.", ["state"], multiprocess_mode="livesum", registry=own
        )

    def answered(self, service: str, result: str) -> None:
        self._answers.labels(service, result).inc()

    def took(self, service: str, seconds: float) -> None:
        self._seconds.labels(service).observe(seconds)

    def assessed(self, service: str, assessments: Sequence[Assessment], indicator: str | None) -> None:
        """Estimates and their inputs; `indicator` only when the card was shown."""
        if indicator is not None:
            self._cards.labels(service, indicator).inc()
        for estimate in (assessment.estimate for assessment in assessments):
            if estimate.abstention is not None:
                self._abstentions.labels(estimate.task, estimate.abstention.code).inc()
                continue
            if estimate.probability is not None:
                self._estimates.labels(estimate.task).observe(estimate.probability)
            unknown = sum(value != value for value in estimate.inputs)
            self._inputs.labels(estimate.task, "no").inc(unknown)
            self._inputs.labels(estimate.task, "yes").inc(len(estimate.inputs) - unknown)

    def feedback(self, service: str, outcome: str) -> None:
        self._feedback.labels(service, outcome).inc()

    def token_refused(self) -> None:
        self._refused.inc()

    def watched(self, figures: Mapping[tuple[str, str], float]) -> None:
        """(service or task, figure) -> value, as `monitoring.gauges` counts them."""
        for labels, value in figures.items():
            self._watched.labels(*labels).set(value)

    def text(self, inside: int, waiting: int) -> bytes:
        """The exposition format, version 0.0.4."""
        self._load.labels("inside").set(inside)
        self._load.labels("waiting").set(waiting)
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return generate_latest(self._registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)
