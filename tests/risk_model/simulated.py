"""Cohorts drawn from a known truth, for tests of training, calibration and coverage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from risk_model import IN_HOSPITAL_MORTALITY
from risk_model.first_stage.fusion import VectorBlock
from risk_model.first_stage.training_rows import TrainingRows

QUICK = {"max_depth": 3, "eta": 0.15, "min_child_weight": 5, "lambda": 5.0, "rounds": 40}
"""Trees enough for the simulated truth."""
NAMES = (
    "age.last",
    "sex.female",
    "heart_rate.last",
    "heart_rate.mean",
    "sodium.last",
    "lactate.last",
    "group.cerebrovascular",
)


def simulated(
    rows: int = 3000, seed: int = 1, *, task: str = IN_HOSPITAL_MORTALITY, signal: float = 1.0, visits: int = 1
) -> TrainingRows:
    """Patients with age, sex, two related heart rates, sodium, lactate (missing in a third) and a diagnosis.

    `visits` rows for each patient; the truth depends on age, heart rate and lactate on the log-odds.
    """
    generator = np.random.default_rng(seed)
    age = np.clip(generator.normal(66, 14, rows), 18, 98)
    female = generator.random(rows) < 0.45
    heart = generator.normal(88, 16, rows)
    lactate = np.exp(generator.normal(0.5, 0.5, rows))
    logit = -2 + signal * ((age - 66) / 20 + (heart - 88) / 25 + 1.2 * (np.log(lactate) - 0.5))
    y = (generator.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    known_lactate = np.where(generator.random(rows) < 0.67, lactate, np.nan)
    stroke = generator.random(rows) < 0.08
    sodium = generator.normal(139, 4, rows)
    columns = [age, female, heart, heart + generator.normal(0, 3, rows), sodium, known_lactate, stroke]
    patients = tuple(f"p{n // visits}" for n in range(rows))
    return TrainingRows(task, NAMES, np.column_stack(columns).astype(np.float32), y, patients)


def memorising_block(cohort: TrainingRows, dimensions: int = 40, seed: int = 2) -> VectorBlock:
    """Vectors of pure noise: a head fitted on them looks wise on its own rows and knows nothing of others."""
    noise = np.random.default_rng(seed).normal(size=(len(cohort.y), dimensions))
    return VectorBlock("record", noise.astype(np.float32))


def informative_block(cohort: TrainingRows, seed: int = 3) -> VectorBlock:
    """Vectors that hold the outcome, blurred, in their first dimension."""
    generator = np.random.default_rng(seed)
    vectors: NDArray[np.float32] = generator.normal(size=(len(cohort.y), 8)).astype(np.float32)
    vectors[:, 0] += 1.5 * cohort.y.astype(np.float32)
    return VectorBlock("record", vectors)
