"""Builds and updates index folders, the starter index among them."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.indexing.build import Statements
    from knowledge_index.indexing.shards import Engine, encode_in_process, encode_on
    from knowledge_index.indexing.starter import starter_articles

__all__ = [
    "Engine",
    "Statements",
    "encode_in_process",
    "encode_on",
    "starter_articles",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Engine": "knowledge_index.indexing.shards",
        "Statements": "knowledge_index.indexing.build",
        "encode_in_process": "knowledge_index.indexing.shards",
        "encode_on": "knowledge_index.indexing.shards",
        "starter_articles": "knowledge_index.indexing.starter",
    },
)
