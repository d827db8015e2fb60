"""Fitting stage 2: gradient boosting, cross-fitted by patient, calibrated out of fold, saved without pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from risk_model.boosting import xgboost
from risk_model.errors import TrainingError
from risk_model.metrics import logistic_fit

FOLDS = 5
BINS = 40
FORMAT = 1
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "in_hospital_mortality": {
        "max_depth": 4, "eta": 0.03, "subsample": 0.7, "colsample_bytree": 0.3, "min_child_weight": 4, "lambda": 5.0,
        "rounds": 450,
    },
    "readmission_30d": {
        "max_depth": 5, "eta": 0.04, "subsample": 0.7, "colsample_bytree": 0.5, "min_child_weight": 20, "lambda": 5.0,
        "rounds": 300,
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cohort:
    """Rows to learn from: `x` (n, inputs) float32 with NaN for unknown, `y` (n,) 0/1, one patient id per row."""

    task: str
    names: tuple[str, ...]
    x: NDArray[np.float32]
    y: NDArray[np.float64]
    patients: tuple[str, ...]

    def check(self, folds: int = FOLDS) -> None:
        """Raises TrainingError saying which rule the cohort breaks."""
        if len(self.y) == 0:
            raise TrainingError("the cohort is empty")
        if self.y.min() == self.y.max():
            word = "positive" if self.y[0] == 0 else "negative"
            raise TrainingError(f"the cohort has no {word} outcome; both are needed")
        if min(self.y.sum(), (1 - self.y).sum()) < 2 * folds:
            raise TrainingError(f"too few outcomes of one class for {folds} folds")
        if len(set(self.patients)) < folds:
            raise TrainingError(f"fewer patients than folds ({folds})")


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model: the booster, its calibration (intercept, slope on the log-odds), out-of-fold probabilities.

    A row's out-of-fold probability comes from a booster and a calibration that never saw its patient.
    """

    booster: Any
    calibration: tuple[float, float]
    out_of_fold: NDArray[np.float64]
    parameters: Mapping[str, Any]


def patient_folds(patients: Sequence[str], folds: int = FOLDS) -> NDArray[np.int64]:
    """A fold for each row, the same for all rows of one patient, the same on every run: by hash of the patient id."""
    digest = {p: int.from_bytes(hashlib.sha256(p.encode()).digest()[:8], "big") % folds for p in set(patients)}
    return np.array([digest[patient] for patient in patients], dtype=np.int64)


def fit(cohort: Cohort, *, threads: int = 2, progress: Callable[[str], None] = lambda _: None) -> Fit:
    """Cross-fit by patient, calibrate on the out-of-fold log-odds (Platt), then fit once on everything."""
    cohort.check()
    parameters = dict(PARAMETERS[cohort.task])
    fold = patient_folds(cohort.patients)
    raw = np.zeros(len(cohort.y))
    for number in range(FOLDS):
        inside, outside = fold != number, fold == number
        if cohort.y[inside].min() == cohort.y[inside].max():
            raise TrainingError(f"fold {number} has one class only")
        progress(f"fold {number + 1} of {FOLDS}")
        booster = _boost(cohort.x[inside], cohort.y[inside], cohort.names, parameters, threads)
        raw[outside] = _margin(booster, cohort.x[outside], cohort.names)
    calibration = logistic_fit(cohort.y, raw)
    progress("all rows")
    booster = _boost(cohort.x, cohort.y, cohort.names, parameters, threads)
    return Fit(booster, calibration, _cross_calibrated(cohort.y, raw, fold), parameters)


def _cross_calibrated(y: NDArray[np.float64], raw: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probabilities whose calibration was fitted on the other folds: a slope of one by construction proves nothing."""
    probability = np.zeros(len(y))
    for number in range(FOLDS):
        a, b = logistic_fit(y[fold != number], raw[fold != number])
        probability[fold == number] = 1 / (1 + np.exp(-(a + b * raw[fold == number])))
    return probability


def predict(result: Fit, cohort: Cohort) -> NDArray[np.float64]:
    """Calibrated probabilities for other rows, shape (n,)."""
    raw = _margin(result.booster, cohort.x, cohort.names)
    return np.asarray(1 / (1 + np.exp(-(result.calibration[0] + result.calibration[1] * raw))))


def _boost(
    x: NDArray[np.float32], y: NDArray[np.float64], names: Sequence[str], parameters: Mapping[str, Any], threads: int
) -> Any:
    settings = {key: value for key, value in parameters.items() if key != "rounds"}
    fixed = {"objective": "binary:logistic", "tree_method": "hist", "seed": 7, "nthread": threads}
    data = xgboost().DMatrix(x, label=y, feature_names=list(names))
    return xgboost().train(settings | fixed, data, num_boost_round=parameters["rounds"])


def _margin(booster: Any, x: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float64]:
    data = xgboost().DMatrix(x, feature_names=list(names))
    return np.asarray(booster.predict(data, output_margin=True), dtype=np.float64)


def reliability(outcome: NDArray[np.float64], probability: NDArray[np.float64]) -> list[dict[str, float]]:
    """Out-of-fold patients in bins of equal size: mean probability, patients, outcomes. The basis of every interval."""
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // 50)))
    return [
        {"probability": round(float(probability[b].mean()), 6), "patients": len(b), "outcomes": int(outcome[b].sum())}
        for b in bins
    ]


def save(
    folder: Path,
    result: Fit,
    cohort: Cohort,
    *,
    model_id: str,
    version: str,
    population: Mapping[str, Any],
    card: Mapping[str, Any],
) -> None:
    """Write `model.ubj` (XGBoost's own format), `card.json` and `manifest.json` with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    result.booster.save_model(folder / "model.ubj")
    (folder / "card.json").write_bytes(orjson.dumps(card, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    known = np.isfinite(cohort.x)
    low, high = _ranges(cohort.x)
    manifest = {
        "format": FORMAT,
        "model_id": model_id,
        "version": version,
        "task": cohort.task,
        "inputs": [
            {"name": name, "known": round(float(known[:, i].mean()), 4), "low": low[i], "high": high[i]}
            for i, name in enumerate(cohort.names)
        ],
        "calibration": {"intercept": result.calibration[0], "slope": result.calibration[1]},
        "reliability": reliability(cohort.y, result.out_of_fold),
        "baseline": float(cohort.y.mean()),
        "rows": len(cohort.y),
        "patients": len(set(cohort.patients)),
        "outcomes": int(cohort.y.sum()),
        "parameters": dict(result.parameters),
        "population": dict(population),
        "files": {name: _signature(folder / name) for name in ("model.ubj", "card.json")},
    }
    (folder / "manifest.json").write_bytes(
        orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )


def _ranges(x: NDArray[np.float32]) -> tuple[list[float | None], list[float | None]]:
    """The 0.1st and 99.9th percentile of each input where it is known at all."""
    low: list[float | None] = []
    high: list[float | None] = []
    for column in x.T:
        values = column[np.isfinite(column)]
        low.append(round(float(np.percentile(values, 0.1)), 4) if len(values) else None)
        high.append(round(float(np.percentile(values, 99.9)), 4) if len(values) else None)
    return low, high


def _signature(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
