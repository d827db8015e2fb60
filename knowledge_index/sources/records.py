"""Validates article records and opens their streams."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from knowledge_index.core.errors import ArticleError
from knowledge_index.core.values import Article, MeshHeading

Refuse = Callable[[ArticleError], None]

MAX_TEXT = 200_000
"""Maximum characters of an abstract. PubMed's longest are near 30,000; more is a broken export."""
MAX_RECORD = 32 * 1024 * 1024
"""Maximum bytes of a record: bounds memory for files without line ends or end tags."""
PMID = re.compile(r"[0-9]{1,10}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that a PubMed update file withdraws."""

    pmid: str


def raise_it(error: ArticleError) -> NoReturn:
    """The default for `refuse`: raises the error, so that malformed records are not ignored by accident."""
    raise error


def article_from_json(value: Any) -> Article:
    """One article of the JSONL format; `ValueError` names the malformed field.

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
        language=_text(value, "language") or None,
        first_author=_text(value, "first_author") or None,
        journal=_text(value, "journal") or None,
        factors=_names(value, "factors"),
        outcomes=_names(value, "outcomes"),
        populations=_names(value, "populations"),
    )


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected a string")
    if len(text) > MAX_TEXT:
        raise ValueError(f"{name}: {len(text)} characters, at most {MAX_TEXT}")
    return " ".join(text.split())


def _pmid(value: Any, name: str) -> str:
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not PMID.match(text):
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


def _names(value: dict[str, Any], name: str) -> tuple[str, ...]:
    items = _list(value, name)
    if not all(isinstance(item, str) and item for item in items):
        raise ValueError(f"{name}: expected a list of names")
    return tuple(items)


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
    qualifiers = tuple(item for item in _list(value, "qualifiers") if isinstance(item, str))
    return MeshHeading(name, _text(value, "ui"), _flag(value, "major"), qualifiers)


def open_stream(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def lines_of(path: Path, refuse: Refuse) -> Iterator[bytes]:
    number = 0
    try:
        with open_stream(path) as stream:
            while line := stream.readline(MAX_RECORD + 1):
                number += 1
                if len(line) > MAX_RECORD:
                    refuse(ArticleError("line too long; the rest is not read", file=str(path), record=f"line {number}"))
                    return
                yield line
    except (OSError, EOFError, zlib.error) as error:
        refuse(unreadable(path, error, f"after line {number}"))


def unreadable(path: Path, error: Exception, record: str) -> ArticleError:
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if "CRC" in what:
        what += "; the archive is damaged and records before this place may be altered: fetch it again"
    return ArticleError(f"cannot be read further: {what}", file=str(path), record=record)
