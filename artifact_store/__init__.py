"""The shared bottom: files that appear whole or not at all, bounded caches, and libraries kept offline."""

from artifact_store.atomic_io import check_writable, whole_file, whole_folder
from artifact_store.lazy_imports import lazy_exports
from artifact_store.lru_cache import LruCache
from artifact_store.offline import disable_telemetry

__all__ = [
    "LruCache",
    "check_writable",
    "disable_telemetry",
    "lazy_exports",
    "whole_file",
    "whole_folder",
]
