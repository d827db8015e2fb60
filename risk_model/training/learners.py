"""Learners by name: each fits columns and gives a predictor that is saved without pickle and explained exactly.

Trees as in Breiman 2001 and, with the rarer class drawn as often as the other for each tree, Chen et al. 2004 (balanced
random forest). Forests sum the shares of their leaves, which the calibration turns into log-odds (Platt scaling).
Every learner is held to the directions that medicine is sure of (`risk_model.features.encoding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.core.errors import TrainingError
from risk_model.evaluation.metrics import logistic_fit
from risk_model.features.encoding import Encoding
from risk_model.first_stage.training_rows import patient_folds
from risk_model.predictors.boosting import boost, forgetful
from risk_model.predictors.file_formats import BoostedTrees, Predictor
from risk_model.predictors.linear_model import LinearModel
from risk_model.predictors.tree_ensemble import TreeEnsemble
from risk_model.training.forests import balanced_trees, lightgbm_trees, random_trees

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
Settings = Mapping[str, Any]
FitColumns = Callable[[Columns, Floats, Encoding, Settings, int], Predictor]
"""(columns, outcomes, their encoding, settings, threads) -> predictor; NaN is unknown."""
_INNER_FOLDS = 3
DEFAULT = "xgboost"


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner by name, with the settings it may choose from; the first are used where none are chosen."""

    name: str
    fit_columns: FitColumns
    grid: tuple[Settings, ...]

    def fit(
        self,
        x: Columns,
        y: Floats,
        encoding: Encoding,
        settings: Settings,
        threads: int = 1,
        *,
        forget_notes: bool = False,
    ) -> Predictor:
        """Returns the predictor fitted on rows of inputs, shape (rows, inputs)."""
        columns = encoding.columns_of(forgetful(x, encoding.names, forget_notes))
        return self.fit_columns(columns, y, encoding, settings, threads)

    def held_out(
        self, x: Columns, y: Floats, patients: Sequence[str], fold: NDArray[np.int64], encoding: Encoding
    ) -> Floats:
        """Returns the margin of each row, shape (n,), from a fit on other folds; settings chosen within those."""
        found = np.zeros(len(y))
        for number in np.unique(fold):
            inside, outside = fold != number, fold == number
            people = [patient for patient, kept in zip(patients, inside, strict=True) if kept]
            settings = self.chosen(x[inside], y[inside], people, encoding)
            predictor = self.fit(x[inside], y[inside], encoding, settings)
            found[outside] = predictor.margins(encoding.columns_of(x[outside]))
        return found

    def chosen(self, x: Columns, y: Floats, patients: Sequence[str], encoding: Encoding) -> Settings:
        """Returns the settings with the lowest log loss, calibrated, by cross-validation over patients."""
        if len(self.grid) == 1:
            return self.grid[0]
        fold = patient_folds(list(patients), _INNER_FOLDS, y)
        return min(self.grid, key=lambda settings: self._loss(x, y, fold, encoding, settings))

    def _loss(self, x: Columns, y: Floats, fold: NDArray[np.int64], encoding: Encoding, settings: Settings) -> float:
        raw = np.full(len(y), np.nan)
        for inside, outside in _usable(y, fold):
            predictor = self.fit(x[inside], y[inside], encoding, settings)
            raw[outside] = predictor.margins(encoding.columns_of(x[outside]))
        known = np.isfinite(raw)
        if not known.any() or not 0 < y[known].sum() < known.sum():
            return np.inf
        intercept, slope = logistic_fit(y[known], raw[known])
        scores = intercept + slope * raw[known]
        return float(np.sum(np.logaddexp(0, scores) - y[known] * scores))


def _usable(y: Floats, fold: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for number in range(_INNER_FOLDS):
        inside, outside = fold != number, fold == number
        if 0 < y[inside].sum() < inside.sum() and outside.any():
            yield inside, outside


def learner_named(name: str, parameters: Settings) -> Learner:
    """Returns a learner; `parameters` are those of boosting, chosen for the task.

    Raises TrainingError for an unknown name, listing the known ones, and for one that is not installed.
    """
    if name not in LEARNERS:
        raise TrainingError(f"unknown learner {name!r}; choose one of {', '.join(LEARNERS)}")
    try:
        return LEARNERS[name](parameters)
    except ImportError:
        raise TrainingError(f"{name}: {_NOT_INSTALLED}") from None


def learners(names: Sequence[str], parameters: Settings) -> tuple[list[Learner], dict[str, str]]:
    """Returns the learners of these names, and why others are not available.

    Raises TrainingError for an unknown name.
    """
    found, missing = [], {}
    for name in names:
        try:
            found.append(learner_named(name, parameters))
        except TrainingError:
            if name not in LEARNERS:
                raise
            missing[name] = _NOT_INSTALLED
    return found, missing


_NOT_INSTALLED = "not installed: pip install 'riskcards[benchmark]'"


def _xgboost(parameters: Settings) -> Learner:
    def fit(x: Columns, y: Floats, encoding: Encoding, settings: Settings, threads: int) -> Predictor:
        return BoostedTrees(boost(x, y, encoding, settings, threads))

    depth, rounds = int(parameters.get("max_depth", 4)), int(parameters.get("rounds", 200))
    deeper = {**parameters, "max_depth": depth + 2}
    shorter = {**parameters, "rounds": max(rounds // 3, 1)}
    return Learner("xgboost", fit, (parameters, deeper, shorter))


def _lightgbm(_parameters: Settings) -> Learner:
    import lightgbm

    def fit(x: Columns, y: Floats, encoding: Encoding, settings: Settings, threads: int) -> Predictor:
        return TreeEnsemble.of(encoding.column_names, lightgbm_trees(lightgbm, x, y, encoding, settings, threads))

    common = {
        "learning_rate": 0.05, "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 5.0,
        "rounds": 150,
    }  # fmt: skip
    return Learner("lightgbm", fit, tuple({**common, "num_leaves": leaves} for leaves in (7, 15)))


def _logistic(_parameters: Settings) -> Learner:
    def fit(x: Columns, y: Floats, encoding: Encoding, settings: Settings, _threads: int) -> Predictor:
        return logistic_regression(x, y, encoding, float(settings["C"]))

    return Learner("logistic-regression", fit, ({"C": 0.1}, {"C": 0.01}, {"C": 1.0}))


def _forest(_parameters: Settings) -> Learner:
    def fit(x: Columns, y: Floats, encoding: Encoding, settings: Settings, threads: int) -> Predictor:
        return TreeEnsemble.of(encoding.column_names, random_trees(x, y, encoding, settings, threads))

    return Learner("random-forest", fit, ({"min_samples_leaf": 15}, {"min_samples_leaf": 5}))


def _balanced_forest(_parameters: Settings) -> Learner:
    def fit(x: Columns, y: Floats, encoding: Encoding, settings: Settings, _threads: int) -> Predictor:
        return TreeEnsemble.of(encoding.column_names, balanced_trees(x, y, encoding, settings))

    return Learner("balanced-random-forest", fit, ({"min_samples_leaf": 15}, {"min_samples_leaf": 5}))


LEARNERS: Mapping[str, Callable[[Settings], Learner]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "logistic-regression": _logistic,
    "random-forest": _forest,
    "balanced-random-forest": _balanced_forest,
}
"""The learners by name."""


def logistic_regression(columns: Columns, y: Floats, encoding: Encoding, c: float) -> LinearModel:
    """Returns the weights that minimise the log loss with an L2 penalty of 1/(2 C) on standardised columns.

    A weight whose direction is known is kept from the other sign (L-BFGS-B). Unknown values count as the median of the
    column, and add a weight of their own where enough rows have them.
    """
    from scipy.optimize import minimize

    known = np.isfinite(columns)
    typical = np.array([np.median(v[k]) if k.any() else 0.0 for v, k in zip(columns.T, known.T, strict=True)])
    filled = np.where(known, columns, typical).astype(np.float64) - typical
    spread = filled.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    absent = (~known).astype(np.float64)
    z = np.hstack([filled / scale, absent])
    width = columns.shape[1]
    varies = np.concatenate([spread > 0, absent.any(axis=0) & known.any(axis=0)]).tolist()
    signs = [*encoding.constraints, *([0] * width)]
    bounds = [_bounds(sign) if some else (0.0, 0.0) for sign, some in zip(signs, varies, strict=True)]

    def loss(w: Floats) -> tuple[float, Floats]:
        score = w[0] + z @ w[1:]
        off = 1 / (1 + np.exp(-score)) - y
        value = np.sum(np.logaddexp(0, score) - y * score) + w[1:] @ w[1:] / (2 * c)
        return float(value), np.concatenate([[off.sum()], z.T @ off + w[1:] / c])

    rate = float(y.mean())
    start = np.zeros(2 * width + 1)
    start[0] = np.log(rate / (1 - rate))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), *bounds], options={"maxiter": 500})
    weights = found.x[1 : width + 1] / scale
    return LinearModel(tuple(encoding.column_names), float(found.x[0]), weights, typical, found.x[width + 1 :])


def _bounds(sign: int) -> tuple[float | None, float | None]:
    return (0.0 if sign > 0 else None, 0.0 if sign < 0 else None)
