"""Retrieval against naive oracles: plain loops for BM25 and fusion, a dense linear system for the walk, all pairs for
the vectors.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import log

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from knowledge_index import KnowledgeIndex, MiniLMEncoder, Query
from knowledge_index.graph.knowledge_graph import KnowledgeGraph
from knowledge_index.graph.pagerank import local_push
from knowledge_index.retrieval.ranking import fuse, reciprocal_ranks
from knowledge_index.search.bm25 import Bm25, terms
from knowledge_index.vocabulary.linker import Linker
from tests.knowledge_index.conftest import LITERATURE, index, index_folder

__all__ = ["index", "index_folder"]

UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
WORDS = st.sampled_from(["heart", "failure", "sodium", "renal", "sepsis", "falls", "frail", "the", "of"])
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=8)


@pytest.fixture(scope="session")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


@given(TEXTS, st.lists(WORDS, max_size=5).map(" ".join))
def test_bm25_equals_the_formula_in_a_plain_loop(texts: list[str], question: str) -> None:
    documents = [terms(text) for text in texts]
    average = max(sum(map(len, documents)) / len(documents), 1.0)
    expected = []
    for document in documents:
        counts, total = Counter(document), 0.0
        for term in terms(question):
            holding = sum(term in other for other in documents)
            idf = log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            norm = counts[term] + 1.2 * (1 - 0.75 + 0.75 * len(document) / average)
            total += idf * counts[term] * 2.2 / norm if counts[term] else 0.0
        expected.append(total)
    scores, coverage = Bm25.build(texts).scores(question)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert ((coverage >= 0) & (coverage <= 1 + 1e-6)).all()
    for document, share in zip(documents, coverage, strict=True):
        assert (share > 0.999) == (bool(terms(question)) and set(terms(question)) <= set(document))


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.floats(0.1, 5.0)), max_size=20)
SEEDS = st.dictionaries(st.integers(0, 7), st.floats(0.01, 3.0), min_size=1, max_size=4)


@given(EDGES, SEEDS, st.sampled_from([0.3, 0.5, 0.85]))
def test_the_walk_solves_its_linear_system(
    edges: list[tuple[int, int, float]], seeds: dict[int, float], damping: float
) -> None:
    dense = np.zeros((8, 8))
    for one, other, weight in edges:
        if one != other:
            dense[one, other] = dense[other, one] = weight
    weights = sparse.csr_array(dense.astype(np.float32))
    graph = KnowledgeGraph(8, weights, np.zeros(weights.nnz, np.uint8))
    start = np.zeros(8)
    for node, weight in seeds.items():
        start[node] = weight
    start /= start.sum()
    degree = dense.sum(axis=1)
    step = dense / np.where(degree > 0, degree, 1.0)
    step[:, degree == 0] = start[:, None]
    expected = np.linalg.solve(np.eye(8) - damping * step, (1 - damping) * start)
    np.testing.assert_allclose(local_push(graph.weights, seeds, damping, 1e-9), expected, atol=1e-5)
    assert graph.walk(seeds, damping).sum() == pytest.approx(1.0)


RANKED = st.lists(st.integers(0, 9), unique=True, max_size=8)


@given(st.lists(st.tuples(RANKED, st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=3))
def test_fusion_equals_the_sum_of_weighted_reciprocal_ranks(lists: list[tuple[list[int], float]]) -> None:
    expected = {
        item: sum(weight / (60 + ranked.index(item) + 1) for ranked, weight in lists if item in ranked)
        for item in {item for ranked, _ in lists for item in ranked}
    }
    order, scores = fuse(
        [(np.array(ranked, np.int64), weight * reciprocal_ranks(len(ranked))) for ranked, weight in lists], 10
    )
    assert order.tolist() == sorted(expected, key=lambda item: (-round(expected[item], 12), item))
    np.testing.assert_allclose(scores, [expected[item] for item in order.tolist()])


@settings(suppress_health_check=UNCHECKED, deadline=None, max_examples=25)
@given(question=st.lists(WORDS, min_size=1, max_size=6).map(" ".join))
def test_the_vector_index_finds_what_comparing_with_every_article_finds(
    index: KnowledgeIndex, encoder: MiniLMEncoder, question: str
) -> None:
    vectors = encoder.encode([article.text for article in LITERATURE])
    cosines = vectors @ encoder.encode([question])[0]
    shown = [at for at in np.argsort(-cosines, kind="stable") if not LITERATURE[at].retracted]
    found = index.ranking(Query(question), 100, "dense")
    assert [pmid for pmid, _ in found] == [LITERATURE[at].pmid for at in shown]
    np.testing.assert_allclose([score for _, score in found], cosines[shown], atol=1e-5)


@settings(suppress_health_check=UNCHECKED, deadline=None, max_examples=25)
@given(
    question=st.lists(WORDS, min_size=1, max_size=6).map(" ".join),
    k=st.integers(0, 12),
    retriever=st.sampled_from(["bm25", "dense", "hybrid", "graph"]),
)
def test_shown_articles_keep_the_ranking_order(index: KnowledgeIndex, question: str, k: int, retriever: str) -> None:
    ranked = [pmid for pmid, _ in index.ranking(Query(question), k, retriever)]
    found = index.retrieve(Query(question), k, retriever)
    shown = [item.pmid for item in found.evidence]
    assert len(shown) + found.withheld == len(ranked)
    assert shown == [pmid for pmid in ranked if pmid in set(shown)]
    for item in found.evidence:
        if item.path:
            assert item.path[-1].target == f"PMID {item.pmid}"
            assert all(one.target == other.source for one, other in pairwise(item.path))


LINKER = Linker()


@given(st.text(max_size=300))
def test_mentions_quote_the_text_and_do_not_overlap(text: str) -> None:
    mentions = LINKER.link_text(text)
    assert all(item.mention == text[item.start : item.end] for item in mentions)
    spans = sorted({(item.start or 0, item.end or 0) for item in mentions})
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
