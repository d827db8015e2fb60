"""MeSH concepts with their names, abbreviations and codes."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.vocabulary.vocabulary_files import vocabulary_named

__all__ = [
    "vocabulary_named",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "vocabulary_named": "knowledge_index.vocabulary.vocabulary_files",
    },
)
