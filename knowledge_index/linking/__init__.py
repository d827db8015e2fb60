"""Links text and codes to MeSH concepts."""

from knowledge_index.linking.linker import Linker, in_plain_order

__all__ = [
    "Linker",
    "in_plain_order",
]
