"""Conformal intervals and prediction sets, with coverage that can be verified on patients not used for training.

*Rate interval*: of `group` patients with an estimate like this one, how many have the outcome? Out-of-fold patients,
sorted by estimate, are cut into groups; the distance of each group's rate from its mean estimate (on the
variance-stabilising arcsine scale) gives a conformal quantile. Coverage: the rate of a new group lies inside for
`LEVEL` of groups. It describes groups, not whether one patient will have the outcome.

*Prediction set*: the outcomes that cannot be ruled out for this patient. Coverage: of patients with the outcome, and of
patients without it, in each category (sex by age band), the true outcome is in the set for `LEVEL` (label-conditional
Mondrian conformal prediction: Vovk, Gammerman and Shafer 2005, chapter 4). A weak model reaches this coverage by ruling
out little.

Both assume exchangeability with the calibration patients. Groups hold one row of each patient; the sets count every
row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import asin, ceil, floor, sin, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.9
GROUP_SIZES = (100, 50, 20, 10)
FEWEST_GROUPS = 60
FEWEST_OUTCOMES = 50
"""Patients with and without the outcome that a category needs for thresholds of its own; else those of all patients
apply."""
ALL = "all"
AGE_BANDS = ((65.0, "under 65"), (80.0, "65 to 79"), (float("inf"), "80 and over"))


@dataclass(frozen=True, slots=True)
class Conformal:
    """Thresholds calibrated once and stored in the manifest.

    Conformal.calibrate(outcome, probability, patients, categories).interval(0.14)
    """

    level: float
    group: int
    reach: float
    """Half-width on the scale 2 sqrt(group) asin(sqrt(rate)), where the rate of a group has a standard deviation of
    one."""
    borders: Mapping[str, tuple[float, float]]
    """Category -> (estimate below which the outcome is ruled out, estimate above which its absence is ruled out)."""

    @classmethod
    def calibrate(
        cls,
        outcome: Floats,
        probability: Floats,
        patients: Sequence[str] | NDArray[np.str_],
        categories: Sequence[str] | NDArray[np.str_],
        level: float = LEVEL,
    ) -> Conformal:
        """Returns thresholds from out-of-fold probabilities; `categories` as from `categories_of`, one per row."""
        chosen, names, kinds = one_row_each(patients), np.asarray(patients), np.asarray(categories)
        size = group_size(len(chosen))
        reach = _upper_quantile(np.abs(group_scores(outcome[chosen], probability[chosen], size)), level)
        borders = {ALL: _borders(outcome, probability, names, level)}
        for kind in sorted(set(kinds.tolist()) - {ALL}):
            inside = kinds == kind
            counts = [len(set(names[inside & (outcome == truth)].tolist())) for truth in (0, 1)]
            if min(counts) >= FEWEST_OUTCOMES:
                borders[kind] = _borders(outcome[inside], probability[inside], names[inside], level)
        return cls(level, size, reach, borders)

    def interval(self, probability: float) -> tuple[float, float]:
        """Returns the lowest and highest outcome rate to expect among `group` patients with this estimate."""
        centre, half = asin(sqrt(probability)), self.reach / (2 * sqrt(self.group))
        low, high = _rate(max(0.0, centre - half), self.group), _rate(min(asin(1.0), centre + half), self.group)
        return min(low, probability), max(high, probability)

    def outcomes(self, probability: float, category: str) -> tuple[bool, ...]:
        """Returns the prediction set: (False,) if the outcome is ruled out, (True,) if its absence is, both, or
        neither."""
        rules_out_with, rules_out_without = self.borders.get(category, self.borders[ALL])
        kept = ((False, probability <= rules_out_without), (True, probability >= rules_out_with))
        return tuple(truth for truth, keeps in kept if keeps)

    def to_json(self) -> dict[str, Any]:
        borders = {name: list(pair) for name, pair in self.borders.items()}
        return {"level": self.level, "group": self.group, "reach": self.reach, "borders": borders}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Conformal:
        """Raises KeyError, TypeError or ValueError if `raw` is invalid."""
        borders = {str(name): (float(pair[0]), float(pair[1])) for name, pair in raw["borders"].items()}
        return cls(float(raw["level"]), int(raw["group"]), float(raw["reach"]), borders)


def describe_prediction_set(outcomes: Sequence[bool], level: float = LEVEL) -> str:
    """Returns the prediction set in words for a clinician: how common this estimate is with and without the outcome.

    "Rules out" and "expects" would be read as a diagnosis; at a risk of 38 % the set can hold the outcome alone.

    >>> describe_prediction_set((False,))
    'Of patients with this outcome, fewer than 1 in 10 get an estimate this low.'
    >>> describe_prediction_set((False, True))
    'At this level the model cannot separate the two outcomes.'
    """
    rarely = f"fewer than 1 in {1 / (1 - level):.0f}"
    if tuple(outcomes) == (False,):
        return f"Of patients with this outcome, {rarely} get an estimate this low."
    if tuple(outcomes) == (True,):
        return f"Of patients without this outcome, {rarely} get an estimate this high."
    if outcomes:
        return "At this level the model cannot separate the two outcomes."
    return "Estimates at this level are rare, with this outcome and without it."


def categories_of(names: Sequence[str], x: NDArray[np.float32]) -> NDArray[np.str_]:
    """Returns sex by age band of each row, `all` if either is unknown or not an input. `x` has shape (rows, inputs)."""
    if "age.last" not in names or "sex.female" not in names:
        return np.full(len(x), ALL)
    age, female = x[:, list(names).index("age.last")], x[:, list(names).index("sex.female")]
    return np.array([_category(float(a), float(f)) for a, f in zip(age, female, strict=True)], dtype=np.str_)


def _category(age: float, female: float) -> str:
    if not (np.isfinite(age) and np.isfinite(female)):
        return ALL
    return f"{'women' if female else 'men'} {age_band(age)}"


def age_band(age: float) -> str:
    """Returns the age band of an age in years.

    >>> age_band(64.9), age_band(65), age_band(93)
    ('under 65', '65 to 79', '80 and over')
    """
    return next(name for border, name in AGE_BANDS if age < border)


def one_row_each(patients: Sequence[str] | NDArray[np.str_], seed: int = 0) -> NDArray[np.int64]:
    """Returns the places of one row of each patient, drawn at random: rows of one patient are not exchangeable with
    others."""
    names = np.asarray(patients)
    order = np.random.default_rng(seed).permutation(len(names))
    _, first = np.unique(names[order], return_index=True)
    return np.sort(order[first])


def group_size(patients: int) -> int:
    """Returns the largest group size of which there are enough groups to calibrate with.

    >>> group_size(60_000), group_size(700), group_size(60)
    (100, 10, 10)
    """
    return next((size for size in GROUP_SIZES if patients >= size * FEWEST_GROUPS), GROUP_SIZES[-1])


def group_scores(outcome: Floats, probability: Floats, size: int, offset: int = 0) -> Floats:
    """Returns the signed distance of each group's rate from its mean estimate, in standard deviations; groups of
    neighbours."""
    order = np.argsort(probability, kind="stable")[offset:]
    count = len(order) // size
    groups = order[: count * size].reshape(count, size)
    rate, expected = outcome[groups].mean(axis=1), probability[groups].mean(axis=1)
    # Anscombe's correction: without it "none of 100" is two deviations below an expected 1 %, though it is not
    # unlikely.
    corrected = (rate * size + 3 / 8) / (size + 3 / 4)
    return np.asarray(2 * sqrt(size) * (np.arcsin(np.sqrt(corrected)) - np.arcsin(np.sqrt(expected))))


def _rate(angle: float, size: int) -> float:
    """Returns the rate at this angle: the inverse of the scale of `group_scores`."""
    return min(1.0, max(0.0, ((size + 3 / 4) * sin(angle) ** 2 - 3 / 8) / size))


def _upper_quantile(scores: Floats, level: float) -> float:
    """Returns the conformal quantile, the ceil((n + 1) level)-th smallest; infinity if there are too few scores."""
    place = ceil((len(scores) + 1) * level)
    # The largest possible distance on this scale is 2 sqrt(group) pi/2; 1e3 is above it and is valid JSON.
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else 1e3


def _borders(outcome: Floats, probability: Floats, patients: NDArray[np.str_], level: float) -> tuple[float, float]:
    """Returns the thresholds: an outcome is kept if more than 1 - level of its calibration rows were at least as
    extreme.

    Every row counts, since every row is an estimate that is shown: with one row drawn for each patient, sets covered
    0.875 of readmission rows instead of 0.90, because patients with many stays have high estimates. The finite-sample
    correction of the quantile uses the number of patients.
    """
    with_outcome, without = outcome == 1, outcome == 0
    low = _border(np.sort(probability[with_outcome]), len(set(patients[with_outcome].tolist())), level, 0.0)
    high = _border(np.sort(probability[without])[::-1], len(set(patients[without].tolist())), level, 1.0)
    return low, high


def _border(ranked: Floats, patients: int, level: float, none: float) -> float:
    place = floor((1 - level) * (patients + 1) + 1e-9)
    return float(ranked[place * len(ranked) // patients - 1]) if place >= 1 else none


def cross_calibrated(
    outcome: Floats,
    probability: Floats,
    patients: Sequence[str],
    categories: NDArray[np.str_],
    fold: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], Floats]:
    """Returns the coverage on patients who were not used for calibration.

    `fold` has shape (rows,), each patient in one fold. Returns, per row, whether the outcome was in a prediction set
    calibrated on the other folds; and the distances of all groups in units of the others' reach (inside if <= 1).
    """
    names = np.asarray(patients)
    covered = np.zeros(len(outcome), bool)
    distances: list[Floats] = []
    size = group_size(len(set(patients)))
    for number in np.unique(fold):
        inside, outside = fold != number, fold == number
        statement = Conformal.calibrate(outcome[inside], probability[inside], names[inside], categories[inside])
        for row in np.flatnonzero(outside):
            covered[row] = bool(outcome[row]) in statement.outcomes(float(probability[row]), str(categories[row]))
        held = np.flatnonzero(outside)[one_row_each(names[outside])]
        scale = sqrt(size / statement.group)  # with fewer patients the groups may be smaller
        scores = np.abs(group_scores(outcome[held], probability[held], size))
        distances.append(scores / (statement.reach * max(1.0, scale)))
    return covered, np.concatenate(distances)
