"""Discrimination and calibration with patient-level bootstrap intervals (TRIPOD+AI, STRATOS).

Every metric is `{"value", "interval": [low, high]}` with a 95 % interval from resampling patients, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from risk_model.errors import TrainingError

Floats = NDArray[np.float64]
EPSILON = 1e-6


def auroc(outcome: Floats, score: Floats) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties shared.

    >>> auroc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = outcome.sum()
    negatives = len(outcome) - positives
    return float((ranks[outcome == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auprc(outcome: Floats, score: Floats) -> float:
    """Average precision, ties in one step; compare with the prevalence."""
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(outcome[order]), score[order]
    last = np.r_[ranked[1:] != ranked[:-1], True]
    hits_at, taken = hits[last], np.flatnonzero(last) + 1
    return float(np.sum(np.diff(np.r_[0.0, hits_at]) * hits_at / taken) / outcome.sum())


def brier(outcome: Floats, probability: Floats) -> float:
    return float(np.mean((probability - outcome) ** 2))


def logit(probability: Floats) -> Floats:
    clipped = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(expit(x), dtype=np.float64)


def logistic_fit(outcome: Floats, x: Floats, *, slope: float | None = None, steps: int = 50) -> tuple[float, float]:
    """(intercept, slope) of outcome on x by damped Newton; with `slope` given only the intercept is fitted.

    x is standardised first and a step that lowers the likelihood is halved: plain Newton runs away when x is far from
    the log-odds (a tenth of them, or shifted by two).
    """
    offset = np.zeros(len(x)) if slope is None else slope * x
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    columns = np.ones((len(x), 1)) if slope is not None else np.column_stack([np.ones(len(x)), (x - centre) / spread])
    answer: Floats = np.zeros(columns.shape[1])
    for _ in range(steps):
        p = sigmoid(offset + columns @ answer)
        curvature = (columns.T * (p * (1 - p))) @ columns + 1e-9 * np.eye(columns.shape[1])
        change: Floats = np.linalg.solve(curvature, columns.T @ (outcome - p)).astype(np.float64)
        change = change * _damping(outcome, offset, columns, answer, change)
        answer = answer + change
        if np.abs(change).max() < 1e-10:
            break
    if slope is not None:
        return float(answer[0]), slope
    return float(answer[0] - answer[1] * centre / spread), float(answer[1] / spread)


def _damping(outcome: Floats, offset: Floats, columns: Floats, answer: Floats, change: Floats) -> float:
    """The largest of 1, 1/2, 1/4 ... of a step that does not lower the likelihood; 0 when none does."""

    def loss(at: Floats) -> float:
        x = offset + columns @ at
        return float(np.sum(np.logaddexp(0, x) - outcome * x))

    start = loss(answer)
    return next((share for share in 0.5 ** np.arange(12) if loss(answer + share * change) <= start), 0.0)


def calibration_slope(outcome: Floats, probability: Floats) -> float:
    return logistic_fit(outcome, logit(probability))[1]


def calibration_intercept(outcome: Floats, probability: Floats) -> float:
    """Calibration in the large: the intercept with the slope held at one."""
    return logistic_fit(outcome, logit(probability), slope=1.0)[0]


def observed_expected(outcome: Floats, probability: Floats) -> float:
    return float(outcome.sum() / probability.sum())


PROBABILITY_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "auroc": auroc,
    "auprc": auprc,
    "brier": brier,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
    "observed_expected": observed_expected,
}
SCORE_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {"auroc": auroc, "auprc": auprc}


def measure(
    outcome: Floats,
    score: Floats,
    groups: Sequence[str],
    *,
    metrics: Mapping[str, Callable[[Floats, Floats], float]] = PROBABILITY_METRICS,
    bootstraps: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Each metric with its 95 % interval from `bootstraps` resamples of patients.

    Raises TrainingError when the outcome has one class only.
    """
    outcome, score = np.asarray(outcome, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if outcome.min() == outcome.max():
        raise TrainingError("the outcome has one class only; nothing can be measured")
    rows = _rows_by_group(groups)
    generator = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(bootstraps):
        chosen = np.concatenate([rows[i] for i in generator.integers(0, len(rows), len(rows))])
        y = outcome[chosen]
        if y.min() == y.max():
            continue
        for name, metric in metrics.items():
            samples[name].append(metric(y, score[chosen]))
    return {
        name: {
            "value": metric(outcome, score),
            "interval": [float(v) for v in np.percentile(samples[name], [2.5, 97.5])],
        }
        for name, metric in metrics.items()
    }


def _rows_by_group(groups: Sequence[str]) -> list[NDArray[np.int64]]:
    names = np.asarray(groups)
    order = np.argsort(names, kind="stable")
    borders = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    return [np.asarray(part) for part in np.split(order, borders)]
