"""Values, errors and verified index files, shared by all sub-packages."""

from knowledge_index.core.errors import not_installed
from knowledge_index.core.storage import damaged_files, read_manifest, verify_index

__all__ = [
    "damaged_files",
    "not_installed",
    "read_manifest",
    "verify_index",
]
