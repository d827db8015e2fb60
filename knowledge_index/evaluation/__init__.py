"""Evaluates retrieval against relevance judgements."""

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
