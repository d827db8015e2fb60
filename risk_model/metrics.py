"""Discrimination and calibration with patient-level bootstrap intervals (TRIPOD+AI, STRATOS).

Every metric is `{"value", "interval": [low, high]}` with a 95 % interval from resampling patients, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def logistic_fit(outcome: Floats, x: Floats, *, slope: float | None = None, steps: int = 25) -> tuple[float, float]:
    """(intercept, slope) of outcome on x by Newton's method; with `slope` given only the intercept is fitted."""
    a, b = 0.0, 1.0 if slope is None else slope
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(a + b * x)))
        weight = p * (1 - p)
        residual = outcome - p
        if slope is not None:
            a += residual.sum() / max(weight.sum(), EPSILON)
            continue
        hessian = np.array([[weight.sum(), (weight * x).sum()], [(weight * x).sum(), (weight * x * x).sum()]])
        change = np.linalg.solve(hessian + 1e-9 * np.eye(2), np.array([residual.sum(), (residual * x).sum()]))
        a, b = a + float(change[0]), b + float(change[1])
    return float(a), float(b)


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
