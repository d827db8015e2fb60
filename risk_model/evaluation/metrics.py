"""Discrimination and calibration with patient-level bootstrap intervals (TRIPOD+AI, STRATOS).

Every metric is `{"value", "interval": [low, high]}` with a 95 % interval from resampling patients, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from artifact_store import Workers
from risk_model.core.errors import TrainingError

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats | None], float]
"""(outcome, score or probability, weight of each row or None) -> value; rows in any order."""
Family = Callable[[Floats, Floats, Floats | None], dict[str, float]]
"""Several metrics that share their work."""
EPSILON = 1e-6
_SAME = 1e-9
_SLICES = 8
"""Of the resamples of one measurement, for workers."""
_STEEPEST = 100.0
"""A slope beyond this is that of estimates which differ by next to nothing."""


def auroc(outcome: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Area under the ROC curve (Mann-Whitney), ties shared.

    >>> auroc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    return _area(*_counts(outcome, score, weight)[:2])


def auprc(outcome: Floats, score: Floats, weight: Floats | None = None) -> float:
    """Average precision, ties in one step; compare with the prevalence."""
    return _average_precision(*_counts(outcome, score, weight)[:2])


def _area(hits: Floats, misses: Floats) -> float:
    return float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1])) / (2 * hits[-1] * misses[-1]))


def _average_precision(hits: Floats, misses: Floats) -> float:
    taken = hits[1:] + misses[1:]
    # A resample may take none of the highest rows: their step adds nothing.
    precision = np.divide(hits[1:], taken, out=np.zeros_like(taken), where=taken > 0)
    return float(np.sum(np.diff(hits) * precision) / hits[-1])


def _counts(outcome: Floats, score: Floats, weight: Floats | None) -> tuple[Floats, Floats, Floats]:
    """(with outcome, without) among rows at or above each distinct score, highest first, from (0, 0); the scores."""
    order = np.argsort(-score, kind="stable")
    ranked, w = score[order], np.ones(len(score)) if weight is None else weight[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    hits = np.cumsum(w * outcome[order])[last]
    misses = np.cumsum(w * (1 - outcome[order]))[last]
    return np.r_[0.0, hits], np.r_[0.0, misses], ranked[last]


def logit(probability: Floats) -> Floats:
    clipped = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(expit(x), dtype=np.float64)


def logistic_fit(
    outcome: Floats, x: Floats, *, slope: float | None = None, weight: Floats | None = None, steps: int = 50
) -> tuple[float, float]:
    """(intercept, slope) of outcome on x by damped Newton; with `slope` given only the intercept is fitted.

    x is standardised first and a step that lowers the likelihood is halved: plain Newton runs away when x is far from
    the log-odds (a tenth of them, or shifted by two).
    """
    w: Floats = np.ones(len(x)) if weight is None else weight
    offset = np.zeros(len(x)) if slope is None else slope * x
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    columns = np.ones((len(x), 1)) if slope is not None else np.column_stack([np.ones(len(x)), (x - centre) / spread])
    answer: Floats = np.zeros(columns.shape[1])

    def loss(at: Floats) -> float:
        z = offset + columns @ at
        return float(w @ (np.logaddexp(0, z) - outcome * z))

    best = loss(answer)
    for _ in range(steps):
        residual = w * (outcome - (p := sigmoid(offset + columns @ answer)))
        gradient = columns.T @ residual
        curvature = (columns.T * (w * p * (1 - p))) @ columns + 1e-9 * np.eye(columns.shape[1])
        change = np.linalg.solve(curvature, gradient)
        if gradient @ change < 1e-9:  # twice the likelihood still to be won
            break
        tried = next(((at, lost) for share in _SHARES if (lost := loss(at := answer + share * change)) < best), None)
        if tried is None:
            break
        answer, best = tried
    if slope is not None:
        return float(answer[0]), slope
    return float(answer[0] - answer[1] * centre / spread), float(answer[1] / spread)


_SHARES = tuple(0.5 ** np.arange(12))


def calibration_slope(outcome: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """The slope of the outcome on the log-odds; NaN where no finite one exists: estimates that are all the same, or
    that separate the outcomes."""
    scores = logit(probability)
    if _separate(outcome, scores, weight):
        return float("nan")
    slope = logistic_fit(outcome, scores, weight=weight)[1]
    return slope if abs(slope) <= _STEEPEST else float("nan")


def _separate(outcome: Floats, scores: Floats, weight: Floats | None) -> bool:
    """Whether scores are all the same or separate the outcomes, so that the likelihood has no greatest value."""
    counts = np.ones(len(scores), bool) if weight is None else weight > 0
    with_it, without = scores[counts & (outcome == 1)], scores[counts & (outcome == 0)]
    if not len(with_it) or not len(without):
        return True
    return bool(with_it.min() >= without.max() - _SAME or without.min() >= with_it.max() - _SAME)


def calibration_intercept(outcome: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """Calibration in the large: the intercept with the slope held at one."""
    return logistic_fit(outcome, logit(probability), slope=1.0, weight=weight)[0]


def observed_expected(outcome: Floats, probability: Floats, weight: Floats | None = None) -> float:
    return float(np.average(outcome, weights=weight) / np.average(probability, weights=weight))


def prevalence(outcome: Floats, probability: Floats, weight: Floats | None = None) -> float:  # noqa: ARG001 - a metric
    return float(np.average(outcome, weights=weight))


def brier(outcome: Floats, probability: Floats, weight: Floats | None = None) -> float:
    return float(np.average((probability - outcome) ** 2, weights=weight))


ALERT_RATES = (0.05, 0.1, 0.2)
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
_CALIBRATION: Mapping[str, Metric] = {
    "brier": brier,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
    "observed_expected": observed_expected,
}
PROBABILITY_METRICS: Mapping[str, Metric] = {"auroc": auroc, "auprc": auprc, **_CALIBRATION}
SCORE_METRICS: Mapping[str, Metric] = {"auroc": auroc, "auprc": auprc}


def ranking_metrics(outcome: Floats, score: Floats, weight: Floats | None = None) -> dict[str, float]:
    """What needs only an order: AUROC, AUPRC, and at fixed alert rates the share of alerts that are right (PPV) and
    the share of outcomes that are found (sensitivity), ties shared out."""
    hits, misses, _ = _counts(outcome, score, weight)
    found = {"auroc": _area(hits, misses), "auprc": _average_precision(hits, misses)}
    for rate in ALERT_RATES:
        alerts = rate * (hits[-1] + misses[-1])
        right = float(np.interp(alerts, hits + misses, hits))
        found[f"ppv_at_{100 * rate:.0f}_alerts_per_100"] = right / float(alerts)
        found[f"sensitivity_at_{100 * rate:.0f}_alerts_per_100"] = right / float(hits[-1])
    return found


def report_metrics(outcome: Floats, probability: Floats, weight: Floats | None = None) -> dict[str, float]:
    """Everything a report holds of a probability; net benefit as of Vickers and Elkin 2006, per row."""
    hits, misses, values = _counts(outcome, probability, weight)
    rows = float(hits[-1] + misses[-1])
    found = {name: metric(outcome, probability, weight) for name, metric in _CALIBRATION.items()}
    found["prevalence"] = float(hits[-1]) / rows
    for at in THRESHOLDS:
        reached = int(np.searchsorted(-values, -at, side="right"))
        gain = hits[reached] - misses[reached] * at / (1 - at)
        found[f"net_benefit_at_{100 * at:.0f}_percent"] = float(gain) / rows
        found[f"alerts_per_100_at_{100 * at:.0f}_percent"] = 100 * float(hits[reached] + misses[reached]) / rows
    return ranking_metrics(outcome, probability, weight) | found


def subgroup_metrics(outcome: Floats, probability: Floats, weight: Floats | None = None) -> dict[str, float]:
    """Discrimination and calibration of a part of the rows."""
    wanted = {"auroc": auroc, **_CALIBRATION, "prevalence": prevalence}
    return {name: metric(outcome, probability, weight) for name, metric in wanted.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is to be measured: outcome and score of shape (rows,), a patient for each row, and the metrics.

    A resample is a weight for each row (how often its patient was drawn), so rows are sorted once and not per resample.
    Raises TrainingError when the outcome has one class only.
    """

    outcome: Floats
    score: Floats
    patients: Sequence[str] | NDArray[np.str_]
    metrics: Mapping[str, Metric] | Family = field(default_factory=lambda: PROBABILITY_METRICS)
    seed: int = 0
    _order: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("outcome", "score"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if len(self.outcome) == 0 or self.outcome.min() == self.outcome.max():
            raise TrainingError("the outcome has one class only; nothing can be measured")
        object.__setattr__(self, "_order", np.argsort(-self.score, kind="stable"))

    def of(self, weight: Floats | None = None) -> dict[str, float]:
        """Returns the metrics; `weight` is that of each row, the highest score first."""
        y, s = self.outcome[self._order], self.score[self._order]
        if callable(self.metrics):
            return self.metrics(y, s, weight)
        return {name: metric(y, s, weight) for name, metric in self.metrics.items()}

    def resampled(self, start: int, stop: int) -> list[list[float]]:
        """Returns the metrics of the resamples from `start` to `stop` that hold both outcomes."""
        _, patient = np.unique(np.asarray(self.patients)[self._order], return_inverse=True)
        count = int(patient.max()) + 1
        generator = np.random.default_rng(self.seed)
        y, samples = self.outcome[self._order], []
        # Many short products: threads would wait for each other longer than they work.
        with threadpool_limits(1, user_api="blas"):
            for number in range(stop):
                chosen = generator.integers(0, count, count)
                if number < start:  # drawn all the same: a resample is one, whoever takes it
                    continue
                drawn = np.bincount(chosen, minlength=count).astype(np.float64)[patient]
                if 0 < drawn @ y < drawn.sum():
                    samples.append(list(self.of(drawn).values()))
        return samples


def measure(
    outcome: Floats,
    score: Floats,
    groups: Sequence[str] | NDArray[np.str_],
    *,
    metrics: Mapping[str, Metric] | Family = PROBABILITY_METRICS,
    bootstraps: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Each metric with its 95 % interval from `bootstraps` resamples of patients.

    Raises TrainingError when the outcome has one class only.
    """
    return next(measure_all([Measured(outcome, score, groups, metrics, seed)], bootstraps))


def measure_all(
    asked: Sequence[Measured], bootstraps: int = 1000, workers: Workers | None = None
) -> Iterator[dict[str, dict[str, Any]]]:
    """Yields each metric of each measurement with its 95 % interval, in order; the same with any number of workers.

    Raises TrainingError for a measurement without a resample that holds both outcomes.
    """
    at_once = workers or Workers()
    # One alone has no reason to draw a resample twice.
    step = bootstraps if at_once == Workers() else -(-bootstraps // _SLICES)
    slices = [(start, min(start + step, bootstraps)) for start in range(0, bootstraps, step)]
    items = ((number, *each) for number in range(len(asked)) for each in slices)
    found = at_once.map(partial(_resampled, tuple(asked)), items)
    for measured in asked:
        yield _with_intervals(measured.of(), [sample for _ in slices for sample in next(found)])


def _resampled(asked: Sequence[Measured], item: tuple[int, int, int]) -> list[list[float]]:
    number, start, stop = item
    return asked[number].resampled(start, stop)


def _with_intervals(found: Mapping[str, float], samples: Sequence[Sequence[float]]) -> dict[str, dict[str, Any]]:
    if not samples:
        raise TrainingError("too few patients to resample: no resample holds both outcomes")
    drawn_values = np.array(samples)
    low, high = np.percentile(drawn_values, [2.5, 97.5], axis=0)
    # A metric that most resamples do not have has no interval either.
    kept = np.isfinite(drawn_values)
    for place in np.flatnonzero((kept.mean(axis=0) > 0.5) & ~kept.all(axis=0)):
        low[place], high[place] = np.percentile(drawn_values[kept[:, place], place], [2.5, 97.5])
    return {
        name: {"value": value, "interval": [float(low[i]), float(high[i])]}
        for i, (name, value) in enumerate(found.items())
    }
