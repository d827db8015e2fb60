"""The public names of knowledge_index."""

from __future__ import annotations

import knowledge_index


def test_exported_members() -> None:
    assert all(hasattr(knowledge_index, name) for name in knowledge_index.__all__)
    assert set(knowledge_index.__all__) == {
        "Article", "ArticleError", "ArtifactError", "Community", "Concept", "Encoder", "EncoderError", "Evidence",
        "Experiencer", "Factor", "KnowledgeIndex", "KnowledgeIndexError", "LANGUAGES", "LinkedConcept",
        "LiteratureSubject", "Manifest", "MentionContext", "MeshHeading", "MiniLMEncoder", "Notice", "Outcome",
        "PathStep", "Polarity", "Query", "Retrieval", "RetrievalError", "SourceError", "Temporality", "TextContext",
        "build_index", "compact_index", "spread", "update_index",
    }  # fmt: skip
