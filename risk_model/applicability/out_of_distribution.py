"""Out-of-distribution detection: a warning for patients who are rare in training, an abstention for outliers.

Each clinical concept gives one number (its last value, else its mean), mapped to a normal score through the quantiles
of the training rows. Beyond them the scale continues as a straight line, so that a value a hundred times too high stays
extreme; positive quantities also use a logarithmic scale, and the larger score counts: a skewed one (bilirubin,
troponin) a hundred times too low is close to its lowest training value in units, and far from it in ratio. The squared
Mahalanobis distance over the known concepts is compared with its mean for as many known concepts; missing concepts are
compared with how often they were missing in training. The thresholds are quantiles of the same score on held-out
training patients, so they are the false alarm rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from risk_model.features.inputs import concept_of

Floats = NDArray[np.float64]
WARNED, REFUSED = 0.01, 0.001
"""Share of held-out training patients who get a warning, and who get an abstention."""
FURTHEST = 40.0
QUANTILES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 0.999)
_PLACES = np.array(QUANTILES)
_NORMAL = ndtri(_PLACES)
_PREFERRED = ("last", "mean", "max", "min", "first")
_SHRINK = 0.1
_RARELY_KNOWN, _NEARLY_ALWAYS = 0.02, 0.9


@dataclass(frozen=True, slots=True)
class OutlierScore:
    """`verdict` is "typical", "unusual" (warning) or "outlier" (abstention); `concepts` are those that
    contribute most."""

    score: float
    verdict: str
    concepts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of the training patients.

    Distribution.fit(names, x, patients).outlier_score(row)
    """

    names: tuple[str, ...]
    """The inputs that are checked, one per concept."""
    places: tuple[int, ...]
    """Their positions in the model's row."""
    knots: Floats
    """(inputs, quantiles): values at the quantiles."""
    scales: Floats
    """(inputs,): units per standard deviation beyond the outermost quantiles."""
    centre: Floats
    """(inputs,): mean normal score; not exactly zero if many values are tied."""
    correlation: Floats
    """(inputs, inputs): covariance of the normal scores, shrunk towards independence."""
    known: Floats
    """(inputs,): share of training rows in which the input is known."""
    warn: float
    refuse: float
    furthest: float = np.inf
    """Normal score of a single input that gives a warning: in a sum, many typical values would hide it."""

    @classmethod
    def fit(cls, names: Sequence[str], x: NDArray[np.float32], fold: NDArray[np.int64]) -> Distribution:
        """Returns the distribution of `x` (rows, inputs), NaN for unknown. Thresholds come from scoring each fold by
        the others.

        Nearly empty rows are left out: with 2 % of stays without measurements, a lost data feed looked typical.
        """
        charted = _charted(x)
        x, fold = x[charted], fold[charted]
        places = _one_per_concept(names, x)
        chosen = tuple(names[place] for place in places)
        columns = np.asarray(x[:, places], dtype=np.float64)
        scores, extremes = np.zeros(len(columns)), np.zeros(len(columns))
        for number in np.unique(fold):
            held, others = columns[fold == number], _describe(chosen, places, columns[fold != number])
            scores[fold == number], extremes[fold == number] = others.scores(held), others.extremes(held)
        # Half of the warnings are for the sum, half for a single value.
        warn, refuse = (float(np.quantile(scores, 1 - share)) for share in (WARNED / 2, REFUSED))
        furthest = float(np.quantile(extremes, 1 - WARNED / 2))
        return replace(_describe(chosen, places, columns), warn=warn, refuse=refuse, furthest=furthest)

    def outlier_score(self, row: NDArray[np.float32]) -> OutlierScore:
        """Returns the outlier score of the model's whole row, shape (inputs of the model,)."""
        values = np.asarray(row, dtype=np.float64)[list(self.places)]
        score, parts = self._score(values, _normal_scores(values[None], self.knots, self.scales)[0])
        alone = bool(self.extremes(values[None])[0] > self.furthest)
        verdict = "outlier" if score > self.refuse else "unusual" if alone or score > self.warn else "typical"
        order = np.argsort(-parts)[:3]
        concepts = tuple(concept_of(self.names[i]) for i in order if parts[i] > 1) if verdict != "typical" else ()
        return OutlierScore(score, verdict, concepts)

    def _score(self, values: Floats, normal: Floats) -> tuple[float, Floats]:
        """Returns the score and each input's share of it: how unlikely its presence or absence is, and how unlikely its
        value."""
        here = np.isfinite(values)
        surprise, expected, spread = self._presence
        parts = (np.where(here, surprise[0], surprise[1]) - expected) / spread
        if here.any():
            z = normal[here] - self.centre[here]
            inverse = np.linalg.solve(self.correlation[np.ix_(here, here)], z)
            parts[here] += (z * inverse - 1) / np.sqrt(2 * here.sum())
        return float(parts.sum()), parts

    def scores(self, columns: Floats) -> Floats:
        """Returns the scores of many rows; `columns` has shape (rows, checked inputs)."""
        normal = _normal_scores(columns, self.knots, self.scales)
        return np.array([self._score(row, z)[0] for row, z in zip(columns, normal, strict=True)])

    def extremes(self, columns: Floats) -> Floats:
        """Returns the most extreme normal score of each row, 0 if nothing is known."""
        normal = _normal_scores(columns, self.knots, self.scales)
        return np.asarray(np.abs(np.where(np.isfinite(normal), normal, 0.0)).max(axis=1, initial=0.0))

    @property
    def _presence(self) -> tuple[tuple[Floats, Floats], Floats, float]:
        """Negative log probability of an input being known and unknown, its mean, and the standard deviation of the
        sum."""
        known, unknown = -np.log(self.known), -np.log(1 - self.known)
        mean = self.known * known + (1 - self.known) * unknown
        variance = self.known * (1 - self.known) * (known - unknown) ** 2
        return (known, unknown), mean, float(np.sqrt(variance.sum()) + 1e-9)

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "places": list(self.places),
            "knots": self.knots.tolist(),
            "scales": self.scales.tolist(),
            "centre": self.centre.tolist(),
            "correlation": self.correlation.tolist(),
            "known": self.known.tolist(),
            "warn": self.warn,
            "refuse": self.refuse,
            "furthest": self.furthest if np.isfinite(self.furthest) else None,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Distribution:
        """Raises KeyError, TypeError or ValueError if `raw` is invalid."""
        count, quantiles = len(raw["names"]), len(_PLACES)
        vector = (count,)
        shapes = {"knots": (count, quantiles), "scales": vector, "centre": vector, "known": vector}
        shapes["correlation"] = (count, count)
        arrays = {name: np.asarray(raw[name], dtype=np.float64).reshape(shape) for name, shape in shapes.items()}
        places = tuple(int(place) for place in raw["places"])
        furthest = float("inf") if raw.get("furthest") is None else float(raw["furthest"])
        warn, refuse = float(raw["warn"]), float(raw["refuse"])
        return cls(tuple(raw["names"]), places, **arrays, warn=warn, refuse=refuse, furthest=furthest)


def _charted(x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns the rows that hold at least half of the inputs that nearly every row holds."""
    known = np.isfinite(x)
    nearly_always = known.mean(axis=0) >= _NEARLY_ALWAYS
    if not nearly_always.any():
        return np.ones(len(x), bool)
    return np.asarray(known[:, nearly_always].mean(axis=1) >= 0.5)


def _one_per_concept(names: Sequence[str], x: NDArray[np.float32]) -> tuple[int, ...]:
    """Returns the positions of the checked inputs: for each concept the preferred aggregate, if it is a quantity."""
    best: dict[str, tuple[int, int]] = {}
    for place, name in enumerate(names):
        column = x[np.isfinite(x[:, place]), place]
        kind, _, aggregate = name.partition(".")
        # Yes-no inputs (a diagnosis, a sex) have no distance: a rare disease alone would make every such patient an
        # outlier.
        if len(column) < max(20, _RARELY_KNOWN * len(x)) or len(np.unique(column)) < 3 or aggregate == "slope":
            continue
        rank = _PREFERRED.index(aggregate) if aggregate in _PREFERRED else len(_PREFERRED)
        best[kind] = min(best.get(kind, (rank, place)), (rank, place))
    return tuple(sorted(place for _, place in best.values()))


def _describe(names: tuple[str, ...], places: tuple[int, ...], columns: Floats) -> Distribution:
    count = len(places)
    knots = np.array([np.quantile(c[np.isfinite(c)], _PLACES) for c in columns.T]).reshape(count, len(_PLACES))
    scales = np.array([_scale(row) for row in knots])
    # Never exactly 0 or 1: one row more of either kind, so that no pattern is impossible.
    known = (np.isfinite(columns).sum(axis=0) + 1.0) / (len(columns) + 2.0)
    bare = Distribution(names, places, knots, scales, np.zeros(count), np.eye(count), known, np.inf, np.inf)
    scores = _normal_scores(columns, knots, scales)
    here = np.isfinite(scores)
    centre = np.where(here, scores, 0.0).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
    filled = np.where(here, scores - centre, 0.0)
    covariance = (filled.T @ filled) / np.maximum(here.T.astype(float) @ here.astype(float), 1.0)
    shrunk = (1 - _SHRINK) * covariance + _SHRINK * np.diag(np.maximum(covariance.diagonal(), 0.05))
    return replace(bare, centre=centre, correlation=_positive(shrunk))


def _normal_scores(values: Floats, knots: Floats, scales: Floats) -> Floats:
    """Returns values (rows, inputs) as standard normal scores, NaN kept.

    A value tied with quantiles gets their middle; beyond the outermost quantile the scale is a straight line.
    """
    below = (knots[None] < values[:, :, None]).sum(axis=2)
    upto = (knots[None] <= values[:, :, None]).sum(axis=2)
    last = len(_PLACES) - 1
    left, right = np.clip(below - 1, 0, last), np.clip(below, 0, last)
    inputs = np.arange(knots.shape[0])
    start, end = knots[inputs, left], knots[inputs, right]
    share = (values - start) / np.where(end > start, end - start, 1.0)
    between = _NORMAL[left] + share * (_NORMAL[right] - _NORMAL[left])
    tied = (_NORMAL[right] + _NORMAL[np.clip(upto - 1, 0, last)]) / 2
    beyond = np.minimum(0.0, values - knots[:, 0]) + np.maximum(0.0, values - knots[:, -1])
    far = np.maximum(np.abs(beyond) / scales, _ratio_beyond(values, knots))
    outside = np.sign(beyond) * np.minimum(_NORMAL[-1] + far, FURTHEST)
    inside = np.where(upto > below, tied, between)
    return np.asarray(np.where(np.isnan(values), np.nan, np.where(beyond == 0, inside, outside)))


def _ratio_beyond(values: Floats, knots: Floats) -> Floats:
    """Returns how many standard deviations of the logarithm positive quantities (rows, inputs) are outside the training
    range."""
    low, high = knots[:, 0], knots[:, -1]
    positive = (low > 0) & (high > low)
    spread = np.log(np.where(positive, high, 2.0) / np.where(positive, low, 1.0)) / (_NORMAL[-1] - _NORMAL[0])
    tiny = np.where(positive, low, 1.0) * np.exp(-FURTHEST * spread)  # zero and less get the largest score
    logs = np.log(np.maximum(np.where(np.isfinite(values), values, 1.0), tiny))
    below, above = np.log(np.where(positive, low, 1.0)) - logs, logs - np.log(np.where(positive, high, 1.0))
    return np.asarray(np.where(positive, np.maximum(np.maximum(below, above), 0.0) / spread, 0.0))


def _scale(knots: Floats) -> float:
    """Returns units per standard deviation, from the outer quantiles, so that values in a long tail are not
    outliers."""
    spread = (knots[-1] - knots[0]) / (_NORMAL[-1] - _NORMAL[0])
    return float(max(spread, 1e-6 * max(1.0, abs(knots[-1]))))


def _positive(matrix: Floats) -> Floats:
    """Returns the matrix with its eigenvalues made positive: pairwise moments over different rows need not be a
    covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 0.05)) @ vectors.T)
