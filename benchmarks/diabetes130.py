"""30-day readmission of diabetic inpatients (Diabetes-130, 1999-2008), through FHIR.

    python -m benchmarks.diabetes130 --train FILE [--test FILE] --out DIR [--curve] [--ship]

Each encounter becomes FHIR resources, then a PatientRecord as of its discharge, then a row; deaths and discharges to
hospice are left out. Folds are by patient. Without --test every figure is out of fold.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import diabetes_fhir
from benchmarks.cinc2012 import middle
from benchmarks.outcome import ComparedCohort, collect, run
from fhir_mapping import PatientRecord
from risk_model import READMISSION_30D, hospital_score, lace
from risk_model.features.inputs import input_names, row
from risk_model.first_stage.training_rows import TrainingRows

POPULATION = {
    "minimum_age": 18,
    "requires_groups": ["diabetes", "diabetes_end_organ"],
    "excluded_dispositions": [
        "20", "40", "41", "42", "50", "51", "exp", "hosp", "hospice", "hospice-home", "hospice-facility",
    ],
    "needs": ["length_of_stay.last", "inpatient_stay.count_365d", "condition.count", "medication.count"],
    "needs_at_least": 3,
    "in_words": "adult inpatients with diabetes, discharged alive and not to hospice",
}  # fmt: skip


def row_of(admission: diabetes_fhir.DiabetesAdmission) -> dict[str, Any]:
    source = admission.row
    record = PatientRecord.from_resources(
        diabetes_fhir.to_fhir(source, admission.earlier),
        prediction_time=diabetes_fhir.DISCHARGE,
        encounter_id=f"stay-{source['encounter_id']}",
    )
    vector = record.features()
    return {
        "id": source["patient_nbr"],
        "x": row(record, input_names(READMISSION_30D), vector),
        "y": float(source["readmitted"] == "<30"),
        "LACE": middle(lace(record)),
        "HOSPITAL": middle(hospital_score(record)),
        "sex": vector.word("sex.last") or "",
        "age": vector.number("age.last") or np.nan,
        "race": source["race"],
    }


def study(path: Path) -> ComparedCohort:
    sources = [item for item in diabetes_fhir.read_admissions(path) if diabetes_fhir.eligible(item.row)]
    rows = collect(sources, row_of, "encounters through FHIR")
    age, sex = np.array([item["age"] for item in rows]), np.array([item["sex"] for item in rows])
    race = np.array([item["race"] for item in rows])
    cohort = TrainingRows(
        READMISSION_30D,
        input_names(READMISSION_30D),
        np.stack([item["x"] for item in rows]),
        np.array([item["y"] for item in rows]),
        tuple(item["id"] for item in rows),
    )
    rivals = {name: np.array([item[name] for item in rows], dtype=float) for name in ("LACE", "HOSPITAL")}
    subgroups = {
        "women": sex == "female",
        "men": sex == "male",
        "under 65": age < 65,
        "65 to 79": (age >= 65) & (age < 80),
        "80 and over": age >= 80,
    } | {f"recorded race: {name}": race == name for name in ("Caucasian", "AfricanAmerican", "Hispanic", "Asian")}
    return ComparedCohort(cohort, rivals, subgroups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, metavar="FILE")
    parser.add_argument("--test", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", action="store_true", help="also write risk_model/shipped/readmission_30d")
    parser.add_argument("--curve", action="store_true", help="also AUROC by how many patients were learned from")
    options = parser.parse_args()
    metrics = run(
        "30-day readmission of diabetic inpatients (Diabetes-130)",
        study(options.train),
        study(options.test) if options.test else None,
        options.out,
        model_id="riskcards-readmission-diabetes130",
        version="4",
        population=POPULATION,
        ship=options.ship,
        curve=options.curve,
        bootstraps=1000,
    )
    print(f"AUROC {metrics['auroc']['value']:.3f} {metrics['auroc']['interval']}, {metrics['measured_on']}")


if __name__ == "__main__":
    main()
