"""Fusion and walk by question: what stands out in a list leads; a list without such an article counts by its ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_index.retrieval.ranking import DEFAULTS, FIXED_WEIGHTS, Signals, rank, standing_out

ARTICLES = 300
TOPIC = np.linspace(12.0, 2.0, ARTICLES)
"""Scores that fall evenly: many articles are about the topic."""


def signals(bm25: NDArray[np.float64], cosine: NDArray[np.float64], walk: NDArray[np.float64] | None = None) -> Signals:
    nearest = np.argsort(-cosine, kind="stable")
    walk = np.zeros(len(bm25)) if walk is None else walk
    made = Signals(100, bm25.astype(np.float32), np.ones(len(bm25), np.float32), cosine.astype(np.float32), nearest)
    return made.with_walk(walk, np.zeros(0, np.int64))


def one_item(position: int, highest: float = 40.0) -> NDArray[np.float64]:
    """Scores of a question for one article: it has far the highest."""
    scores = TOPIC.copy()
    scores[position] = highest
    return scores


def first(found: Signals, retriever: str = "graph", settings: object = DEFAULTS) -> int:
    return int(rank(found, retriever, settings)[0][0])  # type: ignore[arg-type]


def test_an_article_that_stands_out_in_one_list_leads() -> None:
    """A trial found by its own words was outranked by articles that are fair in both lists."""
    asked = signals(one_item(250), TOPIC / 20)
    dense = signals(TOPIC, one_item(200) / 50)
    assert first(asked) == 250
    assert first(dense) == 200
    for found in (asked, dense):
        assert first(found, settings=FIXED_WEIGHTS) not in (200, 250)
        assert first(found, "hybrid") == first(found, settings=replace(FIXED_WEIGHTS, walk_weight=0.0))


def test_without_such_an_article_ranks_alone_count() -> None:
    found = signals(TOPIC, TOPIC[::-1].copy() / 20, np.roll(TOPIC, 40))
    order, scores = rank(found, "graph")
    expected, same = rank(found, "graph", replace(FIXED_WEIGHTS, walk_weight=DEFAULTS.walk_weight))
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(scores, same)


def test_the_walk_leads_a_topic_and_no_single_item() -> None:
    walk = np.zeros(ARTICLES)
    walk[[77, 78]] = 0.6, 0.4
    assert first(signals(TOPIC, TOPIC / 20, walk)) == 77
    assert first(signals(one_item(5), one_item(5) / 50, walk)) == 5


def test_seeds_are_the_articles_that_stand_out() -> None:
    seeds = signals(one_item(250), TOPIC[::-1].copy() / 20).seeds({}, DEFAULTS)
    assert max(seeds, key=lambda node: seeds[node]) == 250
    assert sum(seeds.values()) == pytest.approx(DEFAULTS.feedback_share)


def test_the_hybrid_stays_as_published() -> None:
    found = signals(one_item(250), TOPIC[::-1].copy() / 20)
    order, scores = rank(found, "hybrid")
    lexical, dense = np.argsort(-found.bm25, kind="stable")[:100], np.argsort(-found.cosine, kind="stable")[:100]  # type: ignore[operator]
    expected = np.zeros(ARTICLES)
    expected[lexical] += 1 / (61 + np.arange(100))
    expected[dense] += 1 / (61 + np.arange(100))
    np.testing.assert_allclose(scores, expected[order])
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize(
    ("scores", "articles", "stands_out"),
    [
        (np.full(100, 7.0), 5000, False),
        (np.full(100, 0.1, np.float32), 5000, False),
        (np.zeros(0), 5000, False),
        (np.array([3.0]), 5000, True),  # the only article of five thousand with a word of the question
        (np.array([3.0, 3.0, 2.9, 2.8, 2.8, 2.7, 2.5, 2.5, 2.4, 2.4]), 5000, False),  # ten are alike
        (np.array([9.0]), 1, False),
        (np.array([9.0, 1.0, 1.0]), 3, False),  # three articles cannot show what is usual
        (np.array([90.0, *np.full(99, 1.0)]), 100, True),
    ],
)
def test_what_stands_out(scores: NDArray[np.float64], articles: int, stands_out: bool) -> None:
    found = standing_out(scores, DEFAULTS.outlier, articles)
    assert len(found) == len(scores)
    assert np.isfinite(found).all()
    assert bool(found.any()) is stands_out
