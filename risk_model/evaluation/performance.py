"""metrics.json: a model, its comparators on the same rows, its subgroups, and whether its promises were kept.

Every metric is `{"value", "interval": [low, high]}`, 95 %, from resampling patients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import Workers
from risk_model.core.errors import TrainingError
from risk_model.evaluation.metrics import Measured, measure_all, ranking_metrics, report_metrics, subgroup_metrics
from risk_model.models.conformal import Conformal, cross_calibrated, group_scores, one_row_each

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
SMALLEST_SUBGROUP = 100
FEWEST_COVERED = 20


@dataclass(frozen=True, slots=True)
class EvaluatedRows:
    """Rows to evaluate: outcomes and probabilities of shape (rows,), a patient id for each row.

    `comparators` are scores (rows,) with NaN where a score could not be had; `subgroups` are masks (rows,). `covered`
    and `distances` come from `cross_calibrated` or `held_out_coverage`: whether the truth was in each row's prediction
    set, and how far group rates lay from the estimates in units of the interval.
    """

    outcome: Floats
    probability: Floats
    patients: NDArray[np.str_]
    comparators: Mapping[str, Floats] = field(default_factory=dict)
    subgroups: Mapping[str, Mask] = field(default_factory=dict)
    covered: Mask | None = None
    distances: Floats | None = None


def evaluate(
    rows: EvaluatedRows,
    *,
    bootstraps: int = 1000,
    progress: Callable[[str], None] = lambda _: None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """The document behind metrics.json. Raises TrainingError when the outcome has one class only."""
    if len(rows.outcome) == 0:
        raise TrainingError("there are no rows to evaluate")
    known = {name: np.isfinite(score) for name, score in rows.comparators.items()}
    asked = [Measured(rows.outcome, rows.probability, rows.patients, report_metrics)]
    asked += [each for name, mask in known.items() for each in _compared(rows, rows.comparators[name], mask)]
    asked += [each for mask in rows.subgroups.values() for each in _within(rows, mask)]
    found = measure_all(asked, bootstraps, workers)
    progress(f"model: {bootstraps} resamples of {len(set(rows.patients))} patients")
    document: dict[str, Any] = dict(next(found))
    document["comparators"] = {}
    for name, mask in known.items():
        progress(f"comparator: {name}")
        document["comparators"][name] = _comparator(rows, mask, found)
    document["subgroups"] = {}
    for name, inside in rows.subgroups.items():
        progress(f"subgroup: {name}")
        document["subgroups"][name] = _subgroup(rows, inside, found, bootstraps)
    if rows.covered is not None:
        document["conformal"] = coverage(rows, bootstraps)
    document["rows"], document["patients"] = len(rows.outcome), len(set(rows.patients.tolist()))
    document["outcomes"] = int(rows.outcome.sum())
    document["bootstraps"] = bootstraps
    return document


def _both(outcome: Floats) -> bool:
    return bool(0 < outcome.sum() < len(outcome))


def _compared(rows: EvaluatedRows, score: Floats, known: Mask) -> list[Measured]:
    """A score on the rows that have it, and the model on exactly those rows."""
    y, patients = rows.outcome[known], rows.patients[known]
    if not _both(y):
        return []
    return [Measured(y, each[known], patients, ranking_metrics) for each in (score, rows.probability)]


def _comparator(rows: EvaluatedRows, known: Mask, measured: Iterator[dict[str, Any]]) -> dict[str, Any]:
    y = rows.outcome[known]
    found: dict[str, Any] = {"rows": int(known.sum()), "outcomes": int(y.sum())}
    if not _both(y):
        return found | {"reason": "its rows have one class only"}
    return found | next(measured) | {"model_on_the_same_rows": next(measured)}


def _within(rows: EvaluatedRows, inside: Mask) -> list[Measured]:
    """The model on the rows of a subgroup that is large enough."""
    y = rows.outcome[inside]
    if len(y) < SMALLEST_SUBGROUP or not _both(y):
        return []
    return [Measured(y, rows.probability[inside], rows.patients[inside], subgroup_metrics)]


def _subgroup(rows: EvaluatedRows, inside: Mask, measured: Iterator[dict[str, Any]], bootstraps: int) -> dict[str, Any]:
    y = rows.outcome[inside]
    if len(y) < SMALLEST_SUBGROUP:
        return {"rows": len(y), "reason": f"fewer than {SMALLEST_SUBGROUP} rows: not reported"}
    found: dict[str, Any] = {"rows": len(y), "outcomes": int(y.sum())}
    if not _both(y):
        return found | {"reason": "one class only"}
    found |= next(measured)
    if rows.covered is not None:
        found["coverage"] = share(rows.covered[inside], rows.patients[inside], bootstraps)
    return found


def coverage(rows: EvaluatedRows, bootstraps: int) -> dict[str, Any]:
    """How often the 90 % statements held, of `rows` with `covered`."""
    assert rows.covered is not None
    found: dict[str, Any] = {"coverage": share(rows.covered, rows.patients, bootstraps)}
    for name, outcome in (("coverage_with_outcome", 1), ("coverage_without_outcome", 0)):
        chosen = rows.outcome == outcome
        if chosen.sum() >= FEWEST_COVERED:
            found[name] = share(rows.covered[chosen], rows.patients[chosen], bootstraps)
    if rows.distances is not None and len(rows.distances) >= FEWEST_COVERED:
        groups = np.arange(len(rows.distances)).astype(str)
        found["rate_interval_coverage"] = share(rows.distances <= 1, groups, bootstraps)
        found["groups"] = len(rows.distances)
    return found


def share(held: Mask, patients: NDArray[np.str_], bootstraps: int) -> dict[str, Any]:
    """A share with its interval from resampling patients."""
    _, index = np.unique(patients, return_inverse=True)
    count = int(index.max()) + 1
    generator = np.random.default_rng(0)
    kept, rows = np.bincount(index, held, count), np.bincount(index, minlength=count)
    drawn = (generator.integers(0, count, count) for _ in range(bootstraps))
    shares = [kept[chosen].sum() / rows[chosen].sum() for chosen in drawn]
    return {"value": float(held.mean()), "interval": [float(v) for v in np.percentile(shares, [2.5, 97.5])]}


def held_out_coverage(
    statement: Conformal, outcome: Floats, probability: Floats, patients: NDArray[np.str_], categories: NDArray[np.str_]
) -> tuple[Mask, Floats]:
    """`covered` and `distances` of rows a model's own statement never saw (see `EvaluatedRows`)."""
    sets = (statement.outcomes(p, str(c)) for p, c in zip(probability.tolist(), categories, strict=True))
    covered = np.array([bool(truth) in kept for truth, kept in zip(outcome, sets, strict=True)])
    chosen = one_row_each(patients)
    scores = np.abs(group_scores(outcome[chosen], probability[chosen], statement.group))
    return covered, scores / statement.reach


__all__ = ["EvaluatedRows", "coverage", "cross_calibrated", "evaluate", "held_out_coverage", "share"]
