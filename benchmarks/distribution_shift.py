"""Detection of patients unlike the training patients: wrong units, lost feeds, another age; and false alarms.

    python -m benchmarks.distribution_shift --data DATA [--stays 1500] [--encounters 5000]

The distance check (`risk_model.applicability.out_of_distribution`) is fitted anew on four fifths of the patients,
through FHIR as the shipped models are, and evaluated on the fifth that took no part: as they are, and with one thing
wrong in every record. Shares that are warned of or refused, and that are refused, go to
`benchmarks/results/distribution_shift.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cinc2012, cinc_fhir, diabetes130, diabetes_fhir, readme
from benchmarks.measuring import write
from benchmarks.outcome import collect, say
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.applicability.out_of_distribution import REFUSED, WARNED, Distribution
from risk_model.features import concept_of
from risk_model.features.inputs import input_names
from risk_model.first_stage.training_rows import patient_folds

RESULT = readme.RESULTS / "distribution_shift.json"
Rows = NDArray[np.float32]
Shift = Callable[[tuple[str, ...], Rows], Rows]
_LABORATORY = frozenset(
    {
        "sodium", "potassium", "bicarbonate", "bun", "creatinine", "glucose", "magnesium", "albumin", "bilirubin",
        "alt", "ast", "alp", "lactate", "hematocrit", "wbc", "platelets", "bun_creatinine",
    }
)  # fmt: skip
_VITAL = frozenset(
    {
        "heart_rate", "respiratory_rate", "systolic_bp", "diastolic_bp", "mean_bp", "temperature", "shock_index",
        "pulse_pressure",
    }
)  # fmt: skip


def scaled(factor: float, *concepts: str) -> Shift:
    """Every input of the concepts times a factor, as when a unit is taken for another."""

    def shift(names: tuple[str, ...], x: Rows) -> Rows:
        found = x.copy()
        found[:, [concept_of(name) in concepts for name in names]] *= np.float32(factor)
        return found

    return shift


def fahrenheit(names: tuple[str, ...], x: Rows) -> Rows:
    """Levels of temperature in degrees Fahrenheit; spread and slope, which have no zero, by the factor alone."""
    found = x.copy()
    for place, name in enumerate(names):
        if concept_of(name) == "temperature":
            relative = name.endswith((".std", ".slope"))
            found[:, place] = found[:, place] * np.float32(1.8) + np.float32(0 if relative else 32)
    return found


def lost(concepts: frozenset[str]) -> Shift:
    """A feed that no longer comes."""

    def shift(names: tuple[str, ...], x: Rows) -> Rows:
        found = x.copy()
        found[:, [concept_of(name) in concepts for name in names]] = np.nan
        return found

    return shift


MORTALITY: Mapping[str, Shift] = {
    "creatinine in umol/L": scaled(88.4, "creatinine"),
    "bilirubin in umol/L": scaled(17.1, "bilirubin"),
    "glucose in mmol/L": scaled(1 / 18.016, "glucose"),
    "urea nitrogen in mmol/L": scaled(0.357, "bun"),
    "platelets per uL": scaled(1000, "platelets"),
    "hematocrit as a fraction": scaled(0.01, "hematocrit"),
    "temperature in degrees Fahrenheit": fahrenheit,
    "sodium ten times too low": scaled(0.1, "sodium"),
    "lactate in mg/dL": scaled(9.008, "lactate"),
    "age in months": scaled(12, "age"),
    "no laboratory values": lost(_LABORATORY),
    "no vital signs": lost(_VITAL),
}
READMISSION: Mapping[str, Shift] = {
    "length of stay in hours": scaled(24, "length_of_stay"),
    "age in months": scaled(12, "age"),
    "ten times as many visits": scaled(10, "inpatient_stay", "emergency_visit", "outpatient_visit"),
    "ten times as many medications": scaled(10, "medication"),
    "medications not fetched": lost(frozenset({"medication"})),
    "visits not fetched": lost(frozenset({"inpatient_stay", "emergency_visit", "outpatient_visit", "earlier_stay"})),
}


def noticed(names: tuple[str, ...], x: Rows, patients: list[str], shifts: Mapping[str, Shift]) -> dict[str, Any]:
    """Shares of held-out rows, as they are and with each shift: then of those that it changes."""
    fold = patient_folds(patients)
    inside = fold != 0
    distribution = Distribution.fit(names, x[inside], fold[inside])
    held = x[~inside]

    def shares(rows: Rows) -> dict[str, float]:
        verdicts = [distribution.outlier_score(row).verdict for row in rows]
        warned = float(np.mean([verdict != "typical" for verdict in verdicts]))
        refused = float(np.mean([verdict == "outlier" for verdict in verdicts]))
        return {"rows": len(rows), "warned_or_refused": warned, "refused": refused}

    def shifted(shift: Shift) -> Rows:
        rows = shift(names, held)
        return rows[[not np.array_equal(a, b, equal_nan=True) for a, b in zip(rows, held, strict=True)]]

    return {
        "rows_learned_from": int(inside.sum()),
        "as_they_are": shares(held),
        "with": {name: shares(shifted(shift)) for name, shift in shifts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the development data folder")
    parser.add_argument("--stays", type=int, default=1500)
    parser.add_argument("--encounters", type=int, default=5000)
    options = parser.parse_args()
    stays = list(islice(cinc_fhir.read_stays(options.data / "cinc2012" / "set-a.csv.gz"), options.stays))
    icu = [item for part in collect(stays, cinc2012.rows_of, "stays through FHIR") for item in part]
    table = diabetes_fhir.read_admissions(options.data / "diabetes-130" / "encounters.csv.gz")
    admissions = list(islice((item for item in table if diabetes_fhir.eligible(item.row)), options.encounters))
    inpatients = collect(admissions, diabetes130.row_of, "encounters through FHIR")
    say("evaluating")
    found: dict[str, Any] = {"meant": {"warned_or_refused": WARNED, "refused": REFUSED}}
    for task, rows, shifts in (
        (IN_HOSPITAL_MORTALITY, icu, MORTALITY),
        (READMISSION_30D, inpatients, READMISSION),
    ):
        x = np.stack([row["x"] for row in rows])
        found[task] = noticed(input_names(task), x, [row["id"] for row in rows], shifts)
    write(RESULT, found)


if __name__ == "__main__":
    main()
