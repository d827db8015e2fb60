"""PubMed in, evidence out."""

from knowledge_index.build import build_index
from knowledge_index.communities import spread
from knowledge_index.encoder import Encoder, MiniLMEncoder
from knowledge_index.errors import (
    ArticleError,
    ArtifactError,
    EncoderError,
    KnowledgeIndexError,
    RetrievalError,
    SourceError,
)
from knowledge_index.index import KnowledgeIndex, Retrieval
from knowledge_index.storage import Manifest
from knowledge_index.update import compact_index, update_index
from knowledge_index.values import (
    Article,
    Community,
    Concept,
    Evidence,
    LinkedConcept,
    MeshHeading,
    Notice,
    PathStep,
    Query,
)

__all__ = [
    "Article",
    "ArticleError",
    "ArtifactError",
    "Community",
    "Concept",
    "Encoder",
    "EncoderError",
    "Evidence",
    "KnowledgeIndex",
    "KnowledgeIndexError",
    "LinkedConcept",
    "Manifest",
    "MeshHeading",
    "MiniLMEncoder",
    "Notice",
    "PathStep",
    "Query",
    "Retrieval",
    "RetrievalError",
    "SourceError",
    "build_index",
    "compact_index",
    "spread",
    "update_index",
]
