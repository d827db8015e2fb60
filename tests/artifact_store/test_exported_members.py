"""The public names of artifact_store."""

from __future__ import annotations

import artifact_store


def test_exported_members() -> None:
    assert all(hasattr(artifact_store, name) for name in artifact_store.__all__)
    assert sorted(artifact_store.__all__) == [
        "CacheError", "CodeSystem", "ContentCache", "DocumentError", "ENGINES", "FileEntry", "FolderManifest",
        "MANIFEST", "ManifestError", "ManifestMissingError", "MemoryCache", "Parts", "PerProcess", "WorkFolderError",
        "Workers", "WorkersError", "atomic_file", "atomic_folder", "bare_uri", "canonical_system", "check_writable",
        "content_key", "create_private_file", "damaged_files", "disable_telemetry", "lazy_exports", "open_manifest",
        "parse_document", "read_document", "sha256_of", "verify_files", "work_folder", "write_json", "write_manifest",
    ]  # fmt: skip
