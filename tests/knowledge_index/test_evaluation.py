"""Measures against hand-computed values, and files that cannot be used."""

from __future__ import annotations

from math import log2
from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex, Query, RetrievalError
from knowledge_index.evaluation import evaluate, ndcg, precision, read_qrels, read_queries, recall

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


def test_every_retriever_is_measured_on_the_judged_queries_only(index: KnowledgeIndex) -> None:
    queries = {"1": Query("lactate in sepsis"), "2": Query("not judged"), "3": Query("nothing relevant")}
    scores = evaluate(index, queries, {"1": {"105": 2}, "3": {"101": 0}})
    assert list(scores) == ["bm25", "dense", "hybrid", "graph"]
    for item in scores.values():
        assert item.to_json() == {"ndcg@10": 1.0, "p@10": 0.1, "recall@100": 1.0}
        assert list(item.by_query) == ["1"]


def test_ids_that_do_not_agree_are_an_error_not_a_zero(index: KnowledgeIndex) -> None:
    with pytest.raises(RetrievalError, match="ids agree"):
        evaluate(index, {"1": Query("sepsis")}, {"q1": {"105": 1}})


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": 7, "text": "sepsis", "concepts": ["D018805"]}\n\n')
    (tmp_path / "r.tsv").write_text("7\t0\t105\t2\n\n7 0 101 0\n")
    assert read_queries(tmp_path / "q.jsonl") == {"7": Query("sepsis", ("D018805",))}
    assert read_qrels(tmp_path / "r.tsv") == {"7": {"105": 2, "101": 0}}


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 1}', '{"text": "x"}', '"x"', "3"])
def test_malformed_queries_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(RetrievalError, match="line 1"):
        read_queries(tmp_path / "q.jsonl")


@pytest.mark.parametrize("line", ["1 0 105", "1 0 105 high", "1 0 105 1 x"])
def test_malformed_judgements_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.tsv").write_text("1 0 101 1\n" + line)
    with pytest.raises(RetrievalError, match="line 2"):
        read_qrels(tmp_path / "r.tsv")
