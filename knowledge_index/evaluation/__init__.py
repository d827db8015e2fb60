"""Evaluates retrieval against relevance judgements."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.evaluation.relevance import (
        RetrievalScores,
        UnmatchedQueries,
        evaluate_retrieval,
        read_qrels,
        read_queries,
        unmatched_queries,
    )

__all__ = [
    "RetrievalScores",
    "UnmatchedQueries",
    "evaluate_retrieval",
    "read_qrels",
    "read_queries",
    "unmatched_queries",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "RetrievalScores": "knowledge_index.evaluation.relevance",
        "UnmatchedQueries": "knowledge_index.evaluation.relevance",
        "evaluate_retrieval": "knowledge_index.evaluation.relevance",
        "read_qrels": "knowledge_index.evaluation.relevance",
        "read_queries": "knowledge_index.evaluation.relevance",
        "unmatched_queries": "knowledge_index.evaluation.relevance",
    },
)
