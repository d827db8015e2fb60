"""An index on disk: a folder with `manifest.json`, which holds the sha256 and size of every other file.

Nothing is opened before its hash has been checked: of FAISS files with one flipped bit most load and search silently.
Arrays are `.npy` without pickle; no file carries a time, so two builds of the same input give the same hashes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index.errors import ArtifactError
from knowledge_index.values import Article, MeshHeading

FORMAT = 1
MANIFEST = "manifest.json"
_MAX_MANIFEST = 1 << 20
_MAX_ARTICLES = 100_000_000


@dataclass(frozen=True, slots=True)
class FileEntry:
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is made of. `source` says where its articles came from, `encoder` and its fingerprint which exact
    weights made the vectors; `counts` holds articles, concepts, edges, terms and retracted.
    """

    source: str
    encoder: str
    encoder_fingerprint: str
    dimensions: int
    counts: dict[str, int]
    created_by: str
    format: int = FORMAT
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file of the folder into the manifest and write it; returns it complete."""
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            manifest.files[path.name] = FileEntry(sha256_of(path), path.stat().st_size)
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest, its shape and limits checked; the files are not looked at."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST:
            raise ArtifactError("larger than any manifest", path=str(path))
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError("not an index: no manifest.json here", path=str(folder)) from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise ArtifactError(f"cannot be read: {error}", path=str(path)) from error
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"not a manifest we can use: {error}", path=str(path)) from error


def _checked(content: Any) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, this version reads {FORMAT}")
    files = {name: FileEntry(str(entry["sha256"]), int(entry["size"])) for name, entry in content["files"].items()}
    if any(Path(name).name != name or name.startswith(".") for name in files):
        raise ValueError("a file name that leaves the folder")
    dimensions, articles = int(content["dimensions"]), int(content["counts"]["articles"])
    if not 0 < dimensions <= 8192 or not 0 < articles <= _MAX_ARTICLES:
        raise ValueError(f"{articles} articles of {dimensions} dimensions")
    return Manifest(
        source=str(content["source"]),
        encoder=str(content["encoder"]),
        encoder_fingerprint=str(content["encoder_fingerprint"]),
        dimensions=dimensions,
        counts={str(name): int(count) for name, count in content["counts"].items()},
        created_by=str(content["created_by"]),
        files=files,
    )


def verify(folder: Path) -> Manifest:
    """Check size and sha256 of every file; `ArtifactError` names the first that differs, is missing or is unknown."""
    manifest = read_manifest(folder)
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            raise ArtifactError("missing", path=str(path))
        if path.stat().st_size != entry.size or sha256_of(path) != entry.sha256:
            raise ArtifactError("altered since it was built (size or sha256 differs from the manifest)", path=str(path))
    return manifest


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


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


def save_articles(folder: Path, articles: Sequence[Article]) -> None:
    """Articles as JSON lines, and the offset of each line, so that ten of a million open in the time of ten."""
    offsets = np.zeros(len(articles) + 1, np.int64)
    with (folder / "articles.jsonl").open("wb") as stream:
        for number, article in enumerate(articles):
            stream.write(orjson.dumps(_compact(article)) + b"\n")
            offsets[number + 1] = stream.tell()
    save_array(folder, "article_offsets", offsets)


def _compact(article: Article) -> dict[str, Any]:
    value = asdict(article)
    value["mesh"] = [[heading.name, heading.ui, heading.major] for heading in article.mesh]
    return {name: item for name, item in value.items() if item or name == "pmid"}


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
            value = orjson.loads(self._bytes[start:end].tobytes())
            mesh = tuple(MeshHeading(*heading) for heading in value.pop("mesh", ()))
            references = tuple(value.pop("references", ()))
            return Article(**({"title": "", "abstract": ""} | value), mesh=mesh, references=references)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"article {position} cannot be read: {error}", path=str(self._path)) from error


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in its place; what was there before goes only once the new one is complete."""
    if not target.exists():
        new.rename(target)
        return
    aside = target.with_name(target.name + ".old")
    if aside.exists():
        shutil.rmtree(aside)
    target.rename(aside)
    new.rename(target)
    shutil.rmtree(aside)
