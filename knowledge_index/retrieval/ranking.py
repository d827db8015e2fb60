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


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """Settings of the graph retriever, chosen by benchmarks/retrieval_settings.py.

    The first `feedback` results of the hybrid retriever join the patient's concepts as seeds, with `feedback_share` of
    the weight. `damping` is the share of the walk that continues at each step. `depth` is the number of entries read of
    each of the three lists: an article high in only two of them still profits from its rank in the third.
    """

    feedback: int = 5
    feedback_share: float = 0.75
    damping: float = DAMPING
    depth: int = 1000
    walk_weight: float = 1.0


DEFAULTS = GraphSettings()


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
        """Weights of the walk's seeds: the patient's concepts and the first results of the hybrid retriever."""
        order, scores = rank(self, "hybrid", settings)
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
    depth = max(settings.depth, signals.pool) if retriever == "graph" else signals.pool
    lexical = _best(signals.bm25, depth)
    if retriever == "bm25":
        return lexical, signals.bm25[lexical].astype(np.float64)
    assert signals.cosine is not None
    assert signals.nearest is not None
    dense = signals.nearest[:depth]
    if retriever == "dense":
        return dense, signals.cosine[dense].astype(np.float64)
    lists = [(lexical, 1.0), (dense, 1.0)]
    if retriever == "graph":
        assert signals.walk is not None
        lists.append((_best(signals.walk, depth), settings.walk_weight))
    return fuse(lists, len(signals.bm25))


def fuse(
    lists: Sequence[tuple[NDArray[np.int64], float]], articles: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Reciprocal rank fusion: the sum of weight / (60 + rank) over the (list, weight) pairs with the article.

    >>> order, scores = fuse([(np.array([2, 0]), 1.0), (np.array([2, 1]), 1.0)], 3)
    >>> order.tolist(), round(float(scores[0]), 4)
    ([2, 0, 1], 0.0328)
    """
    score = np.zeros(articles)
    for positions, weight in lists:
        score[positions] += weight / (RRF_K + 1 + np.arange(len(positions)))
    order = _best(score, int((score > 0).sum()))
    return order, score[order]


def _best(scores: NDArray[np.floating], limit: int) -> NDArray[np.int64]:
    """Positions of the highest positive scores, best first; ties by position, so that runs are reproducible."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > limit:
        floor = np.partition(scores[candidates], len(candidates) - limit)[len(candidates) - limit]
        candidates = candidates[scores[candidates] >= floor]
    return candidates[np.argsort(-scores[candidates], kind="stable")][:limit]
