"""Reads PubMed XML, baseline and update files, as a stream, plain or gzipped.

The XML is split into records before parsing: a malformed record affects only itself, memory holds one record, and no
DTD reaches the parser, so entities cannot be declared or expanded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from knowledge_index.core.errors import ArticleError
from knowledge_index.core.values import Article, MeshHeading, Notice
from knowledge_index.sources.records import (
    MAX_RECORD,
    PMID,
    Deletion,
    Refuse,
    article_from_json,
    open_stream,
    raise_it,
    unreadable,
)

_CHUNK = 1 << 20
_PIECE = 1 << 16
_RETRACTED = {"retracted publication", "D016441"}
_STANDING = ("Retraction", "Erratum", "ExpressionOfConcern", "CorrectedandRepublished", "RetractedandRepublished")
# Strongest design first: of several publication types the first one counts.
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


def read_pubmed_xml(path: Path, refuse: Refuse = raise_it) -> Iterator[Article | Deletion]:
    """Articles of a PubMed baseline or update file, then the PMIDs it deletes.

    Source of the element names: NLM's pubmed_250101 DTD (`PubmedArticleSet`).
    """
    for number, fragment in enumerate(fragments(path, _RECORDS, refuse), 1):
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


@dataclass(frozen=True, slots=True)
class Records:
    """The layout of a file: the start tag of records, and the root element that identifies the format."""

    start: re.Pattern[bytes]
    root: bytes


_RECORDS = Records(re.compile(rb"<(PubmedArticle|DeleteCitation)[\s>]"), b"PubmedArticleSet")


def fragments(path: Path, records: Records, refuse: Refuse) -> Iterator[bytes]:
    """The bytes of each record element, in order."""
    held = b""
    count = 0
    try:
        with open_stream(path) as stream:
            for number, chunk in enumerate(chunks(stream)):
                if number == 0:
                    _check_encoding(chunk)
                held += chunk
                whole, held = _cut(held, records.start)
                count += len(whole)
                yield from whole
                if len(held) > MAX_RECORD:
                    raise ValueError(f"a record without end after {MAX_RECORD} bytes")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        refuse(unreadable(path, error, f"after record {count}"))
        return
    if unfinished := records.start.search(held):
        fragment = held[unfinished.start() :]
        refuse(ArticleError("the file ends inside this record", file=str(path), record=_named(fragment, count + 1)))
    elif count == 0 and records.root not in held:
        root = records.root.decode()
        kind = "a PubMed" if root == "PubmedArticleSet" else "such a"
        refuse(ArticleError(f"no {root}: not {kind} file", file=str(path), record="none"))


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Chunks of about `_CHUNK` bytes. The readable part of a damaged archive is yielded before its error is raised."""
    waiting = bytearray()
    try:
        # One large read of a damaged archive would raise without data.
        while piece := stream.read1(_PIECE):  # type: ignore[attr-defined]
            waiting += piece
            if len(waiting) >= _CHUNK:
                yield bytes(waiting)
                waiting.clear()
    except (OSError, EOFError, zlib.error):
        yield bytes(waiting)
        raise
    yield bytes(waiting)


def _cut(held: bytes, record_start: re.Pattern[bytes]) -> tuple[list[bytes], bytes]:
    """(complete records in `held`, rest for the next chunk)."""
    whole: list[bytes] = []
    position = 0
    while start := record_start.search(held, position):
        close = b"</" + start.group(1) + b">"
        end = held.find(close, start.end())
        following = record_start.search(held, start.end())
        if following and (end < 0 or following.start() < end):
            # A record without end tag: yield it as it is, so that it does not absorb the next one.
            end, close = following.start(), b""
        if end < 0:
            return whole, held[start.start() :]
        position = end + len(close)
        whole.append(held[start.start() : position])
    # Keep enough to find a start tag split by the chunk boundary, and the root element of an empty set.
    return whole, held[max(position, len(held) - 64) :]


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
        "first_author": _first_author(body.find("AuthorList")),
        "journal": _content(body.find("Journal/ISOAbbreviation")) or _content(body.find("Journal/Title")),
        "language": language if (language := _content(body.find("Language"))) != "eng" else "",
    }
    notices = tuple(_notices(citation.find("CommentsCorrectionsList")))
    return replace(
        article_from_json(record),
        mesh=tuple(_headings(citation.find("MeshHeadingList"))),
        notices=notices,
        retracted=any(_RETRACTED & set(pair) for pair in types) or any(n.kind == "RetractionIn" for n in notices),
    )


def _first_author(authors: ElementTree.Element | None) -> str:
    """The surname of the first author, or the name of the group that wrote the article."""
    first = None if authors is None else authors.find("Author")
    return "" if first is None else _content(first.find("LastName")) or _content(first.find("CollectiveName"))


def _notices(listed: ElementTree.Element | None) -> Iterator[Notice]:
    """Retractions, errata and expressions of concern, in both directions; comments and updates are left out."""
    for item in () if listed is None else listed.iterfind("CommentsCorrections"):
        kind = item.get("RefType", "")
        if kind.startswith(_STANDING):
            yield Notice(kind, pmid if PMID.match(pmid := _content(item.find("PMID"))) else "")


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
    # MedlineDate is free text ("1998 Dec-1999 Jan", "Fall 2003"): use the first year.
    found = re.search(r"\b(1[89]|20)[0-9]{2}\b", text)
    return int(found.group()) if found else None


def _references(element: ElementTree.Element) -> list[str]:
    ids = element.iterfind("PubmedData/ReferenceList//ArticleId[@IdType='pubmed']")
    return sorted({text for item in ids if PMID.match(text := _content(item))}, key=int)


def _headings(listed: ElementTree.Element | None) -> Iterator[MeshHeading]:
    """Headings; one is major where its descriptor or any of its qualifiers is a major topic."""
    for heading in () if listed is None else listed.iterfind("MeshHeading"):
        descriptor = heading.find("DescriptorName")
        if descriptor is None:
            continue
        major = any(part.get("MajorTopicYN") == "Y" for part in heading)
        qualifiers = tuple(
            ("*" if part.get("MajorTopicYN") == "Y" else "") + _content(part)
            for part in heading.iterfind("QualifierName")
        )
        yield MeshHeading(_content(descriptor), descriptor.get("UI", ""), major, qualifiers)
