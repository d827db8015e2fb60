"""Article sources: JSON lines and PubMed's own XML, read as streams, plain or gzipped.

A record that cannot be read becomes an `ArticleError` naming file and record and is handed to `refuse`; every other
record is kept. By default `refuse` raises, so that a caller who did not think about bad records hears of them.

The XML is cut into its `<PubmedArticle>` elements before any of it is parsed. So one malformed record costs that
record only, memory holds one record at a time, and no DTD is ever seen: an entity cannot be declared, let alone expand.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast
from xml.etree import ElementTree

import orjson

from knowledge_index.errors import ArticleError
from knowledge_index.values import Article, MeshHeading

Refuse = Callable[[ArticleError], None]

_MAX_TEXT = 200_000
"""Characters of one abstract. PubMed's longest are near 30,000; more is a broken export, not an abstract."""
_MAX_RECORD = 32 * 1024 * 1024
"""Bytes of one record, so that a file without line ends or end tags cannot fill the memory."""
_CHUNK = 1 << 20
_PMID = re.compile(r"[0-9]{1,10}\Z", re.ASCII)
_RETRACTED = {"retracted publication", "D016441"}
# Strongest design first: an article indexed as both review and trial is told by what it measured.
_STUDY_TYPES = (
    ("meta-analysis", "meta-analysis"),
    ("systematic review", "systematic review"),
    ("randomized controlled trial", "randomized controlled trial"),
    ("practice guideline", "guideline"),
    ("guideline", "guideline"),
    ("clinical trial", "clinical trial"),
    ("observational study", "observational study"),
    ("review", "review"),
    ("case reports", "case report"),
)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that a PubMed update file withdraws."""

    pmid: str


@dataclass(slots=True)
class Collected:
    """What came out of the sources. Of two records with one PMID the last wins, as in PubMed's update files."""

    articles: dict[str, Article] = field(default_factory=dict)
    read: int = 0
    duplicates: int = 0
    deleted: int = 0
    refused: list[ArticleError] = field(default_factory=list)


def collect(source: str, inputs: Iterable[Path], progress: Callable[[int], None] | None = None) -> Collected:
    """Read files and folders of a source (`jsonl` or `pubmed-xml`) in name order, keeping count of what was refused.

    `progress` is called with the number of records read so far.
    """
    reader, endings = {
        "jsonl": (read_jsonl, (".jsonl", ".jsonl.gz")),
        "pubmed-xml": (read_pubmed_xml, (".xml", ".xml.gz")),
    }[source]
    collected = Collected()
    for path in _files(inputs, endings):
        for item in reader(path, collected.refused.append):
            collected.read += 1
            _take(collected, item)
            if progress is not None:
                progress(collected.read)
    return collected


def _take(collected: Collected, item: Article | Deletion) -> None:
    earlier = collected.articles.pop(item.pmid, None)
    if isinstance(item, Deletion):
        collected.deleted += earlier is not None
        return
    collected.duplicates += earlier is not None
    collected.articles[item.pmid] = item


def _files(inputs: Iterable[Path], endings: tuple[str, ...]) -> Iterator[Path]:
    for path in inputs:
        if not path.is_dir():
            yield path
            continue
        found = sorted(child for child in path.iterdir() if child.name.endswith(endings))
        if not found:
            raise ArticleError(f"no {' or '.join(endings)} file in this folder", file=str(path), record="none")
        yield from found


def _raise(error: ArticleError) -> NoReturn:
    raise error


def read_jsonl(path: Path, refuse: Refuse = _raise) -> Iterator[Article]:
    """Articles of a JSON-lines file: `{"pmid", "title", "abstract", "mesh": [{"ui"?, "name", "major"}], "year"?,
    "references": [pmid], "study_type"?, "retracted"?}`. Unknown keys are let be; blank lines are passed over.
    """
    for number, line in enumerate(_lines(path, refuse), 1):
        if not line.strip():
            continue
        try:
            yield article_from_json(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            refuse(ArticleError(f"not JSON: {error}", file=str(path), record=f"line {number}"))
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=f"line {number}"))


def article_from_json(value: Any) -> Article:
    """One article of the JSONL contract; `ValueError` says which field is wrong.

    >>> article_from_json({"pmid": 12, "title": "A title", "mesh": [{"name": "Heart Failure", "major": True}]}).mesh
    (MeshHeading(name='Heart Failure', ui='', major=True, qualifiers=()),)
    >>> article_from_json({"pmid": "twelve", "title": "A title"})
    Traceback (most recent call last):
    ValueError: pmid: 'twelve' is not a PubMed id
    """
    if not isinstance(value, dict):
        raise ValueError("a record is a JSON object")
    title, abstract = _text(value, "title"), _text(value, "abstract")
    if not title and not abstract:
        raise ValueError("neither title nor abstract")
    return Article(
        pmid=_pmid(value.get("pmid"), "pmid"),
        title=title,
        abstract=abstract,
        mesh=tuple(_heading(item) for item in _list(value, "mesh")),
        year=_year(value.get("year")),
        references=tuple(_pmid(item, "references") for item in _list(value, "references")),
        study_type=_text(value, "study_type") or None,
        retracted=_flag(value, "retracted"),
    )


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected a string")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{name}: {len(text)} characters, at most {_MAX_TEXT}")
    return " ".join(text.split())


def _pmid(value: Any, name: str) -> str:
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not _PMID.match(text):
        raise ValueError(f"{name}: {value!r} is not a PubMed id")
    return text


def _year(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{4}", str(value)):
        raise ValueError(f"year: {value!r} is not a year")
    return int(value)


def _list(value: dict[str, Any], name: str) -> list[Any]:
    items = value.get(name)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ValueError(f"{name}: expected a list")
    return items


def _flag(value: dict[str, Any], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        raise ValueError(f"{name}: expected true or false")
    return flag


def _heading(value: Any) -> MeshHeading:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        raise ValueError("mesh: a heading is an object with a name")
    name = _text(value, "name")
    if not name:
        raise ValueError("mesh: a heading without a name")
    return MeshHeading(name, _text(value, "ui"), _flag(value, "major"))


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _lines(path: Path, refuse: Refuse) -> Iterator[bytes]:
    number = 0
    try:
        with _open(path) as stream:
            while line := stream.readline(_MAX_RECORD + 1):
                number += 1
                if len(line) > _MAX_RECORD:
                    refuse(ArticleError("line too long; the rest is not read", file=str(path), record=f"line {number}"))
                    return
                yield line
    except (OSError, EOFError, zlib.error) as error:
        refuse(_unreadable(path, error, f"after line {number}"))


def _unreadable(path: Path, error: Exception, record: str) -> ArticleError:
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ArticleError(f"cannot be read further: {what}", file=str(path), record=record)


def read_pubmed_xml(path: Path, refuse: Refuse = _raise) -> Iterator[Article | Deletion]:
    """Articles of a PubMed baseline or update file, then the PMIDs it deletes.

    Source of the element names: NLM's pubmed_250101 DTD (`PubmedArticleSet`).
    """
    for number, fragment in enumerate(_fragments(path, refuse), 1):
        try:
            element = ElementTree.fromstring(fragment)  # noqa: S314 - a fragment has no DTD, so no entities: see above
        except ElementTree.ParseError as error:
            refuse(ArticleError(f"malformed XML: {error}", file=str(path), record=_named(fragment, number)))
            continue
        if element.tag == "DeleteCitation":
            yield from (Deletion((pmid.text or "").strip()) for pmid in element.iter("PMID"))
            continue
        try:
            yield _article_from_xml(element)
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=_named(fragment, number)))


_RECORD_START = re.compile(rb"<(PubmedArticle|DeleteCitation)[\s>]")


def _fragments(path: Path, refuse: Refuse) -> Iterator[bytes]:
    """The bytes of each record element, in order."""
    held = b""
    count = 0
    try:
        with _open(path) as stream:
            _check_encoding(head := stream.read(_CHUNK))
            chunk = head
            while chunk:
                held += chunk
                fragments, held = _cut(held)
                count += len(fragments)
                yield from fragments
                if len(held) > _MAX_RECORD:
                    raise ValueError(f"a record without end after {_MAX_RECORD} bytes")
                chunk = stream.read(_CHUNK)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        refuse(_unreadable(path, error, f"after record {count}"))
        return
    if unfinished := _RECORD_START.search(held):
        fragment = held[unfinished.start() :]
        refuse(ArticleError("the file ends inside this record", file=str(path), record=_named(fragment, count + 1)))
    elif count == 0 and b"PubmedArticleSet" not in held:
        refuse(ArticleError("no PubmedArticleSet: not a PubMed file", file=str(path), record="none"))


def _cut(held: bytes) -> tuple[list[bytes], bytes]:
    """Whole records in `held`, and what is left for the next chunk."""
    fragments: list[bytes] = []
    position = 0
    while start := _RECORD_START.search(held, position):
        close = b"</" + start.group(1) + b">"
        end = held.find(close, start.end())
        following = _RECORD_START.search(held, start.end())
        if following and (end < 0 or following.start() < end):
            # A record that lost its end tag: give it up as it is, so that the next one is not swallowed with it.
            end, close = following.start(), b""
        if end < 0:
            return fragments, held[start.start() :]
        position = end + len(close)
        fragments.append(held[start.start() : position])
    # Keep enough to find a start tag cut in two by the chunk's end, and the root element of an empty set.
    return fragments, held[max(position, len(held) - 64) :]


def _check_encoding(head: bytes) -> None:
    declared = re.match(rb"\s*<\?xml[^>]*encoding=[\"']([A-Za-z0-9._-]+)", head.removeprefix(b"\xef\xbb\xbf"))
    if declared and declared.group(1).lower() not in {b"utf-8", b"us-ascii"}:
        raise ValueError(f"encoding {declared.group(1).decode()}: PubMed files are UTF-8")


def _named(fragment: bytes, number: int) -> str:
    pmid = re.search(rb"<PMID[^>]*>\s*([0-9]+)", fragment)
    return f"{number} (PMID {pmid.group(1).decode()})" if pmid else str(number)


def _article_from_xml(element: ElementTree.Element) -> Article:
    citation = element.find("MedlineCitation")
    body = citation.find("Article") if citation is not None else None
    if citation is None or body is None:
        raise ValueError("no MedlineCitation/Article")
    types = [(item.get("UI", ""), _content(item).lower()) for item in body.iter("PublicationType")]
    record: dict[str, Any] = {
        "pmid": _content(citation.find("PMID")),
        "title": _content(body.find("ArticleTitle")).removeprefix("[").removesuffix("]."),
        "abstract": "\n".join(_sections(body.find("Abstract"))),
        "year": _publication_year(body),
        "references": _references(element),
        "study_type": next((ours for theirs, ours in _STUDY_TYPES if any(theirs == name for _, name in types)), None),
        "retracted": any(_RETRACTED & set(pair) for pair in types),
    }
    article = article_from_json(record)
    return Article(
        **{name: getattr(article, name) for name in Article.__dataclass_fields__ if name != "mesh"},
        mesh=tuple(_headings(citation.find("MeshHeadingList"))),
    )


def _content(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _sections(abstract: ElementTree.Element | None) -> Iterator[str]:
    if abstract is None:
        return
    for part in abstract.iter("AbstractText"):
        label, text = part.get("Label"), _content(part)
        yield f"{label}: {text}" if label and label != "UNLABELLED" else text


def _publication_year(body: ElementTree.Element) -> int | None:
    date = body.find("Journal/JournalIssue/PubDate")
    text = "" if date is None else " ".join(_content(part) for part in date if part.tag in {"Year", "MedlineDate"})
    # MedlineDate is free text ("1998 Dec-1999 Jan", "Fall 2003"): the first year named.
    found = re.search(r"\b(1[89]|20)[0-9]{2}\b", text)
    return int(found.group()) if found else None


def _references(element: ElementTree.Element) -> list[str]:
    ids = element.iterfind("PubmedData/ReferenceList//ArticleId[@IdType='pubmed']")
    return sorted({text for item in ids if _PMID.match(text := _content(item))}, key=int)


def _headings(listed: ElementTree.Element | None) -> Iterator[MeshHeading]:
    """A heading is major when its descriptor or any of its qualifiers carries the star."""
    for heading in () if listed is None else listed.iterfind("MeshHeading"):
        descriptor = heading.find("DescriptorName")
        if descriptor is None:
            continue
        major = any(part.get("MajorTopicYN") == "Y" for part in heading)
        yield MeshHeading(_content(descriptor), descriptor.get("UI", ""), major)
