"""Concept annotations of abstracts, as PubTator and BioC files give them: articles whose headings are what was marked.

PubTator files are read by `pubtator`. BioC XML: `document` with `id`, `passage`s and their `annotation`s (bioc.dtd,
Comeau et al., Database 2013; NLM's PubTator Central export). Only MeSH descriptors become headings; gene, species,
variant and supplementary ids are left out. An annotation is what a reader or a program marked, never NLM's indexing,
so no heading of it is a major one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from knowledge_index.errors import ArticleError
from knowledge_index.pubmed_xml import Records, fragments
from knowledge_index.pubtator import read_pubtator
from knowledge_index.records import Refuse, article_from_json, raise_it
from knowledge_index.values import Article, MeshHeading
from knowledge_index.vocabulary import entries

_DESCRIPTOR = re.compile(r"(?:MESH:)?(D[0-9]{6,9})\Z", re.IGNORECASE)
_DOCUMENTS = Records(re.compile(rb"<(document)[\s>]"), b"collection")

Marked = list[tuple[str, Sequence[str]]]
"""(mention, ids) of one document."""


def pubtator_articles(path: Path, refuse: Refuse = raise_it) -> Iterator[Article]:
    """Articles of a PubTator file. Relations between concepts are passed over."""
    for document in read_pubtator(path, refuse):
        written = document.article
        marked: Marked = [(found.mention, found.ids) for found in document.annotations]
        try:
            yield _article(written.pmid, written.title, written.abstract, marked)
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=f"line {document.line}"))


def bioc_articles(path: Path, refuse: Refuse = raise_it) -> Iterator[Article]:
    """Articles of a BioC XML file: the passages typed `title` and `abstract`, and their annotations."""
    for number, fragment in enumerate(fragments(path, _DOCUMENTS, refuse), 1):
        try:
            yield _from_document(ElementTree.fromstring(fragment))  # noqa: S314 - no DTD reaches the parser
        except ElementTree.ParseError as error:
            refuse(ArticleError(f"malformed XML: {error}", file=str(path), record=str(number)))
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=str(number)))


def _from_document(document: ElementTree.Element) -> Article:
    texts: dict[str, list[str]] = {"title": [], "abstract": []}
    marked: Marked = []
    for passage in document.iterfind("passage"):
        kind = _infon(passage, "type").lower()
        if kind not in texts:
            continue
        texts[kind].append(passage.findtext("text") or "")
        for annotation in passage.iterfind("annotation"):
            ids = _infon(annotation, "identifier") or _infon(annotation, "MESH")
            marked.append((annotation.findtext("text") or "", re.split(r"[|,;]", ids)))
    pmid = (document.findtext("id") or "").strip()
    return _article(pmid, " ".join(texts["title"]), " ".join(texts["abstract"]), marked)


def _infon(element: ElementTree.Element, key: str) -> str:
    return next((infon.text or "" for infon in element.iterfind("infon") if infon.get("key") == key), "").strip()


def _article(pmid: str, title: str, abstract: str, marked: Marked) -> Article:
    mesh = [{"name": heading.name, "ui": heading.ui} for heading in _headings(marked)]
    return article_from_json({"pmid": pmid, "title": title, "abstract": abstract, "mesh": mesh})


def _headings(marked: Marked) -> Iterator[MeshHeading]:
    """One heading for each descriptor: named as the vocabulary names it, or else by its most frequent mention."""
    mentions: dict[str, Counter[str]] = {}
    for mention, ids in marked:
        for one in ids:
            found = _DESCRIPTOR.match(one.strip())
            if found and mention.strip():
                mentions.setdefault(found.group(1).upper(), Counter())[" ".join(mention.split())] += 1
    names = _names()
    for ui, counted in mentions.items():
        most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[0][0]
        yield MeshHeading(names.get(ui, most), ui)


def _names() -> dict[str, str]:
    return {entry.concept.ui: entry.concept.name for entry in entries()}


def read_annotations(paths: Iterable[Path], refuse: Refuse = raise_it) -> Mapping[str, tuple[MeshHeading, ...]]:
    """Headings by PMID from annotation files, to be added to articles of another source; `.xml` is BioC."""
    found: dict[str, tuple[MeshHeading, ...]] = {}
    for path in paths:
        reader = bioc_articles if path.name.endswith((".xml", ".xml.gz")) else pubtator_articles
        found |= {article.pmid: article.mesh for article in reader(path, refuse)}
    return found
