"""In-hospital death of intensive-care patients from their first 48 hours (PhysioNet/CinC Challenge 2012), through FHIR.

    python -m benchmarks.cinc2012 --train DATA OUTCOMES [--test DATA OUTCOMES] --out DIR [--curve] [--ship]

Each stay becomes FHIR resources, then a PatientRecord as of 24 and of 48 hours, then a row. Both rows train (they
share a fold); the headline is at 48 hours, beside SAPS-I and SOFA of the same stays. Without --test every figure is
out of fold by patient.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cinc_fhir
from benchmarks.outcome import ComparedCohort, collect, run
from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY, ScoreResult, news2, qsofa
from risk_model.features.inputs import input_names, row
from risk_model.first_stage.training_rows import TrainingRows

HOURS = (24, 48)
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


def rows_of(stay: cinc_fhir.IcuStay) -> list[dict[str, Any]]:
    """One row for each prediction time."""
    names = input_names(IN_HOSPITAL_MORTALITY)
    resources = cinc_fhir.to_fhir(stay)
    answers = []
    for hours in HOURS:
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


def study(data: Path, outcomes: Path) -> ComparedCohort:
    known = cinc_fhir.read_outcomes(outcomes)
    stays = list(cinc_fhir.read_stays(data))
    rows = [item for part in collect(stays, rows_of, "stays through FHIR") for item in part]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs=2, type=Path, required=True, metavar=("DATA", "OUTCOMES"))
    parser.add_argument("--test", nargs=2, type=Path, metavar=("DATA", "OUTCOMES"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", action="store_true", help="also write risk_model/shipped/in_hospital_mortality")
    parser.add_argument("--curve", action="store_true", help="also AUROC by how many patients were learned from")
    options = parser.parse_args()
    metrics = run(
        "In-hospital mortality in intensive care (CinC 2012), at 48 hours",
        study(*options.train),
        study(*options.test) if options.test else None,
        options.out,
        model_id="riskcards-icu-mortality-cinc2012",
        version="3.1",
        population=POPULATION,
        ship=options.ship,
        curve=options.curve,
    )
    print(f"AUROC {metrics['auroc']['value']:.3f} {metrics['auroc']['interval']}, {metrics['measured_on']}")


if __name__ == "__main__":
    main()
