"""Indexes PubMed articles and retrieves them as evidence."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports
from knowledge_index.context import LANGUAGES, Experiencer, MentionContext, Polarity, Temporality, TextContext
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
    LiteratureSubject,
    MeshHeading,
    Notice,
    Outcome,
    PathStep,
    Query,
)
from knowledge_index.encoders.registry import Encoder, MiniLMEncoder
from knowledge_index.graph.communities import spread
from knowledge_index.retrieval.index import KnowledgeIndex, Retrieval

if TYPE_CHECKING:
    from knowledge_index.indexing.build import build_index
    from knowledge_index.indexing.update import compact_index, update_index

__all__ = [
    "LANGUAGES",
    "Article",
    "ArticleError",
    "ArtifactError",
    "Community",
    "Concept",
    "Encoder",
    "EncoderError",
    "Evidence",
    "Experiencer",
    "Factor",
    "KnowledgeIndex",
    "KnowledgeIndexError",
    "LinkedConcept",
    "LiteratureSubject",
    "Manifest",
    "MentionContext",
    "MeshHeading",
    "MiniLMEncoder",
    "Notice",
    "Outcome",
    "PathStep",
    "Polarity",
    "Query",
    "Retrieval",
    "RetrievalError",
    "SourceError",
    "Temporality",
    "TextContext",
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
