"""Reads PubTator and BioC files: articles whose headings are their concept annotations.

PubTator files are read by `pubtator`. BioC, XML or JSON: `document` with `id`, `passage`s and their `annotation`s
(bioc.dtd, Comeau et al., Database 2013; NLM's PubTator Central export; for JSON see `bioc_json`). Only MeSH descriptors
become headings; gene, species, variant and supplementary ids are left out. Annotations are made by readers or programs
and are not NLM's indexing, so none of these headings is major.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from knowledge_index.core.errors import ArticleError
from knowledge_index.core.values import Article, MeshHeading, Triple
from knowledge_index.sources.bioc_json import read_bioc_json
from knowledge_index.sources.pubmed_xml import Records, fragments
from knowledge_index.sources.pubtator import RELATION_WORDS, read_pubtator
from knowledge_index.sources.records import Refuse, article_from_json, open_stream, raise_it
from knowledge_index.vocabulary.entries import entries

_DESCRIPTOR = re.compile(r"(?:MESH:)?(D[0-9]{6,9})\Z", re.IGNORECASE)
_DOCUMENTS = Records(re.compile(rb"<(document)[\s>]"), b"collection")

BIOC_ENDINGS = (".xml", ".xml.gz", ".json", ".json.gz")

Marked = list[tuple[str, Sequence[str]]]
"""(mention, ids) of one document."""


def pubtator_articles(path: Path, refuse: Refuse = raise_it) -> Iterator[Article]:
    """Articles of a PubTator file. Relations between concepts are ignored."""
    for document in read_pubtator(path, refuse):
        written = document.article
        marked: Marked = [(found.mention, found.ids) for found in document.annotations]
        try:
            yield _article(written.pmid, written.title, written.abstract, marked)
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=f"line {document.line}"))


def bioc_articles(path: Path, refuse: Refuse = raise_it) -> Iterator[Article]:
    """Articles of a BioC file, XML or JSON by its content: title and abstract, and their annotations."""
    yield from (_bioc_json_articles if _is_json(path) else _bioc_xml_articles)(path, refuse)


def _is_json(path: Path) -> bool:
    try:
        with open_stream(path) as stream:
            return stream.read(256).lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"{", b"["))
    except (OSError, EOFError, zlib.error):
        # The reader reports the error with its position.
        return path.name.endswith((".json", ".json.gz"))


def _bioc_xml_articles(path: Path, refuse: Refuse) -> Iterator[Article]:
    source = _source_of(path)
    for number, fragment in enumerate(fragments(path, _DOCUMENTS, refuse), 1):
        try:
            yield _from_element(ElementTree.fromstring(fragment), source)  # noqa: S314 - no DTD reaches the parser
        except ElementTree.ParseError as error:
            refuse(ArticleError(f"malformed XML: {error}", file=str(path), record=str(number)))
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=str(number)))


def _bioc_json_articles(path: Path, refuse: Refuse) -> Iterator[Article]:
    for number, document in read_bioc_json(path, refuse):
        try:
            yield _from_object(document)
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=str(number)))


_PARTS = {"title": "title", "front": "title", "abstract": "abstract"}
"""`type` or `section_type` of a passage -> part of the article. Others (references, tables) are not indexed."""

_Passage = tuple[str, str, Marked]
"""Part of the article, text, annotations."""
_PMID_INFONS = ("article-id_pmid", "pmid")
_PMC_INFONS = ("article-id_pmc", "pmcid", "article-id_pmcid", "article-id_pmcaid")
_PMC_NUMBER = re.compile(r"(?:PMC)?[0-9]+\Z", re.IGNORECASE)


def _article_number(identifier: str, infons: Iterable[Mapping[str, str]], source: str) -> str:
    """Returns the PMID of a document: stated in its infons, else its id, unless that is a PMC number.

    In PMC's files the id is the PMC number, with or without "PMC": as a PMID it would be another article. Raises
    ValueError where there is no PMID.
    """
    listed = list(infons)
    stated = next((item[key].strip() for key in _PMID_INFONS for item in listed if item.get(key, "").strip()), "")
    if stated:
        return stated
    of_pmc = any(item.get(key) for key in _PMC_INFONS for item in listed) or "PMC" in source.upper()
    if identifier.upper().startswith("PMC") or (of_pmc and _PMC_NUMBER.match(identifier)):
        raise ValueError(f"document {identifier}: a PMC number and no PMID (article-id_pmid); it cannot be cited")
    return identifier


def _from_passages(pmid: Any, passages: Iterable[_Passage]) -> Article:
    texts: dict[str, list[str]] = {"title": [], "abstract": []}
    marked: Marked = []
    for kind, text, found in passages:
        part = _PARTS.get(kind.lower())
        if part:
            texts[part].append(text)
            marked.extend(found)
    return _article(pmid, " ".join(texts["title"]), " ".join(texts["abstract"]), marked)


_SOURCE = re.compile(rb"<source>([^<]{0,200})</source>")


def _source_of(path: Path) -> str:
    """Returns the `source` of a BioC XML collection, such as PMC; empty where it is not in the head."""
    try:
        with open_stream(path) as stream:
            found = _SOURCE.search(stream.read(4096))
    except (OSError, EOFError, zlib.error):
        return ""
    return found[1].decode("utf-8", "replace") if found else ""


def _from_element(document: ElementTree.Element, source: str) -> Article:
    passages = list(document.iterfind("passage"))
    infons = [
        {infon.get("key", ""): infon.text or "" for infon in item.iterfind("infon")} for item in (document, *passages)
    ]
    pmid = _article_number((document.findtext("id") or "").strip(), infons, source)
    return _from_passages(pmid, map(_passage_of, passages))


def _passage_of(passage: ElementTree.Element) -> _Passage:
    marked: Marked = [
        (found.findtext("text") or "", _ids(_infon(found, "identifier") or _infon(found, "MESH")))
        for found in passage.iterfind("annotation")
    ]
    return _infon(passage, "section_type") or _infon(passage, "type"), passage.findtext("text") or "", marked


def _infon(element: ElementTree.Element, key: str) -> str:
    return next((infon.text or "" for infon in element.iterfind("infon") if infon.get("key") == key), "").strip()


def _from_object(document: dict[str, Any]) -> Article:
    passages = [_passage_in(item) for item in _objects(document, "passages")]
    return _from_passages(_pmid(document), passages)


def _passage_in(passage: dict[str, Any]) -> _Passage:
    marked: Marked = [
        (_written(found, "text"), _ids(_written(infons, "identifier") or _written(infons, "MESH")))
        for found in _objects(passage, "annotations")
        for infons in [found.get("infons") or {}]
    ]
    infons = passage.get("infons") or {}
    return _written(infons, "section_type") or _written(infons, "type"), _written(passage, "text"), marked


def annotated_triples(paths: Iterable[Path], refuse: Refuse = raise_it) -> dict[str, tuple[Triple, ...]]:
    """The annotators' own relations, by PMID, of PubTator and BioC JSON files (of MeSH descriptors; not from
    BioC XML). Raises `ArticleError` where the files hold none.
    """
    listed, found = list(paths), dict[str, tuple[Triple, ...]]()
    for path in listed:
        if _is_json(path):
            stated = _stated_in(path, refuse)
        else:
            stated = ((d.article.pmid, d.triples) for d in read_pubtator(path, refuse))
        found |= {pmid: triples for pmid, triples in stated if triples}
    if not found:
        names = ", ".join(map(str, listed)) or "no file"
        raise ArticleError(
            "no relation of two concepts in it, of PubTator's format or BioC JSON", file=names, record="none"
        )
    return found


def _stated_in(path: Path, refuse: Refuse) -> Iterator[tuple[str, tuple[Triple, ...]]]:
    for number, document in read_bioc_json(path, refuse):
        try:
            yield _pmid(document), _stated(document)
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=str(number)))


def _pmid(document: dict[str, Any]) -> str:
    """Returns the PMID of a document; raises ValueError where it has only a PMC number."""
    if stated := _written(document, "pmid"):
        return stated
    holders = [document, *_objects(document, "passages")]
    infons = [item.get("infons") for item in holders]
    texts = [{key: str(value) for key, value in found.items()} for found in infons if isinstance(found, dict)]
    texts.append({"pmcid": _written(document, "pmcid")})
    return _article_number(_written(document, "id"), texts, _written(document, "source"))


def _stated(document: dict[str, Any]) -> tuple[Triple, ...]:
    """PubTator 3 names both ends in `role1` and `role2`, BC5CDR's export by their types, others by annotation."""
    marked = {
        _written(found, "id"): _written(found.get("infons") or {}, "identifier")
        for passage in _objects(document, "passages")
        for found in _objects(passage, "annotations")
    }
    triples = []
    for item in _objects(document, "relations"):
        infons = item.get("infons") or {}
        ends = [_written(infons.get(role), "identifier") for role in ("role1", "role2")]
        by_node = [marked.get(_written(node, "refid"), "") for node in _objects(item, "nodes")]
        by_type = [_written(infons, kind) for kind in ("Chemical", "Disease")]
        pair = next((uis for names in (ends, by_type, by_node) if len(uis := _descriptors(names)) == 2), None)
        kind = _written(infons, "type") or _written(infons, "relation")
        if pair:
            words = RELATION_WORDS.get(kind, kind.replace("_", " ").lower())
            triples.append(Triple(pair[0], words, pair[1], _pmid(document)))
    return tuple(triples)


def _descriptors(names: Iterable[str]) -> list[str]:
    return [found.group(1).upper() for name in names if (found := _DESCRIPTOR.match(name))]


def _objects(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = value.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{key}: expected a list of objects")
    return items


def _written(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return str(found).strip() if isinstance(found, (str, int)) else ""


def _ids(written: str) -> list[str]:
    return re.split(r"[|,;]", written)


def _article(pmid: Any, title: str, abstract: str, marked: Marked) -> Article:
    mesh = [{"name": heading.name, "ui": heading.ui} for heading in _headings(marked)]
    return article_from_json({"pmid": pmid, "title": title, "abstract": abstract, "mesh": mesh})


def _headings(marked: Marked) -> Iterator[MeshHeading]:
    """One heading for each descriptor: with the vocabulary's name, or else its most frequent mention."""
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
    """Headings by PMID from annotation files, to be added to articles of another source; `.xml`, `.json`: BioC."""
    found: dict[str, tuple[MeshHeading, ...]] = {}
    for path in paths:
        reader = bioc_articles if path.name.endswith(BIOC_ENDINGS) else pubtator_articles
        found |= {article.pmid: article.mesh for article in reader(path, refuse)}
    return found
