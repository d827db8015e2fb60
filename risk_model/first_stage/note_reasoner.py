"""A first stage that needs no language model: a logistic regression over what notes say, and why it says so.

    NoteReasoner(names, x, labels_of(names), vectors).learn(y, rows)      # beside a cohort, cross-fitted
    LearnedNotes.from_json(raw)(x, vectors)                               # on its own, beside a model that is served

Its reasons are the statements that weigh most in an estimate. A row of which notes say nothing is unknown, not average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.features.inputs import concept_of, label_of
from risk_model.first_stage.fusion import FINDING, Vectors
from risk_model.first_stage.rationale import LEADING, Fitted, Floats, Reasons, Rows

STRENGTH = 0.02
"""Inverse regularisation of the estimate from notes; not tuned."""
_FURTHEST = 4.0
_WHICH = {"last": "latest", "first": "first", "min": "lowest", "max": "highest", "grade": "latest grade of",
          "grade_min": "lowest grade of", "grade_max": "highest grade of"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoteReasoner:
    """`x` (rows, names) holds named inputs, NaN where a note does not say; `vectors` (rows, dimensions) a note
    embedding, which moves the estimate and cannot be put in words. `labels` gives each name in a clinician's words.
    """

    names: tuple[str, ...]
    x: Vectors
    labels: Mapping[str, str]
    vectors: Vectors | None = None

    def learn(self, y: Floats, rows: Rows) -> Fitted:
        from sklearn.linear_model import LogisticRegression

        if not rows.any() or y[rows].min() == y[rows].max():
            return _Nothing()
        known = np.where(np.isfinite(self.x), self.x, np.nan).astype(np.float64)
        seen = known[rows]
        some = np.isfinite(seen).any(axis=0)
        middle, spread = np.zeros(len(self.names)), np.ones(len(self.names))
        middle[some] = np.nanmean(seen[:, some], axis=0)
        spread[some] = np.maximum(np.nanstd(seen[:, some], axis=0), 1e-6)
        empty = np.zeros(len(self.names))
        blank = LearnedNotes(self.names, self.labels, middle, spread, empty, 0.0, None)
        inputs = np.hstack([np.nan_to_num(blank.standardised(self.x)), *_scaled(self.vectors)])
        model = LogisticRegression(C=STRENGTH, max_iter=300).fit(inputs[rows], y[rows])
        weights, rest = np.split(model.coef_[0], [len(self.names)])
        of_vectors = None if self.vectors is None else rest
        learned = LearnedNotes(self.names, self.labels, middle, spread, weights, float(model.intercept_[0]), of_vectors)
        return BesideRows(learned, self.x, self.vectors)


@dataclass(frozen=True, slots=True)
class LearnedNotes:
    """What a NoteReasoner learned, apart from the rows it learned from."""

    names: tuple[str, ...]
    labels: Mapping[str, str]
    middle: Floats
    spread: Floats
    weights: Floats
    intercept: float
    of_vectors: Floats | None

    def __call__(self, x: Vectors, vectors: Vectors | None) -> Reasons:
        """`x` (rows, names), NaN where notes do not say; `vectors` (rows, dimensions), needed where it learned some.

        Sums are taken row by row, so that a patient alone gets, bit for bit, what he gets among others.
        """
        z = self.standardised(x)
        logit = (np.nan_to_num(z) * self.weights).sum(axis=1) + self.intercept
        something = np.isfinite(z).any(axis=1)
        if self.of_vectors is not None and vectors is not None:
            logit = logit + (_scaled(vectors)[0] * self.of_vectors).sum(axis=1)
            something |= np.isfinite(vectors).all(axis=1)
        weighed = np.nan_to_num(z) * self.weights
        return Reasons(
            np.where(something, logit, np.nan),
            tuple(self._reasons(x[place], z[place], weighed[place]) for place in range(len(x))),
        )

    def standardised(self, x: Vectors) -> Floats:
        """Distances from the middle of those it learned from, shape (rows, names); NaN stays NaN."""
        known = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
        return np.clip((known - self.middle) / self.spread, -_FURTHEST, _FURTHEST)

    def _reasons(self, x: Vectors, z: Floats, weighed: Floats) -> tuple[str, ...]:
        leading = [int(number) for number in np.argsort(-np.abs(weighed), kind="stable")[:LEADING] if weighed[number]]
        return tuple(self._phrase(self.names[n], float(x[n]), float(z[n]), float(weighed[n])) for n in leading)

    def _phrase(self, name: str, value: float, z: float, weight: float) -> str:
        """`very high lactate, a higher risk`: what the note says, and which way it moved the estimate."""
        effect = "a higher risk" if weight > 0 else "a lower risk"
        if name.startswith(FINDING):
            return f"{self.labels[name] if value else f'no {self.labels[name]}'}, {effect}"
        grades = ((1.5, "very high"), (0.5, "high"), (-0.5, "usual"), (-1.5, "low"))
        grade = next((word for least, word in grades if z >= least), "very low")
        return f"{grade} {self.labels[name]}, {effect}"

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "labels": dict(self.labels),
            "middle": self.middle.tolist(),
            "spread": self.spread.tolist(),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
            "of_vectors": None if self.of_vectors is None else self.of_vectors.tolist(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LearnedNotes:
        """Raises KeyError, TypeError or ValueError when `raw` is none of ours."""
        names, labels = tuple(raw["names"]), dict(raw["labels"])
        columns = [np.asarray(raw[key], dtype=np.float64) for key in ("middle", "spread", "weights")]
        if any(column.shape != (len(names),) for column in columns) or set(labels) != set(names):
            raise ValueError("a first stage whose names and weights differ in number")
        of_vectors = None if raw["of_vectors"] is None else np.asarray(raw["of_vectors"], dtype=np.float64)
        return cls(names, labels, columns[0], columns[1], columns[2], float(raw["intercept"]), of_vectors)


@dataclass(frozen=True, slots=True)
class BesideRows:
    """A learned one beside the rows of a cohort: asked by their places."""

    notes: LearnedNotes
    x: Vectors
    vectors: Vectors | None

    def __call__(self, rows: Rows) -> Reasons:
        return self.notes(self.x[rows], None if self.vectors is None else self.vectors[rows])


@dataclass(frozen=True, slots=True)
class _Nothing:
    """Of a reasoner that had nothing to learn from: it says nothing."""

    def __call__(self, rows: Rows) -> Reasons:
        return Reasons(np.full(int(rows.sum()), np.nan), ((),) * int(rows.sum()))


def labels_of(names: Sequence[str]) -> dict[str, str]:
    """Inputs made of notes in the words of a clinician.

    >>> labels_of(["note.gcs.min", "finding.Heart Failure"])
    {'note.gcs.min': 'lowest glasgow coma scale', 'finding.Heart Failure': 'heart failure'}
    """

    def label(name: str) -> str:
        if name.startswith(FINDING):
            return name.removeprefix(FINDING).lower()
        return f"{_WHICH[name.rpartition('.')[2]]} {label_of(concept_of(name)).removesuffix(', as notes say').lower()}"

    return {name: label(name) for name in names}


def _scaled(vectors: Vectors | None) -> tuple[NDArray[np.float64], ...]:
    """Unit vectors to the size of standardised inputs; one that is not there is the middle."""
    if vectors is None:
        return ()
    return (np.nan_to_num(vectors.astype(np.float64)) * np.sqrt(vectors.shape[1]),)
