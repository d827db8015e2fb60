"""Stage 1 with reasons: its estimate and the embedding of its reasons become columns of stage 2.

    ReasonBlock(reasoner, embed).learn(y, rows, fold)      # a `fusion.Block`, so cross-fitted like any other

A reason that was derived from a patient's outcome leaks the outcome. To prevent that, stage 2 is trained on the output
of `fusion.cross_fit`, and the head on the reasons is itself fitted on reasons of patients that the reasoner was not
trained on. A frozen language model goes through the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from risk_model.first_stage.fusion import ESTIMATED, Head, Learned, VectorBlock, Vectors, fit_head
from risk_model.prompts.opinion import Opinion

Rows = NDArray[np.bool_]
Floats = NDArray[np.float64]
MOST_PHRASES = 50_000
LEADING = 6
"""Reasons given for one estimate."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """What a first stage says of some rows: log-odds, shape (rows,), and each row's reasons, the leading first."""

    logit: Floats
    phrases: tuple[tuple[str, ...], ...]

    def in_words(self, row: int) -> str:
        return "; ".join(self.phrases[row]) or "no finding of weight in the notes"


Fitted = Callable[[Rows], Reasons]
"""A reasoner that has learned: asked about rows, it answers for them in their order."""


class Reasoner(Protocol):
    """Learns to estimate from notes, with reasons: from the outcomes of `rows`, and of no other."""

    def learn(self, y: Floats, rows: Rows) -> Fitted: ...


Embed = Callable[[Sequence[tuple[str, ...]]], Vectors]
"""Reasons of each row to vectors, shape (rows, dimensions), NaN for a row without any."""


@dataclass(frozen=True, slots=True)
class ReasonBlock:
    """A reasoner as a source of stage 2: `stage1.logit` and `rationale_embedding.logit`, or one of them."""

    reasoner: Reasoner
    embed: Embed
    estimate: bool = True
    rationale: bool = True

    def learn(self, y: Floats, rows: Rows, fold: NDArray[np.int64]) -> Learned:
        head = self._head(y, rows, fold) if self.rationale else None
        return LearnedReasons(self.reasoner.learn(y, rows), self.embed, head, self.estimate)

    def _head(self, y: Floats, rows: Rows, fold: NDArray[np.int64]) -> Head:
        """Fitted on the reasons each row gets from a reasoner that did not see its fold."""
        vectors: Vectors | None = None
        for number in np.unique(fold[rows]):
            inside = rows & (fold == number)
            found = self.embed(self.reasoner.learn(y, rows & (fold != number))(inside).phrases)
            if vectors is None:
                vectors = np.full((len(y), found.shape[1]), np.nan, dtype=np.float32)
            vectors[inside] = found
        assert vectors is not None, "rows of no fold"
        return fit_head(VectorBlock("rationale", vectors), y, rows, fold)


@dataclass(frozen=True, slots=True)
class LearnedReasons:
    """A reasoner that has learned, and the head that reads its reasons."""

    fitted: Fitted
    embed: Embed
    head: Head | None
    estimate: bool

    @property
    def names(self) -> tuple[str, ...]:
        return ((ESTIMATED,) if self.estimate else ()) + (() if self.head is None else (self.head.name,))

    def columns(self, rows: Rows) -> Vectors:
        reasons = self.fitted(rows)
        parts = [reasons.logit.astype(np.float32)] if self.estimate else []
        if self.head is not None:
            parts.append(self.head(self.embed(reasons.phrases)))
        return np.stack(parts, axis=1)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A reasoner that was not trained on these outcomes, such as a language model without tuning."""

    reasons: Reasons
    """Of all rows."""

    def learn(self, y: Floats, rows: Rows) -> Fitted:
        def said(asked: Rows) -> Reasons:
            places = np.flatnonzero(asked)
            return Reasons(self.reasons.logit[places], tuple(self.reasons.phrases[place] for place in places))

        return said


def gathered(opinions: Sequence[Opinion]) -> tuple[float, tuple[str, ...]]:
    """What one patient's windows come to: the log-odds of the gravest, NaN without any, and the reasons, those of the
    gravest windows first."""
    graver = sorted(opinions, key=lambda opinion: -opinion.number)
    reasons = dict.fromkeys(opinion.reason for opinion in graver if opinion.reason)
    return (graver[0].number if graver else np.nan), tuple(reasons)[:LEADING]


def combined_reasons(opinions: Sequence[Sequence[Opinion]]) -> Reasons:
    """What a language model thinks of each patient's windows; a patient it was not asked about is unknown, not low."""
    found = [gathered(listed) for listed in opinions]
    return Reasons(np.array([number for number, _ in found]), tuple(reasons for _, reasons in found))


class PhraseVectors:
    """Reasons to vectors: the mean of their phrases' embeddings, L2-normalised; each phrase is embedded once.

    Phrases are made of a vocabulary, so that few are new; past MOST_PHRASES of them it begins again.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Vectors], dimensions: int) -> None:
        self._encode, self._dimensions = encode, dimensions
        self._known: dict[str, Vectors] = {}

    def __call__(self, reasons: Sequence[tuple[str, ...]]) -> Vectors:
        known = self._known if len(self._known) < MOST_PHRASES else {}
        new = sorted({phrase for phrases in reasons for phrase in phrases} - known.keys())
        if new:
            # A new table, not the old one changed: other threads go on reading theirs.
            known = self._known = known | dict(zip(new, self._encode(new), strict=True))
        found = np.full((len(reasons), self._dimensions), np.nan, dtype=np.float32)
        for place, phrases in enumerate(reasons):
            if phrases:
                mean = np.mean([known[phrase] for phrase in phrases], axis=0)
                found[place] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return found
