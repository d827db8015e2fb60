"""The embedding of a first stage's reasons as columns of stage 2, reduced to a few dimensions inside each outer fold.

    ReducedReasons(reasoner, embed, 8)      # a `fusion.Block`: stage1.logit and rationale_embedding.1 to .8

The reduction (principal components) looks at no outcome. It is fitted on the rows that an outer fold may learn from and
is the same for its inner folds: components of separate fits would not mean the same from one inner fold to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.resampling import Floats
from risk_model.first_stage.fusion import ESTIMATED, Learned, Vectors
from risk_model.first_stage.rationale import Embed, Fitted, Reasoner, Rows


@dataclass(frozen=True, slots=True)
class Reduction:
    """Mean and axes, shape (dimensions, components), of the vectors it was fitted on."""

    mean: Vectors
    axes: Vectors

    @classmethod
    def of(cls, vectors: Vectors, components: int) -> Reduction:
        """Of the rows that have a vector; fewer rows than components give columns of zeros."""
        known = vectors[np.isfinite(vectors[:, 0])]
        mean = known.mean(axis=0) if len(known) else np.zeros(vectors.shape[1], np.float32)
        axes = np.zeros((vectors.shape[1], components), np.float32)
        if len(known) > 1:
            found = np.linalg.svd(known - mean, full_matrices=False)[2][:components].T
            axes[:, : found.shape[1]] = found
        return cls(mean, axes)

    def __call__(self, vectors: Vectors) -> Vectors:
        """Shape (rows, components); NaN for a row without a vector."""
        return np.asarray((vectors - self.mean) @ self.axes, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ReducedColumns:
    """A reasoner that has learned, and the reduction of its reasons."""

    fitted: Fitted
    embed: Embed
    reduction: Reduction

    @property
    def names(self) -> tuple[str, ...]:
        components = self.reduction.axes.shape[1]
        return (ESTIMATED, *(f"rationale_embedding.{number}" for number in range(1, components + 1)))

    def columns(self, rows: Rows) -> Vectors:
        reasons = self.fitted(rows)
        return np.column_stack([reasons.logit.astype(np.float32), self.reduction(self.embed(reasons.phrases))])


@dataclass
class ReducedReasons:
    """A reasoner as a source of stage 2: its estimate, and its reasons in a few numbers."""

    reasoner: Reasoner
    embed: Embed
    components: int = 8
    outer: Rows | None = None
    reduction: Reduction | None = None

    def learn(self, y: Floats, rows: Rows, fold: NDArray[np.int64]) -> Learned:
        """`cross_fit` asks first for all rows of an outer fold, then for parts of them."""
        fitted = self.reasoner.learn(y, rows)
        if self.reduction is None or self.outer is None or (rows & ~self.outer).any():
            self.outer, self.reduction = rows, Reduction.of(self.embed(fitted(rows).phrases), self.components)
        return ReducedColumns(fitted, self.embed, self.reduction)
