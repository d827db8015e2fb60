"""A rubric against the full inputs: in-hospital death of CinC 2012 stays at 48 hours, out of fold by patient.

    python -m benchmarks.rubric --data DIR [--stays 4000]

The shipped rubric was written without looking at these stays. Its answers go through the regression of the few-shot
protocol and through boosted trees; the task's own inputs go through the same trees. Five folds, the same for all. The
result goes to `benchmarks/results/rubric.json`.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cinc_fhir
from benchmarks.measuring import write
from benchmarks.outcome import collect
from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY
from risk_model.evaluation.metrics import auprc, auroc
from risk_model.features import Rubric
from risk_model.features.inputs import input_names, row
from risk_model.features.rubrics import filled, shipped_rubric
from risk_model.predictors.boosting import xgboost

RESULT = Path(__file__).parent / "results" / "rubric.json"
FOLDS, HOURS, BOOTSTRAPS = 5, 48, 1000
Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


def read(rubric: Rubric, stay: cinc_fhir.IcuStay) -> list[tuple[str, Rows, Rows]]:
    at = cinc_fhir.ADMISSION + timedelta(hours=HOURS)
    record = PatientRecord.from_resources(cinc_fhir.to_fhir(stay), prediction_time=at)
    return [(stay.record_id, row(record, input_names(IN_HOSPITAL_MORTALITY)), rubric.row(record))]


def logistic(x: Rows, y: Floats, held: Rows) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(filled(x, x), y)
    return np.asarray(model.decision_function(filled(held, x)), np.float64)


def boosted(x: Rows, y: Floats, held: Rows) -> Floats:
    library = xgboost()
    settings = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.05, "subsample": 0.8, "nthread": 2, "seed": 7}
    model = library.train(settings, library.DMatrix(x, label=y), num_boost_round=200)
    return np.asarray(model.predict(library.DMatrix(held)), np.float64)


def out_of_fold(learn: Any, x: Rows, y: Floats) -> Floats:
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    found = np.zeros(len(y))
    for number in range(FOLDS):
        # Within a fold scores are ranked among themselves, so that folds of a raw score may be joined.
        score = learn(x[fold != number], y[fold != number], x[fold == number])
        found[fold == number] = np.argsort(np.argsort(score)) / len(score)
    return found


def evaluated(y: Floats, score: Floats) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    found = {}
    for name, metric in (("auroc", auroc), ("auprc", auprc)):
        drawn = [generator.multinomial(len(y), np.full(len(y), 1 / len(y))).astype(float) for _ in range(BOOTSTRAPS)]
        samples = [metric(y, score, weights) for weights in drawn]
        found[name] = {"value": metric(y, score, None), "interval": np.percentile(samples, [2.5, 97.5]).tolist()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of set-a.csv.gz and Outcomes-a.csv")
    parser.add_argument("--stays", type=int, default=4000)
    options = parser.parse_args()
    rubric = Rubric.open(shipped_rubric(IN_HOSPITAL_MORTALITY))
    known = cinc_fhir.read_outcomes(options.data / "Outcomes-a.csv")
    stays = list(cinc_fhir.read_stays(options.data / "set-a.csv.gz"))[: options.stays]
    rows = [item for part in collect(stays, partial(read, rubric), "stays through FHIR") for item in part]
    y = np.array([float(known[name]["In-hospital_death"]) for name, _, _ in rows])
    full, asked = np.stack([x for _, x, _ in rows]), np.stack([x for _, _, x in rows])
    result = {
        "stays": len(y),
        "deaths": int(y.sum()),
        "rubric_items": len(rubric.items),
        "items_never_known": [n for n, k in zip(rubric.names, np.isfinite(asked).any(axis=0), strict=True) if not k],
        "full_inputs": full.shape[1],
        "rubric, logistic": evaluated(y, out_of_fold(logistic, asked, y)),
        "rubric, boosted": evaluated(y, out_of_fold(boosted, asked, y)),
        "full inputs, boosted": evaluated(y, out_of_fold(boosted, full, y)),
    }
    write(RESULT, result)


if __name__ == "__main__":
    main()
