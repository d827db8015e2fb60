"""Indexes PubMed articles and retrieves them as evidence."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports
from knowledge_index.core.errors import (
    ArticleError,
    ArtifactError,
    EncoderError,
    KnowledgeIndexError,
    RetrievalError,
    SourceError,
)
from knowledge_index.core.storage import Manifest
from knowledge_index.core.values import (
    Article,
    Community,
    Concept,
    Evidence,
    Factor,
    LinkedConcept,
    MeshHeading,
    Notice,
    Outcome,
    PathStep,
    Query,
    Subject,
)
from knowledge_index.encoders.registry import Encoder, MiniLMEncoder
from knowledge_index.graph.communities import spread
from knowledge_index.retrieval.index import KnowledgeIndex, Retrieval

if TYPE_CHECKING:
    from knowledge_index.indexing.build import build_index
    from knowledge_index.indexing.update import compact_index, update_index

__all__ = [
    "Article",
    "ArticleError",
    "ArtifactError",
    "Community",
    "Concept",
    "Encoder",
    "EncoderError",
    "Evidence",
    "Factor",
    "KnowledgeIndex",
    "KnowledgeIndexError",
    "LinkedConcept",
    "Manifest",
    "MeshHeading",
    "MiniLMEncoder",
    "Notice",
    "Outcome",
    "PathStep",
    "Query",
    "Retrieval",
    "RetrievalError",
    "SourceError",
    "Subject",
    "build_index",
    "compact_index",
    "spread",
    "update_index",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "build_index": "knowledge_index.indexing.build",
        "compact_index": "knowledge_index.indexing.update",
        "update_index": "knowledge_index.indexing.update",
    },
)
