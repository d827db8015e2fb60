"""The public names of knowledge_index."""

from __future__ import annotations

import knowledge_index


def test_exported_members() -> None:
    assert knowledge_index.__all__ == sorted(knowledge_index.__all__)
    assert all(hasattr(knowledge_index, name) for name in knowledge_index.__all__)
    assert set(knowledge_index.__all__) == {
        "Article", "ArticleError", "ArtifactError", "Community", "Concept", "Encoder", "EncoderError", "Evidence",
        "Factor", "KnowledgeIndex", "KnowledgeIndexError", "LinkedConcept", "Manifest", "MeshHeading",
        "MiniLMEncoder", "Notice", "Outcome", "PathStep", "Query", "Retrieval", "RetrievalError", "SourceError",
        "Subject", "build_index", "compact_index", "spread", "update_index",
    }  # fmt: skip
