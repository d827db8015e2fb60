"""Shared by the two outcome benchmarks: options, metrics, writing metrics.json, report.html and the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from risk_model.evaluation import measure
from risk_model.evaluation.metrics import SCORE_METRICS, observed_expected
from risk_model.evaluation.performance import EvaluatedRows, coverage, held_out_coverage, share
from risk_model.first_stage.training_rows import FOLDS, TrainingRows, patient_folds
from risk_model.models.conformal import categories_of, cross_calibrated
from risk_model.reports.evaluation_page import evaluation_page
from risk_model.reports.model_cards import training_card
from risk_model.training.gradient_boosting import Fit, fit, held_out_margins, predict, save

SHIPPED = Path(__file__).resolve().parents[1] / "risk_model" / "shipped"
SMALLEST_SUBGROUP = 100
WORKERS, CHUNK = 2, 50
CURVE = (1, 2, 4, 8)
"""Eighths of the patients that are learned from, in a learning curve."""


@dataclass(frozen=True, slots=True)
class ComparedCohort:
    """A cohort with what it is compared against: score name -> one number per row (NaN where it has none)."""

    cohort: TrainingRows
    rivals: Mapping[str, NDArray[np.float64]]
    subgroups: Mapping[str, NDArray[np.bool_]]
    primary: NDArray[np.bool_] | None = None
    """Rows the headline figures are about; all when None."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statements:
    """Whether the truth was in each row's prediction set, and how far group rates lay from the estimates."""

    covered: NDArray[np.bool_]
    distances: NDArray[np.float64]


def statements_of(fitted: Fit, study: ComparedCohort, probability: NDArray[np.float64], *, unseen: bool) -> Statements:
    """On other patients the model's own; on its own patients those calibrated on the other folds."""
    cohort = study.cohort
    kinds = categories_of(cohort.names, cohort.x)
    if unseen:
        return Statements(*held_out_coverage(fitted.conformal, cohort.y, probability, np.array(cohort.patients), kinds))
    return Statements(*cross_calibrated(cohort.y, probability, cohort.patients, kinds, fitted.fold))


def learning_curve(study: ComparedCohort, fitted: Fit) -> list[dict[str, Any]]:
    """AUROC on held-out patients by how many patients were learned from; the folds are those of the fit."""
    cohort = study.cohort.select(fitted.names)
    rows = np.ones(len(cohort.y), bool) if study.primary is None else study.primary
    part = patient_folds(cohort.patients, max(CURVE), cohort.y)
    found = []
    for count in CURVE:
        say(f"learning curve: {count} of {max(CURVE)} parts")
        learn = part < count
        margin = held_out_margins(cohort, fitted.fold, fitted.parameters, threads=WORKERS, learn=learn)
        patients = len({name for name, learns in zip(cohort.patients, learn, strict=True) if learns})
        answer = measure(
            cohort.y[rows], margin[rows], np.array(cohort.patients)[rows], metrics=SCORE_METRICS, bootstraps=200
        )
        found.append({"patients": round(patients * (1 - 1 / FOLDS)), **answer})
    return found


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def evaluate(
    study: ComparedCohort, probability: NDArray[np.float64], statements: Statements, bootstraps: int
) -> dict[str, Any]:
    """metrics.json: the model, its comparators on the same rows, its subgroups, whether its 90 % statements held."""
    rows = np.ones(len(probability), bool) if study.primary is None else study.primary
    y, patients = study.cohort.y, np.array(study.cohort.patients)
    metrics: dict[str, Any] = dict(measure(y[rows], probability[rows], patients[rows], bootstraps=bootstraps))
    metrics["comparators"] = {}
    for name, score in study.rivals.items():
        known = rows & np.isfinite(score)
        metrics["comparators"][name] = (
            measure(y[known], score[known], patients[known], metrics=SCORE_METRICS, bootstraps=bootstraps) | {}
        )
    metrics["subgroups"] = {}
    for name, inside in study.subgroups.items():
        chosen = rows & inside
        found: dict[str, Any] = {"rows": int(chosen.sum()), "outcomes": int(y[chosen].sum())}
        if found["rows"] >= SMALLEST_SUBGROUP and 0 < found["outcomes"] < found["rows"]:
            kinds = {"auroc": SCORE_METRICS["auroc"], "observed_expected": observed_expected}
            found |= measure(y[chosen], probability[chosen], patients[chosen], metrics=kinds, bootstraps=bootstraps)
            found["coverage"] = share(statements.covered[chosen], patients[chosen], bootstraps)
        metrics["subgroups"][name] = found
    evaluated = EvaluatedRows(
        y[rows], probability[rows], patients[rows], covered=statements.covered[rows], distances=statements.distances
    )
    metrics["conformal"] = coverage(evaluated, bootstraps)
    metrics["rows"], metrics["patients"] = int(rows.sum()), len(set(patients[rows]))
    metrics["prevalence"] = float(y[rows].mean())
    return metrics | dict(study.facts)


def run(
    title: str,
    train: ComparedCohort,
    test: ComparedCohort | None,
    out: Path,
    *,
    model_id: str,
    version: str,
    population: Mapping[str, Any],
    ship: bool,
    curve: bool = False,
    bootstraps: int = 1000,
) -> dict[str, Any]:
    """Fit, measure (on the test set, else out of fold), write, and ship when asked."""
    out.mkdir(parents=True, exist_ok=True)
    fitted: Fit = fit(train.cohort, progress=say)
    if test is None:
        where, study, probability = "out-of-fold by patient, calibration cross-fitted", train, fitted.out_of_fold
    else:
        where, study, probability = "patients the model never saw", test, predict(fitted, test.cohort)
    say("measuring")
    statements = statements_of(fitted, study, probability, unseen=test is not None)
    metrics = evaluate(study, probability, statements, bootstraps) | {"measured_on": where}
    if curve:
        metrics["learning_curve"] = learning_curve(train, fitted)
    rows = np.ones(len(probability), bool) if study.primary is None else study.primary
    about = (
        f"{metrics['rows']} rows of {metrics['patients']} patients, outcome in {metrics['prevalence']:.1%}; {where}."
    )
    page = evaluation_page(title, about, metrics, study.cohort.y[rows], probability[rows])
    (out / "report.html").write_text(page, "utf-8")
    _write_json(out / "metrics.json", metrics)
    card = training_card(train.cohort.task, metrics, rows=len(train.cohort.y), patients=len(set(train.cohort.patients)))
    targets: Sequence[Path] = [out / "model", *([SHIPPED / train.cohort.task] if ship else [])]
    for folder in targets:
        save(folder, fitted, train.cohort, model_id=model_id, version=version, population=population, card=card)
    return metrics


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    path.write_bytes(orjson.dumps(document, option=options))


def collect(items: Sequence[Any], convert: Callable[[Any], Any], words: str) -> list[Any]:
    """`convert` over `items` in order, in two processes, with a line of progress every tenth."""
    answers, step = [], max(1, len(items) // 10)
    with ProcessPoolExecutor(WORKERS) as pool:
        for number, answer in enumerate(pool.map(convert, items, chunksize=CHUNK)):
            if number % step == 0:
                say(f"{words}: {number} of {len(items)}")
            answers.append(answer)
    return answers
