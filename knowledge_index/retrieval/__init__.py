"""An open index: retrieval by BM25, vectors, both, and over the graph; ranking and reranking."""

from knowledge_index.retrieval.ranking import RETRIEVERS
from knowledge_index.retrieval.reranker import CrossEncoder

__all__ = [
    "RETRIEVERS",
    "CrossEncoder",
]
