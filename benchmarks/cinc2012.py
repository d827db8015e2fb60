"""In-hospital death of intensive-care patients from their first 48 hours (PhysioNet/CinC Challenge 2012), through FHIR.

    python -m benchmarks.cinc2012 --train DATA OUTCOMES [--test DATA OUTCOMES] --out DIR [--curve] [--ship]

Each stay becomes FHIR resources, then a PatientRecord as of 12, 24 and 48 hours, then a row. The rows of 24 and of 48
hours train (they share a fold); the headline is at 48 hours, beside SAPS-I and SOFA of the same stays. `by_hour` is
the AUROC at each of the three, on the patients present then: in this set all, since a stay of less than 48 hours is not
in it. Without --test every figure is out of fold by patient.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cinc_fhir
from benchmarks.outcome import WORKERS, ComparedCohort, collect, run, say
from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY, ScoreResult, news2, qsofa
from risk_model.evaluation import measure
from risk_model.evaluation.metrics import SCORE_METRICS
from risk_model.features.inputs import input_names, row
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.training.gradient_boosting import Fit, held_out_margins, predict

HOURS = (24, 48)
"""Hours after admission whose rows train."""
EARLY = 12
"""The earliest hour at which the model answers; measured, not trained on."""
POPULATION = {
    "minimum_age": 16,
    "intensive_care": True,
    "minimum_hours": 12,
    "maximum_hours": 48.5,
    "needs": [
        "heart_rate.last", "systolic_bp.last", "temperature.last", "respiratory_rate.last", "gcs.last",
        "creatinine.last", "sodium.last", "potassium.last", "bicarbonate.last", "hematocrit.last", "wbc.last",
        "platelets.last", "bun.last", "glucose.last", "urine_output.mean",
    ],
    "needs_at_least": 8,
    "in_words": "adults in intensive care, 12 to 48 hours after admission",
}  # fmt: skip


def middle(score: ScoreResult | None) -> float:
    """A score as one number: the middle of its range when inputs are missing."""
    return np.nan if score is None else (score.low + score.high) / 2


def rows_of(stay: cinc_fhir.IcuStay, at_hours: Sequence[int] = HOURS) -> list[dict[str, Any]]:
    """One row for each prediction time."""
    names = input_names(IN_HOSPITAL_MORTALITY)
    resources = cinc_fhir.to_fhir(stay)
    answers = []
    for hours in at_hours:
        at = cinc_fhir.ADMISSION + timedelta(hours=hours)
        record = PatientRecord.from_resources(resources, prediction_time=at)
        vector = record.features()
        answers.append(
            {
                "id": stay.record_id,
                "hours": hours,
                "x": row(record, names, vector),
                "NEWS2": middle(news2(record)),
                "qSOFA": middle(qsofa(record)),
                "sex": vector.word("sex.last"),
                "age": vector.number("age.last"),
            }
        )
    return answers


def study(data: Path, outcomes: Path) -> tuple[ComparedCohort, ComparedCohort]:
    """The rows of 24 and of 48 hours, and those of 12."""
    known = cinc_fhir.read_outcomes(outcomes)
    stays = list(cinc_fhir.read_stays(data))
    convert = partial(rows_of, at_hours=(EARLY, *HOURS))
    rows = [item for part in collect(stays, convert, "stays through FHIR") for item in part]
    late, early = ([i for i in rows if (i["hours"] == EARLY) is wanted] for wanted in (False, True))
    return _compared(late, known), _compared(early, known)


def _compared(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Mapping[str, float]]) -> ComparedCohort:
    truth = [known[item["id"]] for item in rows]
    at_48 = np.array([item["hours"] == 48 for item in rows])
    age = np.array([np.nan if item["age"] is None else item["age"] for item in rows])
    sex = np.array([item["sex"] or "" for item in rows])
    cohort = TrainingRows(
        IN_HOSPITAL_MORTALITY,
        input_names(IN_HOSPITAL_MORTALITY),
        np.stack([item["x"] for item in rows]),
        np.array([outcome["In-hospital_death"] for outcome in truth]),
        tuple(item["id"] for item in rows),
    )
    rivals = {name: np.array([item[name] for item in rows], dtype=float) for name in ("NEWS2", "qSOFA")}
    for name in ("SAPS-I", "SOFA"):
        score = np.array([outcome[name] for outcome in truth])
        rivals[name] = np.where(score >= 0, score, np.nan)
    subgroups = {
        "women": sex == "female",
        "men": sex == "male",
        "under 65": age < 65,
        "65 to 79": (age >= 65) & (age < 80),
        "80 and over": age >= 80,
    }
    return ComparedCohort(cohort, rivals, subgroups, at_48)


def by_hour(train: ComparedCohort, early: ComparedCohort, test: ComparedCohort | None, fitted: Fit) -> dict[str, Any]:
    """AUROC at 12, 24 and 48 hours. `early` holds the rows of 12 hours of the test patients, else of the training ones;
    of those the folds' own boosters answer."""
    study = train if test is None else test
    first = early.cohort.select(fitted.names)
    if test is None:
        fold = dict(zip(train.cohort.patients, fitted.fold.tolist(), strict=True))
        both = train.cohort.select(fitted.names)
        both = replace(
            both,
            x=np.vstack([both.x, first.x]),
            y=np.concatenate([both.y, first.y]),
            patients=(*both.patients, *first.patients),
        )
        folds = np.concatenate([fitted.fold, np.array([fold[patient] for patient in first.patients])])
        learn = np.arange(len(both.y)) < len(train.cohort.y)
        answers = held_out_margins(both, folds, fitted.parameters, threads=WORKERS, progress=say, learn=learn)
        scores = {EARLY: answers[~learn]}
        late = fitted.out_of_fold
    else:
        scores, late = {EARLY: predict(fitted, early.cohort)}, predict(fitted, test.cohort)
    at_48 = study.primary
    assert at_48 is not None
    scores |= {24: late[~at_48], 48: late[at_48]}
    truth = {EARLY: (early, np.ones(len(early.cohort.y), bool)), 24: (study, ~at_48), 48: (study, at_48)}
    found: dict[str, Any] = {}
    for hours, (rows, chosen) in truth.items():
        y, patients = rows.cohort.y[chosen], np.array(rows.cohort.patients)[chosen]
        answer = measure(y, scores[hours], patients, metrics={"auroc": SCORE_METRICS["auroc"]}, bootstraps=200)
        found[f"{hours} h"] = {**answer, "patients": len(set(patients.tolist()))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs=2, type=Path, required=True, metavar=("DATA", "OUTCOMES"))
    parser.add_argument("--test", nargs=2, type=Path, metavar=("DATA", "OUTCOMES"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", action="store_true", help="also write risk_model/shipped/in_hospital_mortality")
    parser.add_argument("--curve", action="store_true", help="also AUROC by how many patients were learned from")
    options = parser.parse_args()
    train, early = study(*options.train)
    test, early = study(*options.test) if options.test else (None, early)
    metrics = run(
        "In-hospital mortality in intensive care (CinC 2012), at 48 hours",
        train,
        test,
        options.out,
        model_id="riskcards-icu-mortality-cinc2012",
        version="4",
        population=POPULATION,
        ship=options.ship,
        curve=options.curve,
        more=lambda fitted: {"by_hour": by_hour(train, early, test, fitted)},
    )
    print(f"AUROC {metrics['auroc']['value']:.3f} {metrics['auroc']['interval']}, {metrics['measured_on']}")


if __name__ == "__main__":
    main()
