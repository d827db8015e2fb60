"""The articles of an index: JSON lines, and the offset of each line for reading single articles."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array, save_array
from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.values import Article, MeshHeading, Notice


def save_articles(folder: Path, articles: Iterable[Article]) -> None:
    """Writes articles as JSON lines with the offset of each line, so that single articles can be read directly."""
    offsets = array("q", [0])
    with (folder / "articles.jsonl").open("wb") as stream:
        for article in articles:
            stream.write(article_to_json(article) + b"\n")
            offsets.append(stream.tell())
    save_array(folder, "article_offsets", np.array(offsets, np.int64))


def article_to_json(article: Article) -> bytes:
    """One line of `articles.jsonl`, without empty fields."""
    value = asdict(article)
    value["mesh"] = [_heading(heading) for heading in article.mesh]
    value["notices"] = [[notice.kind, notice.pmid] for notice in article.notices]
    value["version"] = article.version if article.version > 1 else 0
    return orjson.dumps({name: item for name, item in value.items() if item or name == "pmid"})


def _heading(heading: MeshHeading) -> list[Any]:
    short: list[Any] = [heading.name, heading.ui, heading.major]
    return [*short, heading.qualifiers] if heading.qualifiers else short


def article_from_line(line: bytes) -> Article:
    """The article of one line; `TypeError` or `ValueError` where the line is malformed."""
    value = orjson.loads(line)
    mesh = tuple(
        MeshHeading(name, ui, major, *map(tuple, qualifiers)) for name, ui, major, *qualifiers in value.pop("mesh", ())
    )
    notices = tuple(Notice(*notice) for notice in value.pop("notices", ()))
    for name in ("references", "factors", "outcomes", "populations"):
        value[name] = tuple(value.get(name, ()))
    return Article(**({"title": "", "abstract": ""} | value), mesh=mesh, notices=notices)


class ArticleStore:
    """Articles of an index by position, read from disk on access."""

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
