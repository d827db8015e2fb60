"""Learners to compare with: each chooses its settings by cross-validation on the patients it learns from.

Trees as in Breiman 2001 and, with the rarer class drawn as often as the other for each tree, Chen et al. 2004 (balanced
random forest). Unknown values are the median of the training rows beside an indicator, except for boosting, which
takes them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.core.errors import TrainingError
from risk_model.evaluation.metrics import logit
from risk_model.features.encoding import Encoding
from risk_model.first_stage.training_rows import patient_folds
from risk_model.models.boosting import boost, margin

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]
Settings = Mapping[str, Any]
FitAndPredict = Callable[[Inputs, Floats, Inputs, Settings], Floats]
"""(training rows, outcomes, other rows, settings) -> log-odds of the other rows; NaN is unknown."""
_INNER_FOLDS = 3
_SEED = 7


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner by name, with the settings it may choose from."""

    name: str
    predict: FitAndPredict
    grid: tuple[Settings, ...]

    def held_out(self, x: Inputs, y: Floats, patients: Sequence[str], fold: NDArray[np.int64]) -> Floats:
        """Returns the log-odds of each row, shape (n,), from a fit on other folds; settings chosen within those."""
        found = np.zeros(len(y))
        for number in np.unique(fold):
            inside, outside = fold != number, fold == number
            people = [patient for patient, kept in zip(patients, inside, strict=True) if kept]
            settings = self.chosen(x[inside], y[inside], people)
            found[outside] = self.predict(x[inside], y[inside], x[outside], settings)
        return found

    def chosen(self, x: Inputs, y: Floats, patients: Sequence[str]) -> Settings:
        """Returns the settings with the lowest log loss by cross-validation over patients."""
        if len(self.grid) == 1:
            return self.grid[0]
        fold = patient_folds(list(patients), _INNER_FOLDS, y)
        return min(self.grid, key=lambda settings: sum(self._losses(x, y, fold, settings)))

    def _losses(self, x: Inputs, y: Floats, fold: NDArray[np.int64], settings: Settings) -> Iterator[float]:
        for number in range(_INNER_FOLDS):
            inside, outside = fold != number, fold == number
            if 0 < y[inside].sum() < inside.sum() and outside.any():
                scores = self.predict(x[inside], y[inside], x[outside], settings)
                yield float(np.sum(np.logaddexp(0, scores) - y[outside] * scores))


def learners(names: Sequence[str], parameters: Settings) -> tuple[list[Learner], dict[str, str]]:
    """Returns the learners of these names, and why others are not available.

    `parameters` are those of boosting, as trained by `riskcards train`. Raises TrainingError for an unknown name.
    """
    found, missing = [], {}
    for name in names:
        if name not in LEARNERS:
            raise TrainingError(f"unknown learner {name!r}; known are {', '.join(LEARNERS)}")
        try:
            found.append(LEARNERS[name](parameters))
        except ImportError:
            missing[name] = "not installed: pip install 'riskcards[benchmark]'"
    return found, missing


def _xgboost(parameters: Settings) -> Learner:
    def predict(x: Inputs, y: Floats, other: Inputs, settings: Settings) -> Floats:
        encoding = Encoding.plain([f"f{place}" for place in range(x.shape[1])])
        return margin(boost(x, y, encoding, settings, 1, forget_notes=False), other, encoding)

    deeper = {**parameters, "max_depth": int(parameters.get("max_depth", 4)) + 2}
    return Learner("xgboost", predict, (parameters, deeper))


def _lightgbm(_parameters: Settings) -> Learner:
    import lightgbm

    def predict(x: Inputs, y: Floats, other: Inputs, settings: Settings) -> Floats:
        fixed = {"objective": "binary", "seed": _SEED, "num_threads": 1, "verbose": -1, "deterministic": True}
        rounds = int(settings["rounds"])
        given = {key: value for key, value in settings.items() if key != "rounds"}
        booster = lightgbm.train(fixed | given, lightgbm.Dataset(x, label=y), num_boost_round=rounds)
        return np.asarray(booster.predict(other, raw_score=True), np.float64)

    common = {
        "learning_rate": 0.05,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
    }
    return Learner("lightgbm", predict, tuple({**common, "num_leaves": leaves, "rounds": 150} for leaves in (7, 15)))


def _logistic(_parameters: Settings) -> Learner:
    def predict(x: Inputs, y: Floats, other: Inputs, settings: Settings) -> Floats:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(_imputer(), StandardScaler(), LogisticRegression(max_iter=500, **settings))
        model.fit(x, y)
        return np.asarray(model.decision_function(other), np.float64)

    return Learner("logistic-regression", predict, ({"C": 0.01}, {"C": 0.1}, {"C": 1.0}))


def _forest(_parameters: Settings) -> Learner:
    def predict(x: Inputs, y: Floats, other: Inputs, settings: Settings) -> Floats:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.pipeline import make_pipeline

        forest = RandomForestClassifier(n_estimators=200, random_state=_SEED, n_jobs=1, **settings)
        model = make_pipeline(_imputer(), forest).fit(x, y)
        return logit(model.predict_proba(other)[:, 1])

    return Learner("random-forest", predict, ({"min_samples_leaf": 3}, {"min_samples_leaf": 15}))


def _balanced_forest(_parameters: Settings) -> Learner:
    def predict(x: Inputs, y: Floats, other: Inputs, settings: Settings) -> Floats:
        from sklearn.tree import DecisionTreeClassifier

        imputer, generator = _imputer(), np.random.default_rng(_SEED)
        inside, outside = imputer.fit_transform(x), imputer.transform(other)
        kinds = [np.flatnonzero(y == value) for value in (0, 1)]
        drawn = min(map(len, kinds))
        total = np.zeros(len(other))
        for number in range(200):
            rows = np.concatenate([generator.choice(kind, drawn) for kind in kinds])
            tree = DecisionTreeClassifier(max_features="sqrt", random_state=number, **settings)
            total += tree.fit(inside[rows], y[rows]).predict_proba(outside)[:, 1]
        return logit(total / 200)

    return Learner("balanced-random-forest", predict, ({"min_samples_leaf": 3}, {"min_samples_leaf": 15}))


def _imputer() -> Any:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


LEARNERS: Mapping[str, Callable[[Settings], Learner]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "logistic-regression": _logistic,
    "random-forest": _forest,
    "balanced-random-forest": _balanced_forest,
}
"""The learners by name; the first is what `riskcards train` uses."""
