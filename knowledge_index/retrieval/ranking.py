"""Ranks candidates from the signals of one query and applies the evidence cutoffs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from knowledge_index.graph.knowledge_graph import DAMPING

RETRIEVERS = ("bm25", "dense", "hybrid", "graph")

RRF_K = 60
"""The constant of reciprocal rank fusion in Cormack, Clarke and Büttcher (SIGIR 2009)."""

# Taken from benchmarks/results/evidence_cutoff.json (PubMedQA: each question and the text that answers it).
COSINE_CUTOFF = 0.40
"""Keeps 94 % of relevant conclusions and 99 % of relevant abstracts; admits 0.5 % of unrelated texts."""
NEAR_COSINE_CUTOFF = 0.25
"""For an article indexed with one of the patient's concepts: keeps 99 % of relevant conclusions."""
COVERAGE_CUTOFF = 0.40
"""Share of the query's terms, by idf: keeps 95 % of relevant abstracts, admits 0.1 % of unrelated ones."""


_COMPARED = 100
"""Entries of a list among which a score may stand out."""


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Settings of the graph retriever; benchmarks/retrieval_settings.py and fusion_rule.py chose them.

    The first `feedback` results of BM25 and vectors join the patient's concepts as seeds, with `feedback_share` of
    the weight. `damping` is the share of the walk that continues at each step. `depth` is the number of entries read of
    each of the three lists: an article high in only two of them still profits from its rank in the third.

    Ranks hide how sure a list is, so the weights follow the question: an article whose score lies more than `outlier`
    standard deviations above the mean of its list's first hundred gets `lift` first places for each deviation beyond.
    A question for one article has such scores, and they outweigh the walk; a question about a topic has none, and the
    walk counts `walk_weight`.
    """

    feedback: int = 5
    feedback_share: float = 0.75
    damping: float = DAMPING
    depth: int = 1000
    outlier: float = 4.0
    lift: float = 0.5
    walk_weight: float = 2.0


DEFAULTS = GraphSettings()
FIXED_WEIGHTS = GraphSettings(lift=0.0, walk_weight=1.0)
"""Ranks alone, every list counting the same whatever the question: what decision 9 chose and 75 replaced."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of every article for one query, each of shape (articles,).

    `bm25` scores, `coverage` of the query's terms, `cosine` to the query (-1 where not among the nearest),
    `nearest` article positions by cosine, `walk` the PageRank of the articles, `near` those with a seed concept.
    """

    pool: int
    bm25: NDArray[np.float32]
    coverage: NDArray[np.float32]
    cosine: NDArray[np.float32] | None = None
    nearest: NDArray[np.int64] | None = None
    walk: NDArray[np.float64] | None = None
    near: NDArray[np.int64] | None = None

    def seeds(self, concepts: Mapping[int, float], settings: GraphSettings) -> dict[int, float]:
        """Weights of the walk's seeds: the patient's concepts, and the first results of BM25 and vectors."""
        order, scores = fuse(_flat(self, self.pool, settings), len(self.bm25))
        first, weights = order[: settings.feedback], scores[: settings.feedback]
        total_concepts, total_weights = sum(concepts.values()), float(weights.sum())
        out = {node: (1.0 - settings.feedback_share) * weight / total_concepts for node, weight in concepts.items()}
        for position, weight in zip(first, weights, strict=True):
            out[int(position)] = settings.feedback_share * float(weight) / total_weights
        return out

    def with_walk(self, walk: NDArray[np.float64], near: NDArray[np.int64]) -> Signals:
        return replace(self, walk=walk, near=near)

    def supported(self, retriever: str) -> NDArray[np.bool_]:
        """Which articles pass the cutoffs, shape (articles,).

        An article needs a high cosine or a high coverage of the query; the cosine cutoff is lower for articles with one
        of the patient's concepts as a heading.
        """
        covered = self.coverage >= COVERAGE_CUTOFF
        if retriever == "bm25" or self.cosine is None:
            return covered
        close = self.cosine >= COSINE_CUTOFF
        if self.near is not None:
            close[self.near] |= self.cosine[self.near] >= NEAR_COSINE_CUTOFF
        return close if retriever == "dense" else close | covered


def rank(
    signals: Signals, retriever: str, settings: GraphSettings = DEFAULTS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Candidate articles, best first, with the retriever's score."""
    if retriever == "bm25":
        lexical = _best(signals.bm25, signals.pool)
        return lexical, signals.bm25[lexical].astype(np.float64)
    assert signals.cosine is not None
    assert signals.nearest is not None
    if retriever == "dense":
        dense = signals.nearest[: signals.pool]
        return dense, signals.cosine[dense].astype(np.float64)
    if retriever == "hybrid":
        return fuse(_flat(signals, signals.pool, FIXED_WEIGHTS), len(signals.bm25))
    assert signals.walk is not None
    depth = max(settings.depth, signals.pool)
    walked = _best(signals.walk, depth)
    lists = [*_flat(signals, depth, settings), (walked, settings.walk_weight * reciprocal_ranks(len(walked)))]
    return fuse(lists, len(signals.bm25))


Contributions = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Articles of a list, best first, and what the list adds to the score of each."""


def _flat(signals: Signals, depth: int, settings: GraphSettings) -> list[Contributions]:
    """The lists of BM25 and vectors, with what stands out lifted."""
    assert signals.cosine is not None
    assert signals.nearest is not None
    found = []
    for positions, scores in ((_best(signals.bm25, depth), signals.bm25), (signals.nearest[:depth], signals.cosine)):
        beyond = standing_out(scores[positions[:_COMPARED]], settings.outlier, len(scores))
        added = reciprocal_ranks(len(positions))
        added[: len(beyond)] += settings.lift / (RRF_K + 1) * beyond
        found.append((positions, added))
    return found


def standing_out(scores: NDArray[np.floating], outlier: float, articles: int) -> NDArray[np.float64]:
    """Standard deviations beyond `outlier`, 0 for none, of the first hundred scores of a list, best first.

    Mean and deviation are those of the hundred; a list that is shorter, though there are more articles, is filled up
    with zeros, the score of an article that shares no word with the question.

    >>> standing_out(np.array([30.0, *[9.0, 10.0, 11.0] * 33]), 4.0, 5000)[:2].round(1).tolist()
    [5.2, 0.0]
    >>> bool(standing_out(np.linspace(30.0, 10.0, 100), 4.0, 5000).any())
    False
    """
    first = scores.astype(np.float64)
    compared = np.zeros(min(_COMPARED, articles))
    compared[: len(first)] = first
    deviation = compared.std()
    if deviation == 0:
        return np.zeros(len(first))
    beyond: NDArray[np.float64] = np.maximum(0.0, (first - compared.mean()) / deviation - outlier)
    return beyond


def reciprocal_ranks(count: int) -> NDArray[np.float64]:
    """1 / (60 + rank) for the ranks from 1 to `count`."""
    return 1.0 / (RRF_K + 1 + np.arange(count))


def fuse(lists: Sequence[Contributions], articles: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Articles by the sum of what the lists add, best first; reciprocal rank fusion where they add that.

    >>> two = [(np.array([2, 0]), reciprocal_ranks(2)), (np.array([2, 1]), reciprocal_ranks(2))]
    >>> order, scores = fuse(two, 3)
    >>> order.tolist(), round(float(scores[0]), 4)
    ([2, 0, 1], 0.0328)
    """
    score = np.zeros(articles)
    for positions, added in lists:
        score[positions] += added
    order = _best(score, int((score > 0).sum()))
    return order, score[order]


def _best(scores: NDArray[np.floating], limit: int) -> NDArray[np.int64]:
    """Positions of the highest positive scores, best first; ties by position, so that runs are reproducible."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > limit:
        floor = np.partition(scores[candidates], len(candidates) - limit)[len(candidates) - limit]
        candidates = candidates[scores[candidates] >= floor]
    return candidates[np.argsort(-scores[candidates], kind="stable")][:limit]
