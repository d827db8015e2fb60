"""Builds and updates index folders."""

from knowledge_index.indexing.build import Statements
from knowledge_index.indexing.shards import Engine, encode_in_process, encode_on_ray

__all__ = [
    "Engine",
    "Statements",
    "encode_in_process",
    "encode_on_ray",
]
