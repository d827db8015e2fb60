"""PubTator files: abstracts with annotated concepts and relations (NCBI's format, also of BC5CDR and PubTator 3).

    8701013|t|Title
    8701013|a|Abstract
    8701013 <tab> 0 <tab> 10 <tab> Famotidine <tab> Chemical <tab> D015738
    8701013 <tab> CID <tab> D015738 <tab> D003693

Offsets count characters of title, one separator, abstract. A mention may carry several ids (`D001|D002`) or none
(`-1`, `-`); ids of `MESH:` are written with and without that prefix. `annotations` makes articles with headings of such
files; here they are read whole, with places and relations.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from knowledge_index.errors import ArticleError
from knowledge_index.values import Article, Triple

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
"""How the relation types of BC5CDR, BioRED and PubTator 3 read; another type reads as it is written."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mention: offsets into the document's text, what is written there, its type, its ids."""

    start: int
    end: int
    mention: str
    kind: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotated:
    """One document with what its annotators found."""

    article: Article
    annotations: tuple[Annotation, ...]
    triples: tuple[Triple, ...]

    @property
    def text(self) -> str:
        """What the offsets count in."""
        return f"{self.article.title} {self.article.abstract}"


@dataclass(slots=True)
class _Open:
    """A document whose lines are still being read."""

    pmid: str
    title: str = ""
    abstract: str = ""
    annotations: list[Annotation] = field(default_factory=list)
    triples: list[Triple] = field(default_factory=list)

    def closed(self) -> Annotated:
        return Annotated(Article(self.pmid, self.title, self.abstract), tuple(self.annotations), tuple(self.triples))


def read_pubtator(path: Path) -> Iterator[Annotated]:
    """Documents of a file, plain or .gz. Raises `ArticleError` naming the line that cannot be read."""
    opened: _Open | None = None
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            written = line.rstrip("\r\n")
            pmid = written.replace("\t", "|", 1).partition("|")[0].strip()
            if opened is not None and pmid != opened.pmid:
                yield opened.closed()
                opened = None
            if not pmid:
                continue
            opened = opened or _Open(pmid)
            try:
                _take(opened, written)
            except (ValueError, IndexError) as error:
                raise ArticleError(f"not PubTator: {error}", file=str(path), record=f"line {number}") from error
    if opened is not None:
        yield opened.closed()


def _take(document: _Open, line: str) -> None:
    columns = line.split("\t")
    if len(columns) == 1:
        _, kind, text = line.split("|", 2)
        if kind not in ("t", "a"):
            raise ValueError(f"a text line is |t| or |a|, not |{kind}|")
        setattr(document, "title" if kind == "t" else "abstract", text)
    elif columns[1].isdigit():
        ids = tuple(_plain(one) for one in columns[5].replace(",", "|").split("|")) if len(columns) > 5 else ()
        known = tuple(one for one in ids if one not in ("", "-", "-1"))
        document.annotations.append(Annotation(int(columns[1]), int(columns[2]), columns[3], columns[4], known))
    else:
        relation = RELATION_WORDS.get(columns[1], columns[1].replace("_", " ").lower())
        document.triples.append(Triple(_plain(columns[2]), relation, _plain(columns[3]), document.pmid))


def _plain(written: str) -> str:
    return written.strip().removeprefix("MESH:")
