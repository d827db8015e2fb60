"""MeSH concepts with their names, abbreviations and codes."""

from knowledge_index.vocabulary.vocabulary_files import vocabulary_named

__all__ = [
    "vocabulary_named",
]
