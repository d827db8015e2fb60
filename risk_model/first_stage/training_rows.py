"""Rows to learn from, whether they suffice, and the folds that keep each patient's rows together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from risk_model.core.errors import TrainingError
from risk_model.first_stage.fusion import VectorBlock

FOLDS = 5


def check_outcomes(y: NDArray[np.float64], patients: Sequence[str], folds: int = FOLDS) -> None:
    """Raises TrainingError where these outcomes, of these patients, are too few to learn from."""
    if len(y) == 0:
        raise TrainingError("the cohort is empty")
    if y.min() == y.max():
        word = "positive" if y[0] == 0 else "negative"
        raise TrainingError(f"the cohort has no {word} outcome; both are needed")
    least, positive = 2 * folds, int(y.sum())
    if min(positive, len(y) - positive) < least:
        raise TrainingError(
            f"too few outcomes of one class for {folds} folds: {positive} rows with the outcome and "
            f"{len(y) - positive} without, at least {least} of each are needed to train on; build the cohort from more "
            "patients, or with another label (riskcards cohort tasks)"
        )
    if len(set(patients)) < folds:
        raise TrainingError(f"fewer patients ({len(set(patients))}) than folds ({folds})")


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows to learn from: `x` (n, inputs) float32 with NaN for unknown, `y` (n,) 0/1, one patient id per row.

    `blocks` are raw vectors of stage 1; what a stage-1 head makes of them has no place here (see `fusion`).
    """

    task: str
    names: tuple[str, ...]
    x: NDArray[np.float32]
    y: NDArray[np.float64]
    patients: tuple[str, ...]
    blocks: tuple[VectorBlock, ...] = ()

    def check(self, folds: int = FOLDS) -> None:
        """Raises TrainingError saying which rule the cohort breaks."""
        check_outcomes(self.y, self.patients, folds)

    def constants(self) -> tuple[str, ...]:
        """Inputs that are the same in every row (or unknown in every row): nothing can be learned from them."""
        same = (self.x == self.x[:1]) | (np.isnan(self.x) & np.isnan(self.x[:1]))
        return tuple(name for name, constant in zip(self.names, same.all(axis=0), strict=True) if constant)

    def select(self, names: Sequence[str]) -> TrainingRows:
        """The same rows with these inputs only. Raises TrainingError naming an input it lacks."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise TrainingError(f"the cohort lacks the inputs {', '.join(missing[:5])}")
        places = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), x=self.x[:, places])


def patient_folds(
    patients: Sequence[str], folds: int = FOLDS, y: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """A fold for each row, the same for all rows of one patient and on every run.

    By hash of the patient id; with `y`, patients with and without an outcome are dealt out evenly, in that order.
    """
    digest = {
        patient: int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") for patient in set(patients)
    }
    if y is None:
        return np.array([digest[patient] % folds for patient in patients], dtype=np.int64)
    ever = {patient for patient, outcome in zip(patients, y, strict=True) if outcome}
    order = sorted(digest, key=lambda patient: (patient in ever, digest[patient]))
    dealt = {patient: place % folds for place, patient in enumerate(order)}
    return np.array([dealt[patient] for patient in patients], dtype=np.int64)
