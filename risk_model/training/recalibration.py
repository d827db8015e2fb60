"""A local version of a model: logistic recalibration on its own outcomes. Run by a person, never automatically.

The intercept moves with 20 outcomes of each kind; intercept and slope with 100 (Van Calster et al. 2019 recommend about
as many to assess calibration at all). What is reported as "after" is cross-fitted by patient: each row is corrected by
the other folds, so that an improvement is no artefact of fitting. The ranking of patients does not change.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import atomic_folder, sha256_of, write_json
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.artifacts import check_new_folder, open_manifest, sign
from risk_model.core.errors import TrainingError
from risk_model.evaluation.cohorts_seen import all_seen, seen
from risk_model.evaluation.evaluate import CohortPredictions, predicted_rows
from risk_model.evaluation.metrics import (
    Family,
    calibration_slope,
    logistic_fit,
    logit,
    measure,
    sigmoid,
    subgroup_metrics,
)
from risk_model.evaluation.performance import EvaluatedRows
from risk_model.first_stage.training_rows import FOLDS, patient_folds
from risk_model.models.conformal import FEWEST_GROUPS, GROUP_SIZES, Conformal, categories_of
from risk_model.models.estimator import RiskModel
from risk_model.reports import figures
from risk_model.reports.evaluation_page import describe_measure
from risk_model.reports.templating import render
from risk_model.training.gradient_boosting import reliability

FOR_INTERCEPT, FOR_SLOPE = 20, 100
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recalibration:
    """log-odds -> intercept + slope * log-odds. `before` and `after` are probabilities of the same rows, `after` from
    corrections that never saw the row's patient."""

    intercept: float
    slope: float
    method: str
    before: Floats
    after: Floats


def recalibrate(rows: EvaluatedRows) -> Recalibration:
    """Raises TrainingError with too few outcomes of either kind to move even the intercept."""
    fewest = int(min(rows.outcome.sum(), (1 - rows.outcome).sum()))
    if fewest < FOR_INTERCEPT:
        raise TrainingError(
            f"{fewest} rows of the rarer outcome; recalibrating the intercept needs {FOR_INTERCEPT}, the slope as well "
            f"{FOR_SLOPE}. Collect more patients: a correction from fewer would be noise"
        )
    fixed = None if fewest >= FOR_SLOPE else 1.0
    x = logit(rows.probability)
    fold = patient_folds(rows.patients.tolist(), FOLDS, rows.outcome)
    after = np.zeros(len(x))
    for number in range(FOLDS):
        inside, outside = fold != number, fold == number
        a, b = logistic_fit(rows.outcome[inside], x[inside], slope=fixed)
        after[outside] = sigmoid(a + b * x[outside])
    intercept, slope = logistic_fit(rows.outcome, x, slope=fixed)
    if slope <= 0 or not np.isfinite(calibration_slope(rows.outcome, rows.probability)):
        raise TrainingError(
            "the estimates are all the same, separate the outcomes completely, or rank these patients backwards: "
            "recalibration cannot help; train a model here"
        )
    method = "intercept and slope" if fixed is None else "intercept only"
    return Recalibration(intercept, slope, method, rows.probability, after)


def write_recalibrated(
    model: RiskModel,
    answers: CohortPredictions,
    labelled: LabelledCohort,
    out: Path,
    *,
    bootstraps: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """A new model folder beside the old one; the document of what changed.

    Raises TrainingError when there are too few outcomes, or `out` is not empty.
    """
    check_new_folder(out)
    rows = predicted_rows(model, answers)
    change = recalibrate(rows)
    say(f"{change.method}: intercept {change.intercept:+.3f}, slope {change.slope:.3f}")
    family: Family = subgroup_metrics
    before, after = (
        measure(rows.outcome, p, rows.patients, metrics=family, bootstraps=bootstraps)
        for p in (change.before, change.after)
    )
    entry = seen(labelled, "recalibrated", answers.splits)
    version = next_version(str(model.manifest["version"]), entry["sha256"])
    document = {
        "method": change.method,
        "intercept": change.intercept,
        "slope": change.slope,
        "from": {
            "model_id": model.manifest["model_id"],
            "version": model.manifest["version"],
            "manifest_sha256": sha256_of(model.folder / "manifest.json"),
        },
        "version": version,
        "cohort_sha256": entry["sha256"],
        "rows": len(rows.outcome),
        "outcomes": int(rows.outcome.sum()),
        "before": before,
        "after": after,
        "after_measured": "cross-fitted by patient",
    }
    _write(model, answers, rows, change, document, entry, out)
    return document


_LOCAL = re.compile(r"(?P<base>.*?)[+.]local\.(?P<number>[0-9]+)(?:\.[0-9a-f]+)?\Z")


def next_version(version: str, cohort_sha256: str) -> str:
    """Returns the version of a recalibration, which names its cohort: two cohorts never give one version.

    >>> next_version("1", "ab12cd34ef"), next_version("1+local.1.ab12cd34", "99ff")
    ('1+local.1.ab12cd34', '1+local.2.99ff')
    """
    found = _LOCAL.match(version)
    base, number = (found["base"], int(found["number"])) if found else (version, 0)
    return f"{base}{'.' if '+' in base else '+'}local.{number + 1}.{cohort_sha256[:8]}"


def _write(
    model: RiskModel,
    answers: CohortPredictions,
    rows: EvaluatedRows,
    change: Recalibration,
    document: dict[str, Any],
    entry: dict[str, Any],
    out: Path,
) -> None:
    manifest = dict(open_manifest(model.folder))
    manifest["cohorts_seen"] = [*all_seen(manifest), entry]
    old = manifest["calibration"]
    manifest["calibration"] = {
        "intercept": change.intercept + change.slope * old["intercept"],
        "slope": change.slope * old["slope"],
    }
    manifest |= {
        "version": document["version"],
        "baseline": float(rows.outcome.mean()),
        "reliability": reliability(rows.outcome, change.after),
        "rows": len(rows.outcome),
        "patients": len(set(rows.patients.tolist())),
        "outcomes": int(rows.outcome.sum()),
        "recalibrated": {key: value for key, value in document.items() if key not in {"before", "after"}},
    }
    statement = _statement(model, answers, rows, change)
    if statement is not None:
        manifest["conformal"] = statement.to_json()
    with atomic_folder(out) as coming:
        for name in manifest["files"]:
            shutil.copyfile(model.folder / name, coming / name)
        write_json(coming / "recalibration.json", document)
        (coming / "recalibration.html").write_text(_page(model, rows, change, document), "utf-8")
        write_json(coming / "manifest.json", manifest)
        sign(coming, ("recalibration.json", "recalibration.html"))


def _statement(
    model: RiskModel, answers: CohortPredictions, rows: EvaluatedRows, change: Recalibration
) -> Conformal | None:
    """Calibrated here where there are patients enough; else the old borders, moved with the probabilities."""
    if model.conformal is None:
        return None
    if len(set(rows.patients.tolist())) >= FEWEST_GROUPS * GROUP_SIZES[-1]:
        kinds = categories_of(model.names, answers.study.cohort.x[answers.answered])
        return Conformal.calibrate(rows.outcome, change.after, rows.patients, kinds)
    old = model.conformal

    def moved(border: float) -> float:
        at_the_end = border in (0.0, 1.0)
        return border if at_the_end else float(sigmoid(change.intercept + change.slope * logit(np.array(border))))

    borders = {name: (moved(low), moved(high)) for name, (low, high) in old.borders.items()}
    return Conformal(old.level, old.group, old.reach, borders)


def _page(model: RiskModel, rows: EvaluatedRows, change: Recalibration, document: dict[str, Any]) -> str:
    before, after = document["before"], document["after"]
    return render(
        "recalibration.html",
        title=f"Recalibration of {model.manifest['model_id']}: version {document['version']}",
        about=f"From version {document['from']['version']}, {document['method']}, on {document['rows']} rows with "
        f"{document['outcomes']} outcomes. “After” is cross-fitted by patient. The ranking of patients is as before.",
        drawn=figures.calibration_before_after(rows.outcome, change.before, change.after),
        measures=[(describe_measure(name), before[name], after[name]) for name in before],
    )
