"""Retrieval from an open index (BM25, dense, hybrid, graph), and its evaluation against relevance judgements."""

from knowledge_index.retrieval.ranking import RETRIEVERS
from knowledge_index.retrieval.relevance import (
    RetrievalScores,
    UnmatchedQueries,
    evaluate_retrieval,
    read_qrels,
    read_queries,
    unmatched_queries,
)
from knowledge_index.retrieval.reranker import CrossEncoder

__all__ = [
    "RETRIEVERS",
    "CrossEncoder",
    "RetrievalScores",
    "UnmatchedQueries",
    "evaluate_retrieval",
    "read_qrels",
    "read_queries",
    "unmatched_queries",
]
