"""The article sources and the collection of articles from files.

A malformed record becomes an `ArticleError` with file and record and is passed to `refuse`; all other records are kept.
Notable records (no abstract, another language, a repeated PMID) are counted, with the first locations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from knowledge_index.core.articles import article_from_line, article_to_json
from knowledge_index.core.errors import ArticleError
from knowledge_index.core.values import Article, MeshHeading
from knowledge_index.sources.annotations import BIOC_ENDINGS, bioc_articles, pubtator_articles
from knowledge_index.sources.pubmed_xml import read_pubmed_xml
from knowledge_index.sources.records import Deletion, Refuse, article_from_json, lines_of, raise_it

__all__ = [
    "CollectedArticles",
    "Deletion",
    "Noticed",
    "SpooledArticles",
    "article_from_json",
    "collect_articles",
    "read_jsonl",
]

_PLACES = 3


def read_jsonl(path: Path, refuse: Refuse = raise_it) -> Iterator[Article]:
    """Articles of a JSON-lines file: `{"pmid", "title", "abstract", "mesh": [{"ui"?, "name", "major"}], "year"?,
    "references": [pmid], "study_type"?, "retracted"?, "first_author"?, "journal"?, "factors": [name],
    "outcomes": [name], "populations": [name]}`. Unknown keys and blank lines are ignored.
    """
    for number, line in enumerate(lines_of(path, refuse), 1):
        if not line.strip():
            continue
        try:
            yield article_from_json(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            refuse(ArticleError(f"not JSON: {error}", file=str(path), record=f"line {number}"))
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=f"line {number}"))


SOURCES: Mapping[str, tuple[Callable[[Path, Refuse], Iterator[Article | Deletion]], tuple[str, ...]]] = {
    "jsonl": (read_jsonl, (".jsonl", ".jsonl.gz")),
    "pubmed-xml": (read_pubmed_xml, (".xml", ".xml.gz")),
    "pubtator": (pubtator_articles, (".pubtator", ".pubtator.gz", ".txt", ".txt.gz")),
    "bioc": (bioc_articles, BIOC_ENDINGS),
}
"""Name of a source -> its reader and the file name endings looked for in a folder."""


@dataclass(slots=True)
class Noticed:
    """How often something was noticed, and the first locations."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def at(self, place: str) -> None:
        self.count += 1
        if len(self.places) < _PLACES:
            self.places.append(place)


class SpooledArticles(MutableMapping[str, Article]):
    """Articles by PMID in a file; memory holds PMID and offset of each, not its text.

    Replaced or deleted articles stay in the file, which is meant to be temporary.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._place: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __getitem__(self, pmid: str) -> Article:
        start, length = self._place[pmid]
        self._stream.seek(start)
        return article_from_line(self._stream.read(length))

    def __setitem__(self, pmid: str, article: Article) -> None:
        line = article_to_json(article)
        self._stream.seek(self._end)
        self._stream.write(line)
        self._place[pmid] = (self._end, len(line))
        self._end += len(line)

    def __delitem__(self, pmid: str) -> None:
        del self._place[pmid]

    def __contains__(self, pmid: object) -> bool:
        return pmid in self._place

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


@dataclass(slots=True)
class CollectedArticles:
    """The articles of the sources. Of two records with one PMID the newest version wins, of one version the last.

    `deletions` are the PMIDs withdrawn and not added again, `deleted_versions` the versions of those that name one,
    `older` the versions that a newer one hides, `retracted` those named by a retraction notice, `noticed`
    the notable records that were kept.
    """

    articles: MutableMapping[str, Article] = field(default_factory=dict)
    read: int = 0
    duplicates: int = 0
    deleted: int = 0
    refused: list[ArticleError] = field(default_factory=list)
    deletions: set[str] = field(default_factory=set)
    retracted: set[str] = field(default_factory=set)
    noticed: dict[str, Noticed] = field(default_factory=dict)
    deleted_versions: dict[str, int] = field(default_factory=dict)
    older: dict[str, dict[int, Article]] = field(default_factory=dict)


def collect_articles(
    source: str,
    inputs: Iterable[Path],
    progress: Callable[[int], None] | None = None,
    *,
    articles: MutableMapping[str, Article] | None = None,
    annotations: Mapping[str, tuple[MeshHeading, ...]] | None = None,
) -> CollectedArticles:
    """The articles in files and folders of a source (a key of `SOURCES`), read in name order, and the refused records.

    `progress` is called with the number of records read so far. `articles` stores them: a dict by default, or a
    `SpooledArticles`. `annotations` are headings to add to articles by PMID.
    """
    reader, endings = SOURCES[source]
    collected = CollectedArticles({} if articles is None else articles)
    for path in files_of(inputs, endings):
        if altered := _differs_from_its_md5(path):
            collected.refused.append(altered)
            continue
        for number, item in enumerate(reader(path, collected.refused.append), 1):
            collected.read += 1
            _take(collected, _annotated(item, annotations or {}), f"{path}, record {number} (PMID {item.pmid})")
            if progress is not None:
                progress(collected.read)
    for pmid in sorted(collected.retracted & set(collected.articles)):
        article = collected.articles[pmid]
        if not article.retracted:
            collected.articles[pmid] = replace(article, retracted=True)
    return collected


def _differs_from_its_md5(path: Path) -> ArticleError | None:
    """An error where the file differs from NLM's `pubmed26n0001.xml.gz.md5` beside it."""
    beside = path.with_name(path.name + ".md5")
    if not beside.is_file() or not path.is_file():
        return None
    stated = re.search(r"\b[0-9a-f]{32}\b", beside.read_text("utf-8", "replace"), re.IGNORECASE)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if stated and stated.group().lower() == found:
        return None
    reason = f"is not what {beside.name} says: fetch it again; nothing of it is read"
    return ArticleError(reason, file=str(path), record="none")


def _annotated(item: Article | Deletion, annotations: Mapping[str, tuple[MeshHeading, ...]]) -> Article | Deletion:
    if isinstance(item, Deletion) or item.pmid not in annotations:
        return item
    known = {heading.ui for heading in item.mesh if heading.ui}
    return replace(item, mesh=(*item.mesh, *(h for h in annotations[item.pmid] if h.ui not in known)))


def _take(collected: CollectedArticles, item: Article | Deletion, place: str) -> None:
    earlier = collected.articles.get(item.pmid)
    if isinstance(item, Deletion):
        _delete(collected, item, earlier)
        return
    collected.deletions.discard(item.pmid)
    collected.deleted_versions.pop(item.pmid, None)
    collected.retracted |= {notice.pmid for notice in item.notices if notice.kind == "RetractionOf" and notice.pmid}
    again = earlier is not None and earlier.version == item.version
    for what, noticed in (
        ("a PMID for the second time, the last record is kept", again),
        ("a PMID in several versions, the newest is kept", earlier is not None and not again),
        ("no abstract, the title alone is indexed", not item.abstract),
        ("not in English", item.language is not None),
    ):
        if noticed:
            collected.noticed.setdefault(what, Noticed()).at(place)
    collected.duplicates += earlier is not None
    if earlier is not None and earlier.version > item.version:
        collected.older.setdefault(item.pmid, {})[item.version] = item
        return
    if earlier is not None:
        del collected.articles[item.pmid]
        if not again:
            collected.older.setdefault(item.pmid, {})[earlier.version] = earlier
    collected.articles[item.pmid] = item


def _delete(collected: CollectedArticles, item: Deletion, current: Article | None) -> None:
    """Withdraws one version of a record, or all; the newest one that is left counts."""
    older = collected.older.get(item.pmid, {})
    if item.version is not None and current is not None and item.version != current.version:
        collected.deleted += older.pop(item.version, None) is not None
        return
    if current is not None:
        collected.deleted += 1
        del collected.articles[item.pmid]
        if older and item.version is not None:
            collected.articles[item.pmid] = older.pop(max(older))
            return
    collected.deletions.add(item.pmid)
    if item.version is not None:
        collected.deleted_versions[item.pmid] = max(item.version, collected.deleted_versions.get(item.pmid, 0))


def files_of(inputs: Iterable[Path], endings: tuple[str, ...]) -> Iterator[Path]:
    """The input files, and the files with these endings in input folders, by name."""
    for path in inputs:
        if not path.is_dir():
            yield path
            continue
        found = sorted(child for child in path.iterdir() if child.name.endswith(endings))
        if not found:
            raise ArticleError(f"no {' or '.join(endings)} file in this folder", file=str(path), record="none")
        yield from found
