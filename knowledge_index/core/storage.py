"""An index on disk: a folder with `manifest.json`, which holds the sha256 and size of every other file.

    my-index/manifest.json          which generation is current, and the hash of each of its files
    my-index/3f9c2e41d07b/...       that generation's files; the name is taken from their hashes

A new generation is written beside the current one and becomes current when `manifest.json` is replaced. This is one
rename inside the folder, so readers see either the old or the new index, even on a mounted volume or after a power cut.
Processes that have opened the old generation keep using it.

Nothing is opened before its hash has been checked: most FAISS files with one flipped bit load and search without error.
No file carries a time, so two builds of the same input give the same hashes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

import artifact_store
from artifact_store import MANIFEST, FileEntry, ManifestError, ManifestMissingError, atomic_file, open_manifest
from knowledge_index.core.errors import ArtifactError

FORMAT = 1
_MAX_MANIFEST = 1 << 20
_MAX_ARTICLES = 100_000_000
_STAMP = ".verified.json"
LARGE = 64 << 20
"""Bytes. A file at least this large is hashed once, then recognised by its inode, size and times."""
_GENERATION = re.compile(r"(?:[0-9a-f]{12})?\Z")

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an index.

    `source` is the origin of its articles; `encoder` and `encoder_fingerprint` identify the exact weights that computed
    the vectors. `counts` holds the numbers of articles, concepts, edges, terms and retracted articles, and after an
    update those of vector shards and removed rows. `generation` is the subfolder of the files; empty where they are
    beside the manifest, as in indexes of the first version.
    """

    source: str
    encoder: str
    encoder_fingerprint: str
    dimensions: int
    counts: dict[str, int]
    created_by: str
    format: int = FORMAT
    generation: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(entry.size or 0 for entry in self.files.values())

    @property
    def vector_shards(self) -> int:
        return self.counts.get("vector_shards", 1)

    @property
    def vectors_fingerprint(self) -> str:
        """Identifies the vectors: encoder weights and generation."""
        return f"{self.encoder_fingerprint}:{self.generation}"

    def inside(self, folder: Path) -> Path:
        """The folder of this generation's files."""
        return folder / self.generation

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def publish(new: Path, folder: Path, manifest: Manifest) -> Manifest:
    """Makes the files in `new` the current generation of the index in `folder`; returns the complete manifest.

    The previous generation is removed afterwards. A reader that has read the old manifest and no longer finds its files
    reads the manifest again: see `opened`.
    """
    for path in sorted(new.iterdir()):
        manifest.files[path.name] = FileEntry.of(path)
    digest = hashlib.sha256(orjson.dumps(asdict(manifest), option=orjson.OPT_SORT_KEYS)).hexdigest()
    manifest = replace(manifest, generation=digest[:12])
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if not _is_published(folder, manifest):
        shutil.rmtree(manifest.inside(folder), ignore_errors=True)
        new.rename(manifest.inside(folder))
    with atomic_file(folder / MANIFEST, durable=True) as stream:
        stream.write(manifest.to_json())
    _remove_others(folder, manifest, earlier)
    return manifest


def _is_published(folder: Path, manifest: Manifest) -> bool:
    """Whether this generation already exists undamaged, perhaps in use by readers."""
    try:
        verify_files(folder, manifest)
    except ArtifactError:
        return False
    return True


def _remove_others(folder: Path, current: Manifest, earlier: Manifest | None) -> None:
    """Removes other generations, including the files of one that were beside the manifest; nothing else."""
    for path in folder.iterdir():
        if path.is_dir() and _GENERATION.match(path.name) and path.name != current.generation:
            shutil.rmtree(path, ignore_errors=True)
    if earlier is not None and not earlier.generation:
        for name in earlier.files:
            (folder / name).unlink(missing_ok=True)


def opened(folder: Path, open_generation: Callable[[Manifest], Opened]) -> Opened:
    """The result of `open_generation` on the current generation, whose files are verified first.

    Retries where the generation was replaced meanwhile; an error is raised once the same manifest has failed twice.
    """
    failed: Manifest | None = None
    while True:
        manifest = read_manifest(folder)
        try:
            _verify_changed_files(folder, manifest)
            return open_generation(manifest)
        except ArtifactError:
            if manifest == failed:
                raise
        except FileNotFoundError as error:
            if manifest == failed:
                raise ArtifactError("missing", path=str(error.filename or folder)) from error
        failed = manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest, its structure and limits checked. The files are not read."""
    try:
        content = open_manifest(folder, check=_check_format, max_bytes=_MAX_MANIFEST)
    except ManifestMissingError as error:
        raise ArtifactError(f"not an index: manifest.json {error.reason}", path=str(folder)) from error
    except ManifestError as error:
        raise ArtifactError(error.reason, path=error.path) from error
    try:
        return _checked(content.fields, dict(content.files))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"not a manifest we can use: {error}", path=str(folder / MANIFEST)) from error


def _check_format(fields: Mapping[str, Any]) -> None:
    if fields.get("format") != FORMAT:
        raise ValueError(f"not a manifest of an index of format {FORMAT}: format {fields.get('format')!r}")


def _checked(content: Mapping[str, Any], files: dict[str, FileEntry]) -> Manifest:
    if any(entry.size is None for entry in files.values()):
        raise ValueError("a file without its size")
    generation = str(content.get("generation", ""))
    if not _GENERATION.match(generation):
        raise ValueError("a generation that leaves the folder")
    dimensions, articles = int(content["dimensions"]), int(content["counts"]["articles"])
    if not 0 < dimensions <= 8192 or not 0 < articles <= _MAX_ARTICLES:
        raise ValueError(f"{articles} articles of {dimensions} dimensions")
    return Manifest(
        source=str(content["source"]),
        encoder=str(content["encoder"]),
        encoder_fingerprint=str(content["encoder_fingerprint"]),
        dimensions=dimensions,
        generation=generation,
        counts={str(name): int(count) for name, count in content["counts"].items()},
        created_by=str(content["created_by"]),
        files=files,
    )


def verify_index(folder: Path) -> Manifest:
    """Checks size and sha256 of every file; `ArtifactError` names the first that is missing or differs."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """`verify_index` for a manifest that is already read."""
    for problem in damaged_files(folder, manifest):
        raise problem


def damaged_files(folder: Path, manifest: Manifest) -> list[ArtifactError]:
    """One error for each file that is missing or differs, by name."""
    found = artifact_store.damaged_files(manifest.inside(folder), manifest.files)
    return [ArtifactError(problem.reason, path=problem.path) for problem in found]


# Files that are not hashed at every start -----------------------------------------------------------------------------
#
# Hashing the gigabytes of a large index takes longer than opening it. So large memory-mapped files are hashed once; a
# stamp records inode, size and times of each, and a file is trusted while those are unchanged. FAISS files and small
# files are hashed every time. `verify_index` and `riskcards index verify` hash everything.


def _verify_changed_files(folder: Path, manifest: Manifest) -> None:
    unchanged = _unchanged(folder, manifest)
    changing = {name: entry for name, entry in manifest.files.items() if name not in unchanged}
    verify_files(folder, replace(manifest, files=changing))
    if any(_is_large(name, entry) for name, entry in changing.items()):
        _stamp(folder, manifest)


def _is_large(name: str, entry: FileEntry) -> bool:
    return (entry.size or 0) >= LARGE and not name.endswith(".faiss")


def _unchanged(folder: Path, manifest: Manifest) -> frozenset[str]:
    """Names of large files whose inode, size and times are those in the stamp."""
    try:
        stamp = orjson.loads((folder / _STAMP).read_bytes())
        if stamp["manifest"] != hashlib.sha256(manifest.to_json()).hexdigest():
            return frozenset()
        seen = {name: tuple(facts) for name, facts in stamp["files"].items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return frozenset()
    large = (name for name, entry in manifest.files.items() if _is_large(name, entry))
    return frozenset(name for name in large if seen.get(name) == _file_state(manifest.inside(folder) / name))


def _file_state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stamp(folder: Path, manifest: Manifest) -> None:
    """Writes the stamp; where the folder is read-only, large files are hashed again next time."""
    files = {
        name: _file_state(manifest.inside(folder) / name)
        for name, entry in manifest.files.items()
        if _is_large(name, entry)
    }
    content = {"manifest": hashlib.sha256(manifest.to_json()).hexdigest(), "files": files}
    coming = folder / f"{_STAMP}.{os.getpid()}"
    with suppress(OSError):
        coming.write_bytes(orjson.dumps(content))
        coming.replace(folder / _STAMP)
