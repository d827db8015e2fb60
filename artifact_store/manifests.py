"""Folders with a manifest: the sha256 and size of each file are compared before any file is opened.

    write_manifest(folder, {"format": 1, "task": "readmission_30d"}, ["model.ubj", "card.json"])
    manifest = open_manifest(folder, required=["model.ubj"])       # parsed, its shape checked
    manifest.verify()                                              # every file read and compared
    manifest.fields["task"]

On disk a manifest is a JSON object. Its member `files` describes the files of the folder, in any of these forms::

    {"name": {"sha256": "...", "bytes": 12}}      models, adapters, training checkpoints: what write_manifest writes
    {"name": {"sha256": "...", "size": 12}}       indexes
    {"name": "..."}                               cohorts (there the member is called `sha256`), dequantized models

A manifest is not signed: it detects damage and mixed-up files, not a forger who rewrites the manifest too.

ManifestError                   the manifest is malformed, or a file is missing, altered, too large or outside
└── ManifestMissingError        there is no readable manifest: perhaps the wrong folder
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READERS = 4


class ManifestError(Exception):
    """`reason` says what is wrong with the file at `path`."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason
        self.path = str(path)


class ManifestMissingError(ManifestError):
    """The manifest does not exist or cannot be read."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """The expected content of one file. `size` is in bytes; None where the manifest records only the hash."""

    sha256: str
    size: int | None

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """The entry of a file as it is now. Raises OSError."""
        return cls(sha256_of(path), path.stat().st_size)

    def to_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "bytes": self.size}


@dataclass(frozen=True, slots=True)
class FolderManifest:
    """`fields` is the whole JSON object, `files` its parsed file entries."""

    folder: Path
    fields: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def verify(self, *, max_bytes: int | None = None) -> None:
        """Compares every file with its entry. Raises ManifestError for the first, by name, that differs."""
        verify_files(self.folder, self.files, max_bytes=max_bytes)

    def verify_no_other_files(self, manifest_name: str = MANIFEST) -> None:
        """Raises ManifestError for a file in the folder that has no entry: for folders which are loaded as a whole."""
        for path in sorted(self.folder.iterdir()):
            if path.name != manifest_name and path.name not in self.files:
                raise ManifestError("not named by the manifest", path)


def write_json(path: Path, document: Any, *, indent: bool = True) -> None:
    """Writes JSON with a final newline; numpy scalars and arrays are numbers and lists."""
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0)
    path.write_bytes(orjson.dumps(document, option=options))


def write_manifest(
    folder: Path, fields: Mapping[str, Any], names: Iterable[str], *, manifest_name: str = MANIFEST
) -> dict[str, Any]:
    """Writes a manifest of `fields` and the named files, and returns it. Raises OSError where a file is missing."""
    document = {**fields, "files": {name: FileEntry.of(folder / name).to_json() for name in names}}
    write_json(folder / manifest_name, document)
    return document


def open_manifest(
    folder: Path,
    *,
    manifest_name: str = MANIFEST,
    files_key: str = "files",
    required: Collection[str] = (),
    check: Callable[[Mapping[str, Any]], None] = lambda fields: None,
    max_bytes: int = MAX_MANIFEST_BYTES,
) -> FolderManifest:
    """The parsed manifest of a folder; its files are not read yet. `required` names files it must describe.

    `check` is called with the JSON object before its file entries are parsed; it raises ValueError with the reason, for
    example for another format. Raises ManifestMissingError, and ManifestError where the manifest is malformed or larger
    than `max_bytes`.
    """
    path = folder / manifest_name
    fields = _read_object(path, max_bytes)
    try:
        check(fields)
    except ValueError as error:
        raise ManifestError(str(error), path) from None
    files = _parse_files(fields.get(files_key), path, files_key)
    if missing := sorted(set(required) - files.keys()):
        raise ManifestError(f"not a manifest: its `{files_key}` must name {', '.join(missing)}", path)
    return FolderManifest(folder, fields, files)


def _read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise ManifestMissingError("missing", path) from None
    except OSError as error:
        raise ManifestMissingError(f"cannot be read ({error.__class__.__name__})", path) from None
    if len(data) > max_bytes:
        raise ManifestError(f"larger than any manifest ({max_bytes} bytes)", path)
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"not JSON: {error.msg}", path) from None
    if not isinstance(fields, dict):
        raise ManifestError("not a manifest: a JSON object is needed", path)
    return fields


def _parse_files(raw: object, path: Path, files_key: str) -> dict[str, FileEntry]:
    if not isinstance(raw, dict) or not raw:
        raise ManifestError(f"not a manifest: its `{files_key}` must name the files of the folder", path)
    return {name: _entry(name, described, path) for name, described in raw.items()}


def _entry(name: str, described: object, path: Path) -> FileEntry:
    if not name or Path(name).name != name or name.startswith(".") or "\0" in name:
        raise ManifestError(f"not a manifest: the file name {name!r} leaves the folder or is hidden", path)
    if isinstance(described, dict):
        digest, size = described.get("sha256"), described.get("size", described.get("bytes"))
        if type(size) is not int or size < 0:
            raise ManifestError(f"not a manifest: {name} needs its size in bytes", path)
    else:
        digest, size = described, None
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ManifestError(f"not a manifest: {name} needs a sha256 of 64 hexadecimal digits", path)
    return FileEntry(digest, size)


def verify_files(folder: Path, files: Mapping[str, FileEntry], *, max_bytes: int | None = None) -> None:
    """Compares every file with its entry. Raises ManifestError for the first, by name, that differs."""
    for problem in damaged_files(folder, files, max_bytes=max_bytes):
        raise problem


def damaged_files(folder: Path, files: Mapping[str, FileEntry], *, max_bytes: int | None = None) -> list[ManifestError]:
    """One error for each file that is missing, altered, outside the folder or larger than `max_bytes`, by name.

    Files are read in parallel: hashing a large index is bound by one core otherwise.
    """
    inside = folder.resolve()
    with ThreadPoolExecutor(_READERS) as pool:
        checks = [
            pool.submit(_problem, folder / name, inside, entry, max_bytes) for name, entry in sorted(files.items())
        ]
        return [problem for check in checks if (problem := check.result()) is not None]


def _problem(path: Path, inside: Path, entry: FileEntry, max_bytes: int | None) -> ManifestError | None:
    try:
        # A link within the folder is how Kubernetes mounts files; one that leaves it may change without notice.
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(inside):
            return ManifestError("a symbolic link that leaves the folder", path)
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would block for ever
            return ManifestError("not a file", path)
        if max_bytes is not None and found.st_size > max_bytes:
            return ManifestError(f"larger than {max_bytes} bytes", path)
        if entry.size in (None, found.st_size) and sha256_of(path) == entry.sha256:
            return None
    except FileNotFoundError:
        return ManifestError("missing", path)
    except OSError as error:
        return ManifestError(f"cannot be read ({error.__class__.__name__})", path)
    return ManifestError("altered since it was written (size or sha256 differs from the manifest)", path)


def sha256_of(path: Path) -> str:
    """The sha256 of a file as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
