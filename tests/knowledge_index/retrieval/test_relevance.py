"""Measures against hand-computed values, and malformed files."""

from __future__ import annotations

from math import log2
from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex, Query, RetrievalError
from knowledge_index.retrieval.relevance import (
    RetrievalScores,
    evaluate_retrieval,
    ndcg,
    precision,
    read_qrels,
    read_queries,
    recall,
    unmatched_queries,
)
from knowledge_index.retrieval.significance import interval, paired

GRADES = {"a": 3, "b": 1, "c": 0, "d": -1}


def test_ndcg_by_hand() -> None:
    ideal = 3 + 1 / log2(3)
    assert ndcg(["c", "a", "x", "b"], GRADES, 10) == pytest.approx((3 / log2(3) + 1 / log2(5)) / ideal)
    assert ndcg(["a", "b"], GRADES, 10) == 1.0
    assert ndcg(["c", "a"], GRADES, 1) == 0.0
    assert ndcg([], GRADES, 10) == 0.0
    assert ndcg(["a"], {"a": 0}, 10) == 0.0


def test_precision_counts_empty_places_and_recall_counts_relevant_articles() -> None:
    assert precision(["a", "c", "b"], GRADES, 10) == 0.2
    assert recall(["a", "c", "d"], GRADES, 100) == 0.5
    assert recall(["c", "c", "a"], GRADES, 2) == 0.0


def test_retrievers_are_evaluated_on_queries_with_judgements(index: KnowledgeIndex) -> None:
    queries = {"1": Query("lactate in sepsis"), "2": Query("not judged"), "3": Query("nothing relevant")}
    scores = evaluate_retrieval(index, queries, {"1": {"105": 2}, "3": {"101": 0}})
    assert list(scores) == ["bm25", "dense", "hybrid", "graph"]
    for item in scores.values():
        assert item.to_json() == {"ndcg@10": 1.0, "p@10": 0.1, "recall@100": 1.0}
        assert list(item.by_query) == ["1"]


def test_disjoint_ids_are_an_error(index: KnowledgeIndex) -> None:
    with pytest.raises(RetrievalError, match="ids agree"):
        evaluate_retrieval(index, {"1": Query("sepsis")}, {"q1": {"105": 1}})


def test_unmatched_ids_are_reported(index: KnowledgeIndex) -> None:
    queries = {"1": Query("lactate in sepsis"), "2": Query("not judged")}
    unmatched = unmatched_queries(index, queries, {"1": {"105": 2, "999": 1, "888": 0}, "3": {"101": 1}})
    assert unmatched.queries_without_judgements == ("2",)
    assert unmatched.judgements_without_query == ("3",)
    assert unmatched.articles_not_indexed == ("999",)
    with pytest.raises(RetrievalError, match=r"ids agree.*Queries: 1, 2; qrels: q1"):
        unmatched_queries(index, queries, {"q1": {"105": 1}})
    with pytest.raises(RetrievalError, match="no relevant article of the qrels is in this index: 999"):
        unmatched_queries(index, queries, {"1": {"999": 1}})


def test_a_difference_is_paired_by_query() -> None:
    """Twelve queries, each a little better: certain, though the queries themselves differ far more."""
    base = [0.1 * number % 1 for number in range(12)]
    better = paired([value + 0.02 for value in base], base)
    assert better.difference == pytest.approx(0.02)
    assert better.p < 0.01
    assert better.interval == pytest.approx((0.02, 0.02))
    # All 2^12 labellings: only the two with one sign throughout are as extreme, p = 2/4096.
    assert better.p == pytest.approx(2 / 4096, abs=0.001)
    mixed = paired([value + 0.02 * (-1) ** at for at, value in enumerate(base)], base)
    assert mixed.p > 0.5
    assert mixed.interval[0] < 0 < mixed.interval[1]
    assert interval([0.5, 0.5]) == (0.5, 0.5)


def test_runs_over_different_queries_are_not_paired() -> None:
    one, other = RetrievalScores.of({"1": (1.0, 0.1, 1.0)}), RetrievalScores.of({"2": (1.0, 0.1, 1.0)})
    with pytest.raises(RetrievalError, match="different queries"):
        one.versus(other)
    assert one.versus(one)["p@10"].p == 1.0
    assert one.intervals()["recall@100"] == [1.0, 1.0]


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": 7, "text": "sepsis", "concepts": ["D018805"]}\n\n')
    (tmp_path / "r.tsv").write_text("7\t0\t105\t2\n\n7 0 101 0\n")
    assert read_queries(tmp_path / "q.jsonl") == {"7": Query("sepsis", ("D018805",))}
    assert read_qrels(tmp_path / "r.tsv") == {"7": {"105": 2, "101": 0}}


GOOD = b'{"id": 1, "text": "sepsis"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2"),
        (b"[]", "line 2"),
        (b'{"id": 2}', "line 2: a query is"),
        (b'{"text": "x"}', "line 2: a query is"),
        (b'"x"', "line 2"),
        (b"3", "line 2"),
        (b'{"id": 2, "text": " "}', "line 2: the text of query 2 is empty"),
        (b'{"id": 2, "text": null}', "line 2: the text"),
        (b'{"id": null, "text": "x"}', "line 2: the id"),
        (b'{"id": 2.5, "text": "x"}', "line 2: the id"),
        (b'{"id": "1", "text": "x"}', "line 2: the query id '1' occurs a second time"),
        (b'{"id": 2, "text": "x", "concepts": "D006333"}', "line 2: concepts are a list"),
        (b'{"id": 2, "text": "\xff"}', "line 2: not UTF-8"),
    ],
)
def test_malformed_queries_are_reported(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "q.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD + line)
    with pytest.raises(RetrievalError, match=message):
        read_queries(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1 0 105", "line 2: four columns"),
        (b"1 0 105 high", "line 2"),
        (b"1 0 105 1 x", "line 2"),
        (b"1 0 105 1.5", "line 2"),
        (b"1 0 101 2", "line 2: 101 has another grade"),
        (b"1 0 \xff 1", "line 2: not UTF-8"),
    ],
)
def test_malformed_judgements_are_reported(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "r.tsv").write_bytes(b"1 0 101 1\n" + line)
    with pytest.raises(RetrievalError, match=message):
        read_qrels(tmp_path / "r.tsv")


def test_empty_files_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(RetrievalError, match="no query"):
        read_queries(tmp_path / "empty")
    with pytest.raises(RetrievalError, match="no judgement"):
        read_qrels(tmp_path / "empty")
