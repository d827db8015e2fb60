"""Drift of inputs, estimates and missingness against the training patients, as population stability indexes (PSI).

PSI = sum over bins of (seen - expected) * ln(seen / expected): the symmetrised Kullback-Leibler divergence of two
distributions in the same bins (Siddiqi, Credit Risk Scorecards, 2006, also the source of the thresholds 0.1 and 0.25).
Two samples of one population differ too: their PSI is about (1/n + 1/m) times a chi-square with one degree of freedom
fewer than there are bins (Yurdakul and Naranjo, J Risk Model Validation 2020;14(4)). Drift is reported only above its
threshold and above what 1 of 1,000 such pairs reaches, so that a week with few patients raises no alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from risk_model.applicability.out_of_distribution import QUANTILES
from risk_model.models.estimator import RiskModel

Floats = NDArray[np.float64]
FEWEST = 100
WATCH, SHIFTED = 0.1, 0.25
GAP = 0.1
"""Changes in the share of unknown values smaller than this are not reported, whatever the number of patients."""
_BINS = 10
_RARELY = 0.001
_Z95 = 1.959964
# The middle of the training quantiles: bins further out hold too few patients a month for a comparison.
_EDGES = slice(QUANTILES.index(0.1), QUANTILES.index(0.9) + 1)


@dataclass(frozen=True, slots=True)
class Bins:
    """A reference: bins (..., edges[0]], (edges[0], edges[1]], ... and the share of the reference in each."""

    edges: Floats
    shares: Floats
    rows: int
    """Number of patients in the reference."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison of one input or estimate. `by_chance` is the PSI that 1 of 1,000 pairs of samples of one
    population reaches.

    `verdict` is "steady", "watch", "shifted", or "too few" (then there is no PSI).
    """

    name: str
    rows: int
    reference: str
    psi: float | None = None
    by_chance: float | None = None
    verdict: str = "too few"

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "reference": self.reference, "verdict": self.verdict} | (
            {} if self.psi is None else {"psi": round(self.psi, 4), "by_chance": round(self.by_chance or 0.0, 4)}
        )


def compare_distributions(name: str, values: Floats, reference: Bins | None, of: str) -> Drift:
    """Returns the comparison of `values` (n,), NaN ignored, with a reference; fewer than 100 values give "too few"."""
    known = values[np.isfinite(values)]
    if reference is None or len(known) < FEWEST or reference.rows < FEWEST or len(reference.shares) < 2:
        return Drift(name, len(known), of)
    seen = np.bincount(np.searchsorted(reference.edges, known, side="left"), minlength=len(reference.shares))
    found = psi(seen / len(known), reference.shares, 0.5 / len(known))
    chance = float(chdtri(len(reference.shares) - 1, _RARELY)) * (1 / len(known) + 1 / reference.rows)
    verdict = "shifted" if found > max(SHIFTED, chance) else "watch" if found > max(WATCH, chance) else "steady"
    return Drift(name, len(known), of, found, chance, verdict)


def psi(seen: Floats, expected: Floats, least: float) -> float:
    """Returns the population stability index of two distributions; an empty bin counts as `least`, half a patient.

    >>> psi(np.array([0.5, 0.5]), np.array([0.5, 0.5]), 0.001)
    0.0
    >>> round(psi(np.array([0.2, 0.8]), np.array([0.5, 0.5]), 0.001), 3)
    0.416
    """
    s, e = np.maximum(seen, least), np.maximum(expected, least)
    return float(np.sum((s - e) * np.log(s / e)))


def compare_sample(values: Floats) -> Bins | None:
    """Returns bins from the first patients seen, where training stored no distribution; a yes-no input gets two
    bins."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return None
    edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS, method="inverted_cdf"))
    edges = edges[edges < known.max()]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return Bins(edges, counts / len(known), len(known))


def compare_training_probabilities(model: RiskModel) -> Bins | None:
    """Returns tenths of the out-of-fold probabilities in the manifest's reliability table, with each bin's mean."""
    kept = model.manifest["reliability"]
    if len(kept) < 2:
        return None
    means = np.array([item["probability"] for item in kept], dtype=np.float64)
    sizes = np.array([item["patients"] for item in kept], dtype=np.float64)
    cuts = np.unique(np.linspace(0, len(kept), min(_BINS, len(kept)) + 1).astype(int))[1:-1]
    edges = (means[cuts - 1] + means[cuts]) / 2
    counts = np.array([part.sum() for part in np.split(sizes, cuts)])
    distinct = np.r_[np.diff(edges) > 0, True]
    if not distinct.all():
        return None
    return Bins(edges, counts / counts.sum(), int(counts.sum()))


def compare_training_input(model: RiskModel, name: str) -> Bins | None:
    """Returns the shares between training quantiles from the distribution file; None for an input that is not in it.

    None also for inputs that are counts or tied at a quantile: the file does not say how many patients lie exactly on a
    bin edge, and a guess would look like drift.
    """
    described = model.distribution
    if described is None or name not in described.names:
        return None
    knots = described.knots[described.names.index(name)][_EDGES]
    if np.any(np.diff(knots) <= 0) or np.all(knots == np.round(knots)):
        return None
    levels = np.r_[0.0, np.array(QUANTILES[_EDGES]), 1.0]
    return Bins(knots, np.diff(levels), int(model.manifest["patients"]))


def missingness(names: Sequence[str], known: Sequence[float], rows: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Returns the share of unknown values of each input, now and in training; `rows` (n, inputs), NaN for unknown.

    `moved` is true if the whole 95 % interval of the current share is more than `GAP` away from training.
    """
    count = len(rows)
    if count < FEWEST:
        return []
    answer = []
    for name, share, unknown in zip(names, known, np.isnan(rows).sum(axis=0), strict=True):
        low, high = wilson_interval(int(unknown), count)
        was = 1 - share
        answer.append(
            {
                "input": name,
                "training": round(was, 4),
                "now": round(float(unknown) / count, 4),
                "interval": [round(low, 4), round(high, 4)],
                "moved": bool(low > was + GAP or high < was - GAP),
            }
        )
    return answer


def wilson_interval(events: int, n: int) -> tuple[float, float]:
    p, z = events / n, _Z95
    centre, spread = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
