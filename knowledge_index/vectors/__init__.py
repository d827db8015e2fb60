"""Vector stores: exact, compressed, sharded, or in PostgreSQL."""

from knowledge_index.vectors.files import StoredVectors
from knowledge_index.vectors.pgvector import PgVectors

__all__ = [
    "PgVectors",
    "StoredVectors",
]
