"""Train, validation and test splits by patient, by hash or by time, and folds with both classes.

By hash, a person's split depends only on the person and the seed, so that a growing cohort keeps its test patients. By
time, a person belongs to the last period with a row: earlier rows are dropped, and so are rows of earlier periods with
labels that were not yet known when the next period began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from risk_model.core.errors import CohortError
from risk_model.labels.labelling import Labelled

SPLITS = ("train", "validation", "test")
FOLDS = 5


@dataclass(frozen=True, slots=True)
class ByHash:
    """Shares of validation and test among persons; the rest is train."""

    validation: float = 0.15
    test: float = 0.15
    seed: str = "riskcards"

    def to_json(self) -> dict[str, object]:
        return {"kind": "hash", "validation": self.validation, "test": self.test, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class ByTime:
    """Validation begins at the first time, test at the second."""

    validation_from: datetime
    test_from: datetime

    def to_json(self) -> dict[str, object]:
        first, second = self.validation_from.isoformat(), self.test_from.isoformat()
        return {"kind": "time", "validation_from": first, "test_from": second}

    def period(self, moment: datetime) -> int:
        return (moment >= self.validation_from) + (moment >= self.test_from)

    def end(self, period: int) -> datetime | None:
        return (self.validation_from, self.test_from, None)[period]


SplitPlan = ByHash | ByTime


def share(text: str) -> float:
    """Returns a number in [0, 1) that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def assign(rows: Sequence[Labelled], persons: Mapping[str, str], plan: SplitPlan) -> list[str | None]:
    """Returns the split of each row; None for rows that a temporal split drops."""
    if isinstance(plan, ByHash):
        return [_by_hash(persons[row.subject_id], plan) for row in rows]
    last: dict[str, int] = {}
    for row in rows:
        person = persons[row.subject_id]
        last[person] = max(last.get(person, 0), plan.period(row.prediction_time))
    return [_by_time(row, last[persons[row.subject_id]], plan) for row in rows]


def _by_hash(person: str, plan: ByHash) -> str:
    place = share(f"{plan.seed}/split/{person}")
    return "test" if place < plan.test else "validation" if place < plan.test + plan.validation else "train"


def _by_time(row: Labelled, period: int, plan: ByTime) -> str | None:
    end = plan.end(period)
    known_at = row.window_end or row.prediction_time
    if plan.period(row.prediction_time) != period or (end is not None and known_at >= end):
        return None
    return SPLITS[period]


def folds(rows: Sequence[Labelled], persons: Mapping[str, str], wanted: int | None) -> tuple[list[int | None], int]:
    """Returns a fold for each row, the same for all rows of one person, and the number of folds.

    Persons with and without an outcome are distributed separately in the order of a hash, so that each fold has both.
    With `wanted` None there are five folds, or fewer if there are too few persons; with fewer than two persons of a
    class, none.
    """
    positive = {persons[row.subject_id] for row in rows if row.label}
    negative = {persons[row.subject_id] for row in rows} - positive
    possible = min(len(positive), len(negative))
    if wanted is not None and possible < wanted:
        kind = "with" if len(positive) < len(negative) else "without"
        raise CohortError(
            f"{wanted} folds need {wanted} patients {kind} the outcome and there are {possible}: a fold would hold one "
            f"class only; ask for fewer folds, or bring more patients"
        )
    number = wanted or min(FOLDS, possible)
    if number < 2:
        return [None] * len(rows), 0
    fold: dict[str, int] = {}
    for group in (positive, negative):
        for place, person in enumerate(sorted(group, key=lambda p: (share(f"fold/{p}"), p))):
            fold[person] = place % number
    return [fold[persons[row.subject_id]] for row in rows], number
