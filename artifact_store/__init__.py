"""The shared bottom: atomic file writes, folders with a manifest, caches, workers and resumable parts, names of code
systems, and libraries kept offline."""

from artifact_store.atomic_io import atomic_file, atomic_folder, check_writable, create_private_file
from artifact_store.code_systems import CodeSystem, bare_uri, canonical_system
from artifact_store.content_cache import CacheError, ContentCache, content_key
from artifact_store.documents import DocumentError, parse_document, read_document
from artifact_store.lazy_imports import lazy_exports
from artifact_store.manifests import (
    MANIFEST,
    FileEntry,
    FolderManifest,
    ManifestError,
    ManifestMissingError,
    damaged_files,
    open_manifest,
    sha256_of,
    verify_files,
    write_json,
    write_manifest,
)
from artifact_store.memory_cache import MemoryCache
from artifact_store.offline import disable_telemetry
from artifact_store.parts import Parts, WorkFolderError, work_folder
from artifact_store.workers import ENGINES, PerProcess, Workers, WorkersError

__all__ = [
    "ENGINES",
    "MANIFEST",
    "CacheError",
    "CodeSystem",
    "ContentCache",
    "DocumentError",
    "FileEntry",
    "FolderManifest",
    "ManifestError",
    "ManifestMissingError",
    "MemoryCache",
    "Parts",
    "PerProcess",
    "WorkFolderError",
    "Workers",
    "WorkersError",
    "atomic_file",
    "atomic_folder",
    "bare_uri",
    "canonical_system",
    "check_writable",
    "content_key",
    "create_private_file",
    "damaged_files",
    "disable_telemetry",
    "lazy_exports",
    "open_manifest",
    "parse_document",
    "read_document",
    "sha256_of",
    "verify_files",
    "work_folder",
    "write_json",
    "write_manifest",
]
