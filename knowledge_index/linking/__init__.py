"""Links text and codes to MeSH concepts."""

from knowledge_index.linking.linker import Linker

__all__ = [
    "Linker",
]
