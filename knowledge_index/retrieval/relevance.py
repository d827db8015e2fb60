"""Evaluates retrieval against relevance judgements: queries as JSON lines, qrels in TREC's four columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

import orjson

from knowledge_index.core.errors import RetrievalError
from knowledge_index.core.values import Query
from knowledge_index.retrieval.index import KnowledgeIndex
from knowledge_index.retrieval.ranking import RETRIEVERS
from knowledge_index.retrieval.significance import Paired, interval, paired

Qrels = Mapping[str, Mapping[str, int]]

MEASURES = ("ndcg@10", "p@10", "recall@100")


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over the queries that have at least one relevant article, and the `MEASURES` of each query."""

    ndcg_at_10: float
    precision_at_10: float
    recall_at_100: float
    by_query: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, by_query: Mapping[str, tuple[float, float, float]]) -> RetrievalScores:
        means = [sum(column) / len(by_query) for column in zip(*by_query.values(), strict=True)]
        return cls(means[0], means[1], means[2], by_query)

    def to_json(self) -> dict[str, float]:
        return dict(zip(MEASURES, (self.ndcg_at_10, self.precision_at_10, self.recall_at_100), strict=True))

    def column(self, measure: str) -> list[float]:
        """The measure of each query, in the order of `by_query`."""
        at = MEASURES.index(measure)
        return [values[at] for values in self.by_query.values()]

    def intervals(self) -> dict[str, list[float]]:
        """95 % bootstrap interval of each measure's mean."""
        return {measure: list(interval(self.column(measure))) for measure in MEASURES}

    def versus(self, other: RetrievalScores) -> dict[str, Paired]:
        """Paired comparison with another retriever on the same queries, by measure."""
        if list(self.by_query) != list(other.by_query):
            raise RetrievalError("two runs over different queries cannot be paired")
        return {measure: paired(self.column(measure), other.column(measure)) for measure in MEASURES}


@dataclass(frozen=True, slots=True)
class UnmatchedQueries:
    """Ids without a counterpart. Some are expected; only a complete mismatch is an error."""

    queries_without_judgements: tuple[str, ...]
    judgements_without_query: tuple[str, ...]
    articles_not_indexed: tuple[str, ...]

    def to_json(self) -> dict[str, tuple[str, ...]]:
        return {
            "queries_without_judgements": self.queries_without_judgements,
            "judged_but_not_asked": self.judgements_without_query,
            "articles_not_indexed": self.articles_not_indexed,
        }


def unmatched_queries(index: KnowledgeIndex, queries: Mapping[str, Query], qrels: Qrels) -> UnmatchedQueries:
    """Ids that queries, judgements and index do not share. Raises `RetrievalError` where they share none."""
    asked = {name: qrels[name] for name in queries if name in qrels}
    if not asked:
        raise RetrievalError(
            f"no query has a relevant article in the qrels: do their ids agree? "
            f"Queries: {_some(queries)}; qrels: {_some(qrels)}"
        )
    relevant = {pmid for grades in asked.values() for pmid, grade in grades.items() if grade > 0}
    missing = relevant - index.pmids
    if relevant and missing == relevant:
        raise RetrievalError(f"no relevant article of the qrels is in this index: {_some(sorted(missing))}")
    return UnmatchedQueries(
        tuple(name for name in queries if not any(grade > 0 for grade in qrels.get(name, {}).values())),
        tuple(name for name in qrels if name not in queries),
        tuple(sorted(missing)),
    )


def evaluate_retrieval(
    index: KnowledgeIndex,
    queries: Mapping[str, Query],
    qrels: Qrels,
    retrievers: Sequence[str] = RETRIEVERS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, RetrievalScores]:
    """Scores of every retriever on the same queries, without a cutoff; skips queries without a relevant article."""
    evaluated = {
        name: query for name, query in queries.items() if any(grade > 0 for grade in qrels.get(name, {}).values())
    }
    if not evaluated:
        raise RetrievalError("no query has a relevant article in the qrels: do their ids agree?")
    results: dict[str, RetrievalScores] = {}
    for number, retriever in enumerate(retrievers):
        values: dict[str, tuple[float, float, float]] = {}
        for done, (name, query) in enumerate(evaluated.items(), 1):
            ranking = [pmid for pmid, _ in index.ranking(query, 100, retriever)]
            values[name] = measured(ranking, qrels[name])
            if progress is not None:
                progress(number * len(evaluated) + done, len(retrievers) * len(evaluated))
        results[retriever] = RetrievalScores.of(values)
    return results


def measured(ranking: Sequence[str], grades: Mapping[str, int]) -> tuple[float, float, float]:
    """The `MEASURES` of one query's ranking."""
    return ndcg(ranking, grades, 10), precision(ranking, grades, 10), recall(ranking, grades, 100)


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
    """Share of relevant articles among the first `depth` ranks; missing ranks count as irrelevant."""
    return sum(grades.get(pmid, 0) > 0 for pmid in ranking[:depth]) / depth


def recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Share of the relevant articles found in the first `depth` ranks."""
    relevant = {pmid for pmid, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:depth])) / len(relevant) if relevant else 0.0


def read_queries(path: Path) -> dict[str, Query]:
    """Queries of a JSON-lines file: `{"id", "text", "concepts"?: [descriptor id]}`. Ids are unique."""
    queries: dict[str, Query] = {}
    for number, line in _lines(path):
        name, query = _query(line, f"{path}, line {number}")
        if name in queries:
            raise RetrievalError(f"{path}, line {number}: the query id {name!r} occurs a second time")
        queries[name] = query
    if not queries:
        raise RetrievalError(f'{path}: no query; one line for each, {{"id", "text"}}')
    return queries


def _query(line: str, place: str) -> tuple[str, Query]:
    try:
        value = orjson.loads(line)
        name, text, concepts = value["id"], value["text"], value.get("concepts", [])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RetrievalError(f'{place}: a query is {{"id", "text"}}: {error}') from error
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise RetrievalError(f"{place}: the id of a query is a word or a whole number, not {name!r}")
    if not isinstance(text, str) or not text.strip():
        raise RetrievalError(f"{place}: the text of query {name!r} is empty or no text")
    if not isinstance(concepts, list) or not all(isinstance(concept, str) for concept in concepts):
        raise RetrievalError(f"{place}: concepts are a list of descriptor ids")
    return str(name), Query(text, tuple(concepts))


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements in TREC's four columns: query, iteration (ignored), article, grade. Pairs are unique."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        try:
            query, _, pmid, written = line.split()
            grade = int(written)
        except ValueError as error:
            raise RetrievalError(f"{path}, line {number}: four columns, the last a whole number") from error
        if qrels.setdefault(query, {}).setdefault(pmid, grade) != grade:
            raise RetrievalError(f"{path}, line {number}: {pmid} has another grade for query {query!r} further up")
    if not qrels:
        raise RetrievalError(f"{path}: no judgement; one line for each: query, 0, PMID, grade")
    return qrels


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of the non-blank lines; a byte order mark is skipped."""
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise RetrievalError(f"{path}, line {number}: not UTF-8") from error
        if text.strip():
            yield number, text


def _some(ids: Mapping[str, object] | Sequence[str]) -> str:
    """The first ids, for a message."""
    listed = list(ids)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3:,} more" if len(listed) > 3 else "")
