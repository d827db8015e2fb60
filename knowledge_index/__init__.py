"""PubMed in, evidence out."""

from knowledge_index.errors import ArticleError, ArtifactError, EncoderError, KnowledgeIndexError, RetrievalError
from knowledge_index.values import Article, Concept, Evidence, LinkedConcept, MeshHeading, PathStep, Query

__all__ = [
    "Article",
    "ArticleError",
    "ArtifactError",
    "Concept",
    "EncoderError",
    "Evidence",
    "KnowledgeIndexError",
    "LinkedConcept",
    "MeshHeading",
    "PathStep",
    "Query",
    "RetrievalError",
]
