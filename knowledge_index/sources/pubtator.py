"""Reads PubTator files: abstracts with annotated concepts and relations (NCBI's format, also of BC5CDR and PubTator 3).

    8701013|t|Title
    8701013|a|Abstract
    8701013 <tab> 0 <tab> 10 <tab> Famotidine <tab> Chemical <tab> D015738
    8701013 <tab> CID <tab> D015738 <tab> D003693

Offsets count characters of title, one separator, abstract. A mention may have several ids (`D001|D002`) or none (`-1`,
`-`); the prefix `MESH:` of ids is optional. Documents are separated by an empty line. `annotations` turns the documents
into articles with headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from knowledge_index.core.errors import ArticleError
from knowledge_index.core.values import Article, Triple
from knowledge_index.sources.records import Refuse, lines_of, raise_it

RELATION_WORDS = {
    "CID": "induces",
    "cause": "causes",
    "treat": "treats",
    "prevent": "prevents",
    "inhibit": "inhibits",
    "stimulate": "stimulates",
    "interact": "interacts with",
    "associate": "is associated with",
    "Association": "is associated with",
    "Positive_Correlation": "increases",
    "Negative_Correlation": "decreases",
    "Cotreatment": "is given with",
    "Drug_Interaction": "interacts with",
    "Comparison": "is compared with",
}
"""Relation types of BC5CDR, BioRED and PubTator 3 -> phrase; other types are used as written."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mention: offsets into the document's text, the mentioned text, its type, its ids."""

    start: int
    end: int
    mention: str
    kind: str
    ids: tuple[str, ...]


_TEXT = re.compile(r"([0-9]+)\|([ta])\|(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Annotated:
    """One document with its annotations. The text is unchanged, so that offsets stay valid; `line` is its first line
    in the file.
    """

    article: Article
    annotations: tuple[Annotation, ...]
    triples: tuple[Triple, ...]
    line: int

    @property
    def text(self) -> str:
        """The text that offsets refer to."""
        return f"{self.article.title} {self.article.abstract}"


@dataclass(slots=True)
class _Open:
    """A document that is still being read."""

    pmid: str
    line: int
    texts: dict[str, str] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    triples: list[Triple] = field(default_factory=list)

    def closed(self) -> Annotated:
        article = Article(self.pmid, self.texts.get("t", ""), self.texts.get("a", ""))
        return Annotated(article, tuple(self.annotations), tuple(self.triples), self.line)


def read_pubtator(path: Path, refuse: Refuse = raise_it) -> Iterator[Annotated]:
    """Documents of a file, plain or .gz. A document with a malformed line is refused; the error names the line."""
    for first, lines in _blocks(path, refuse):
        document = _Open(re.split(r"[|\t]", lines[0], maxsplit=1)[0].strip(), first)
        for number, line in enumerate(lines, first):
            try:
                _take(document, line)
            except ValueError as error:
                refuse(ArticleError(f"not PubTator: {error}", file=str(path), record=f"line {number}"))
                break
        else:
            yield document.closed()


def _blocks(path: Path, refuse: Refuse) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, lines) of each run of non-empty lines."""
    block: list[str] = []
    number = 0
    for number, line in enumerate(lines_of(path, refuse), 1):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.strip():
            block.append(text)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def _take(document: _Open, line: str) -> None:
    """Adds a line to the document; `ValueError` where it is neither text, mention nor relation of it."""
    text, columns = _TEXT.fullmatch(line), line.split("\t")
    if (text.group(1) if text else columns[0].strip()) != document.pmid:
        raise ValueError(f"a line of another document ({line[:20]!r}) without an empty line between")
    if text:
        document.texts[text.group(2)] = text.group(3)
    elif len(columns) >= 5 and columns[1].isdigit():
        ids = re.split(r"[|,;]", columns[5]) if len(columns) > 5 else []
        known = tuple(one for one in map(_plain, ids) if one not in ("", "-", "-1"))
        document.annotations.append(Annotation(int(columns[1]), int(columns[2]), columns[3], columns[4], known))
    elif len(columns) >= 4 and not columns[1].isdigit():
        relation = RELATION_WORDS.get(columns[1], columns[1].replace("_", " ").lower())
        document.triples.append(Triple(_plain(columns[2]), relation, _plain(columns[3]), document.pmid))
    else:
        raise ValueError(f"neither text nor annotation: {line[:40]!r}")


def _plain(written: str) -> str:
    return written.strip().removeprefix("MESH:")
