"""What the two outcome benchmarks share: options, measuring, writing metrics.json, report.html and the model."""

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

from risk_model import report
from risk_model.metrics import SCORE_METRICS, measure, observed_expected
from risk_model.model_card import training_card
from risk_model.training import Cohort, Fit, fit, predict, save

SHIPPED = Path(__file__).resolve().parents[1] / "risk_model" / "shipped"
SMALLEST_SUBGROUP = 100
WORKERS, CHUNK = 2, 50


@dataclass(frozen=True, slots=True)
class Study:
    """A cohort with what it is compared against: score name -> one number per row (NaN where it has none)."""

    cohort: Cohort
    rivals: Mapping[str, NDArray[np.float64]]
    subgroups: Mapping[str, NDArray[np.bool_]]
    primary: NDArray[np.bool_] | None = None
    """Rows the headline figures are about; all when None."""
    facts: Mapping[str, Any] = field(default_factory=dict)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def evaluate(study: Study, probability: NDArray[np.float64], bootstraps: int) -> dict[str, Any]:
    """metrics.json: the model, its comparators on the same rows, and its subgroups."""
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
        metrics["subgroups"][name] = found
    metrics["rows"], metrics["patients"] = int(rows.sum()), len(set(patients[rows]))
    metrics["prevalence"] = float(y[rows].mean())
    return metrics | dict(study.facts)


def run(
    title: str,
    train: Study,
    test: Study | None,
    out: Path,
    *,
    model_id: str,
    population: Mapping[str, Any],
    ship: bool,
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
    metrics = evaluate(study, probability, bootstraps) | {"measured_on": where}
    rows = np.ones(len(probability), bool) if study.primary is None else study.primary
    about = (
        f"{metrics['rows']} rows of {metrics['patients']} patients, outcome in {metrics['prevalence']:.1%}; {where}."
    )
    page = report.evaluation(title, about, metrics, study.cohort.y[rows], probability[rows])
    (out / "report.html").write_text(page, "utf-8")
    _write_json(out / "metrics.json", metrics)
    card = training_card(train.cohort.task, metrics, rows=len(train.cohort.y), patients=len(set(train.cohort.patients)))
    targets: Sequence[Path] = [out / "model", *([SHIPPED / train.cohort.task] if ship else [])]
    for folder in targets:
        save(folder, fitted, train.cohort, model_id=model_id, version="2", population=population, card=card)
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
