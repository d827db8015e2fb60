"""An index on disk: a folder with `manifest.json`, which holds the sha256 and size of every other file.

    my-index/manifest.json          which generation is current, and the hash of each of its files
    my-index/3f9c2e41d07b/...       that generation's files; the name is taken from their hashes

A new generation is written beside the current one and becomes it when `manifest.json` is replaced: one rename inside
the folder, so that readers see the old index or the new one, also where the folder is a mounted volume and also after
a power cut. Who has opened the old one goes on using it.

Nothing is opened before its hash has been checked: of FAISS files with one flipped bit most load and search silently.
Arrays are `.npy` without pickle; no file carries a time, so two builds of the same input give the same hashes.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

import artifact_store
from artifact_store import MANIFEST, FileEntry, ManifestError, ManifestMissingError, open_manifest
from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.values import Article, MeshHeading, Notice

FORMAT = 1
_MAX_MANIFEST = 1 << 20
_MAX_ARTICLES = 100_000_000
_STAMP = ".verified.json"
LARGE = 64 << 20
"""Bytes from which on a file that was hashed once is known by its inode, size and times."""
_GENERATION = re.compile(r"(?:[0-9a-f]{12})?\Z")

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is made of. `source` says where its articles came from, `encoder` and its fingerprint which exact
    weights made the vectors; `counts` holds articles, concepts, edges, terms and retracted, and after an update the
    shards of vectors and the rows in them that are gone. `generation` names the folder of the files; empty where they
    lie beside the manifest, as in indexes of the first version.
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
        """Bytes of all files together."""
        return sum(entry.size or 0 for entry in self.files.values())

    @property
    def vector_shards(self) -> int:
        return self.counts.get("vector_shards", 1)

    @property
    def vectors_fingerprint(self) -> str:
        """Which vectors these are: the encoder's weights and the generation."""
        return f"{self.encoder_fingerprint}:{self.generation}"

    def inside(self, folder: Path) -> Path:
        """Where the files of this generation lie."""
        return folder / self.generation

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def publish(new: Path, folder: Path, manifest: Manifest) -> Manifest:
    """Make the files in `new` the current generation of the index in `folder`; returns the manifest complete.

    What was there before goes once the new generation stands. Whoever looked at the old manifest and comes too late
    for its files looks again: see `opened`.
    """
    for path in sorted(new.iterdir()):
        manifest.files[path.name] = FileEntry.of(path)
    digest = hashlib.sha256(orjson.dumps(asdict(manifest), option=orjson.OPT_SORT_KEYS)).hexdigest()
    manifest = replace(manifest, generation=digest[:12])
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if not _stands(folder, manifest):
        shutil.rmtree(manifest.inside(folder), ignore_errors=True)
        new.rename(manifest.inside(folder))
    coming = folder / f"{MANIFEST}.new"
    with coming.open("wb") as stream:
        stream.write(manifest.to_json())
        stream.flush()
        os.fsync(stream.fileno())
    coming.replace(folder / MANIFEST)
    _remove_others(folder, manifest, earlier)
    return manifest


def _stands(folder: Path, manifest: Manifest) -> bool:
    """Whether this very generation is there already, undamaged, perhaps being read."""
    try:
        verify_files(folder, manifest)
    except ArtifactError:
        return False
    return True


def _remove_others(folder: Path, current: Manifest, earlier: Manifest | None) -> None:
    """Remove generations that are not current, and the files of one that lay beside the manifest; nothing else."""
    for path in folder.iterdir():
        if path.is_dir() and _GENERATION.match(path.name) and path.name != current.generation:
            shutil.rmtree(path, ignore_errors=True)
    if earlier is not None and not earlier.generation:
        for name in earlier.files:
            (folder / name).unlink(missing_ok=True)


def opened(folder: Path, open_generation: Callable[[Manifest], Opened]) -> Opened:
    """What `open_generation` makes of the current generation, its files verified; once more where it was replaced
    meanwhile.

    The same generation may have gone and come back by then: what is wrong with one is what is wrong with it twice.
    """
    failed: Manifest | None = None
    while True:
        manifest = read_manifest(folder)
        try:
            _verify_what_may_have_changed(folder, manifest)
            return open_generation(manifest)
        except ArtifactError:
            if manifest == failed:
                raise
        except FileNotFoundError as error:
            if manifest == failed:
                raise ArtifactError("missing", path=str(error.filename or folder)) from error
        failed = manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest, its shape and limits checked; the files are not looked at."""
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
    """Check size and sha256 of every file; `ArtifactError` names the first that differs, is missing or is unknown."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """`verify_index` for a manifest that was read."""
    for problem in damaged_files(folder, manifest):
        raise problem


def damaged_files(folder: Path, manifest: Manifest) -> list[ArtifactError]:
    """One error for each file that is missing or differs, by name."""
    found = artifact_store.damaged_files(manifest.inside(folder), manifest.files)
    return [ArtifactError(problem.reason, path=problem.path) for problem in found]


# What need not be hashed at every start -------------------------------------------------------------------------------
#
# Hashing the gigabytes of a large index takes longer than opening it. So the large files that are only read where an
# answer needs them are hashed once; a stamp keeps inode, size and times of each, and while those are the same the file
# is. FAISS files and everything small are hashed every time. `verify_index` and `riskcards index verify_index` hash
# everything.


def _verify_what_may_have_changed(folder: Path, manifest: Manifest) -> None:
    unchanged = _unchanged(folder, manifest)
    changing = {name: entry for name, entry in manifest.files.items() if name not in unchanged}
    verify_files(folder, replace(manifest, files=changing))
    if any(_is_large(name, entry) for name, entry in changing.items()):
        _stamp(folder, manifest)


def _is_large(name: str, entry: FileEntry) -> bool:
    return (entry.size or 0) >= LARGE and not name.endswith(".faiss")


def _unchanged(folder: Path, manifest: Manifest) -> frozenset[str]:
    """Large files that are, by inode, size and times, those that were hashed when the stamp was written."""
    try:
        stamp = orjson.loads((folder / _STAMP).read_bytes())
        if stamp["manifest"] != hashlib.sha256(manifest.to_json()).hexdigest():
            return frozenset()
        seen = {name: tuple(facts) for name, facts in stamp["files"].items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return frozenset()
    large = (name for name, entry in manifest.files.items() if _is_large(name, entry))
    return frozenset(name for name in large if seen.get(name) == _facts(manifest.inside(folder) / name))


def _facts(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stamp(folder: Path, manifest: Manifest) -> None:
    """Remember the large files as they are now; where the folder cannot be written they are hashed again next time."""
    files = {
        name: _facts(manifest.inside(folder) / name) for name, entry in manifest.files.items() if _is_large(name, entry)
    }
    content = {"manifest": hashlib.sha256(manifest.to_json()).hexdigest(), "files": files}
    coming = folder / f"{_STAMP}.{os.getpid()}"
    with suppress(OSError):
        coming.write_bytes(orjson.dumps(content))
        coming.replace(folder / _STAMP)


def save_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def new_array(folder: Path, name: str, dtype: type[np.generic], count: int) -> NDArray[Any]:
    """An array of shape (count,) to be filled, mapped to the file that `save_array` would write."""
    if not count:
        save_array(folder, name, np.zeros(0, dtype))
        return np.zeros(0, dtype)
    mapped: NDArray[Any] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count,))
    return mapped


def load_array(folder: Path, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """An array mapped from disk; `shape` may leave a length open with None. `ArtifactError` when it is another kind."""
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot be read: {error}", path=str(path)) from error
    fits = array.dtype == dtype and len(array.shape) == len(shape)
    if not fits or any(want is not None and want != have for want, have in zip(shape, array.shape, strict=True)):
        raise ArtifactError(f"{array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape}", path=str(path))
    return array


def load_json(path: Path, count: int) -> list[Any]:
    """A list of `count` items; `ArtifactError` when it is none."""
    content = orjson.loads(path.read_bytes())
    if not isinstance(content, list) or len(content) != count:
        raise ArtifactError(f"expected a list of {count}", path=str(path))
    return content


def give_pages_back(*arrays: NDArray[Any]) -> None:
    """Let go of the pages of mapped arrays that were looked through once; they are read again where needed."""
    for array_ in arrays:
        mapped = getattr(array_, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def save_articles(folder: Path, articles: Iterable[Article]) -> None:
    """Articles as JSON lines, and the offset of each line, so that ten of a million open in the time of ten."""
    offsets = array("q", [0])
    with (folder / "articles.jsonl").open("wb") as stream:
        for article in articles:
            stream.write(article_to_json(article) + b"\n")
            offsets.append(stream.tell())
    save_array(folder, "article_offsets", np.array(offsets, np.int64))


def article_to_json(article: Article) -> bytes:
    """One line of `articles.jsonl`: what is empty is left out."""
    value = asdict(article)
    value["mesh"] = [_heading(heading) for heading in article.mesh]
    value["notices"] = [[notice.kind, notice.pmid] for notice in article.notices]
    return orjson.dumps({name: item for name, item in value.items() if item or name == "pmid"})


def _heading(heading: MeshHeading) -> list[Any]:
    short: list[Any] = [heading.name, heading.ui, heading.major]
    return [*short, heading.qualifiers] if heading.qualifiers else short


def article_from_line(line: bytes) -> Article:
    """The article of one line; `TypeError` or `ValueError` where it is none."""
    value = orjson.loads(line)
    mesh = tuple(
        MeshHeading(name, ui, major, *map(tuple, qualifiers)) for name, ui, major, *qualifiers in value.pop("mesh", ())
    )
    notices = tuple(Notice(*notice) for notice in value.pop("notices", ()))
    references = tuple(value.pop("references", ()))
    return Article(**({"title": "", "abstract": ""} | value), mesh=mesh, references=references, notices=notices)


class ArticleStore:
    """Articles of an index by position, read from disk when asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self._path = folder / "articles.jsonl"
        self._offsets = load_array(folder, "article_offsets", np.int64, (count + 1,))
        self._bytes: NDArray[np.uint8] = np.memmap(self._path, np.uint8, "r")
        if int(self._offsets[-1]) != len(self._bytes) or (np.diff(self._offsets) < 0).any():
            raise ArtifactError("article offsets do not fit the articles", path=str(self._path))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, position: int) -> Article:
        start, end = self._offsets[position], self._offsets[position + 1]
        try:
            return article_from_line(self._bytes[start:end].tobytes())
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"article {position} cannot be read: {error}", path=str(self._path)) from error
