"""Retrieval measured against relevance judgements: queries as JSON lines, qrels in TREC's four columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

import orjson

from knowledge_index.errors import RetrievalError
from knowledge_index.index import KnowledgeIndex
from knowledge_index.ranking import RETRIEVERS
from knowledge_index.values import Query

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the queries that have at least one relevant article, and the value of each query."""

    ndcg_at_10: float
    precision_at_10: float
    recall_at_100: float
    by_query: Mapping[str, tuple[float, float, float]]

    def to_json(self) -> dict[str, float]:
        return {"ndcg@10": self.ndcg_at_10, "p@10": self.precision_at_10, "recall@100": self.recall_at_100}


def evaluate(
    index: KnowledgeIndex,
    queries: Mapping[str, Query],
    qrels: Qrels,
    retrievers: Sequence[str] = RETRIEVERS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Scores]:
    """Every retriever on the same queries; nothing is withheld. Queries without a relevant article are left out."""
    judged = {
        name: query for name, query in queries.items() if any(grade > 0 for grade in qrels.get(name, {}).values())
    }
    if not judged:
        raise RetrievalError("no query has a relevant article in the qrels: do their ids agree?")
    results: dict[str, Scores] = {}
    for number, retriever in enumerate(retrievers):
        values: dict[str, tuple[float, float, float]] = {}
        for done, (name, query) in enumerate(judged.items(), 1):
            ranking = [pmid for pmid, _ in index.ranking(query, 100, retriever)]
            grades = qrels[name]
            values[name] = (ndcg(ranking, grades, 10), precision(ranking, grades, 10), recall(ranking, grades, 100))
            if progress is not None:
                progress(number * len(judged) + done, len(retrievers) * len(judged))
        means = [sum(column) / len(values) for column in zip(*values.values(), strict=True)]
        results[retriever] = Scores(means[0], means[1], means[2], values)
    return results


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Normalised discounted cumulative gain with linear gains (trec_eval's `ndcg_cut`).

    >>> ndcg(["a", "b"], {"a": 1}, 10), round(ndcg(["b", "a"], {"a": 1}, 10), 3)
    (1.0, 0.631)
    """
    gains = [max(grades.get(pmid, 0), 0) for pmid in ranking[:depth]]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:depth]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / log2(at + 2) for at, gain in enumerate(gains))


def precision(ranking: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Share of the first `depth` places that hold a relevant article; a short list has empty places."""
    return sum(grades.get(pmid, 0) > 0 for pmid in ranking[:depth]) / depth


def recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Share of the relevant articles that stand in the first `depth` places."""
    relevant = {pmid for pmid, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:depth])) / len(relevant) if relevant else 0.0


def read_queries(path: Path) -> dict[str, Query]:
    """Queries of a JSON-lines file: `{"id", "text", "concepts"?: [descriptor id]}`."""
    queries: dict[str, Query] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            queries[str(value["id"])] = Query(str(value["text"]), tuple(map(str, value.get("concepts", ()))))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise RetrievalError(f'{path}, line {number}: a query is {{"id", "text"}}: {error}') from error
    return queries


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements in TREC's four columns: query, iteration (ignored), article, grade."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            query, _, pmid, grade = line.split()
            qrels.setdefault(query, {})[pmid] = int(grade)
        except ValueError as error:
            raise RetrievalError(f"{path}, line {number}: four columns, the last a whole number") from error
    return qrels
