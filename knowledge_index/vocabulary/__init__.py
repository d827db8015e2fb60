"""MeSH concepts with the words, abbreviations and codes that mean them."""

from knowledge_index.vocabulary.vocabulary_files import vocabulary_named

__all__ = [
    "vocabulary_named",
]
