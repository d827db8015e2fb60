"""Search structures: BM25 postings; vectors in FAISS files or in PostgreSQL."""

from knowledge_index.search.pgvector import PgVectors
from knowledge_index.search.vector_files import StoredVectors

__all__ = [
    "PgVectors",
    "StoredVectors",
]
