"""Builds an index folder from articles: vectors, BM25, graph, articles, manifest.

Vectors are the expensive part and are computed shard by shard in a work folder beside the target; each shard is named
by the hash of its encoder and texts. A killed build that is run again with `resume=True` encodes only the missing
shards. The work folder is removed once the index is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, overload

import numpy as np
import orjson

from artifact_store import MANIFEST
from knowledge_index.core.arrays import save_array
from knowledge_index.core.articles import save_articles
from knowledge_index.core.errors import ArticleError, ArtifactError
from knowledge_index.core.storage import Manifest, publish
from knowledge_index.core.values import Article, Concept, Triple
from knowledge_index.encoders.registry import Encoder
from knowledge_index.graph.communities import write_communities
from knowledge_index.graph.edges import concept_key, edges_of, is_check_tag
from knowledge_index.graph.files import load_graph, write_graph
from knowledge_index.graph.triples import TripleExtractor
from knowledge_index.indexing.shards import Engine, Progress, encoded
from knowledge_index.search.bm25 import write_bm25
from knowledge_index.search.vector_files import write_vectors
from knowledge_index.vocabulary.entries import entries, tree_numbers
from knowledge_index.vocabulary.linker import Linker

STATEMENTS = "statements.json"
Statements = Callable[[Linker], TripleExtractor]
"""Creates the extractor of statements from a linker with the index's names."""


def build_index(
    articles: Iterable[Article] | Mapping[str, Article],
    out: Path,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
    source: str = "articles",
    resume: bool = False,
    engine: Engine | None = None,
    vocabulary: Iterable[Concept] = (),
    statements: Statements | None = None,
) -> Manifest:
    """Builds an index into `out` atomically and returns its manifest.

    `progress(done, total)` counts encoded articles. Of two articles with one PMID the last wins. A mapping from PMID to
    article (`SpooledArticles`) is read one article at a time. `engine` encodes outside this process, see `shards`.
    `vocabulary` adds concepts with their names to the shipped ones (see `vocabulary_files`); the index stores them.
    `statements` creates the extractor of statements about two concepts (`RuleTripleExtractor`): none by default, as it
    did not improve retrieval (decision 0009); statements are stored, so that an update reads new articles only.
    Raises `ArticleError` where there is no article, `ArtifactError` where `out` contains anything but an index.
    """
    listed = Ordered(articles if isinstance(articles, Mapping) else {article.pmid: article for article in articles})
    if not listed:
        raise ArticleError("no article to index", file=str(out), record="none")
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise ArtifactError("not empty and not an index: it is left as it is", path=str(out))
    work = work_folder(out, resume)
    parts = encoded(listed, work / "shards", encoder, progress, engine)
    new = work / "new"
    if new.exists():
        shutil.rmtree(new)
    new.mkdir()
    write_vectors(new, parts, len(listed))
    counts = write_text_and_graph(listed, new, tuple(vocabulary), statements)
    manifest = publish(new, out, described(source, encoder, counts))
    shutil.rmtree(work)
    return manifest


def work_folder(out: Path, resume: bool) -> Path:
    """The folder for shards beside an index; shards of an earlier build are kept only with `resume`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(out.name + ".work")
    if not resume and (work / "shards").exists():
        shutil.rmtree(work / "shards")
    (work / "shards").mkdir(parents=True, exist_ok=True)
    return work


def described(source: str, encoder: Encoder, counts: dict[str, int]) -> Manifest:
    """The manifest of a new index, still without its files."""
    return Manifest(source, encoder.name, encoder.fingerprint, encoder.dimensions, counts, f"riskcards {_version()}")


def write_text_and_graph(
    articles: Sequence[Article],
    folder: Path,
    vocabulary: Sequence[Concept] = (),
    statements: Statements | None = None,
) -> dict[str, int]:
    """Writes everything but the vectors; returns the counts for the manifest."""
    terms = write_bm25(folder, (article.text for article in articles))
    by_name = _descriptor_by_name(articles, vocabulary)
    concepts = concepts_of(articles, by_name, vocabulary)
    reader = statements(Linker(concept for concept in concepts if concept.synonyms)) if statements else None
    triples = [triple for article in articles for triple in reader.extract(article)] if reader else []
    if reader:
        kept = [[t.pmid, t.subject, t.relation, t.object] for t in triples]
        (folder / STATEMENTS).write_bytes(orjson.dumps(kept))
    nodes = len(articles) + len(concepts)
    edges = write_graph(folder, edges_of(articles, concepts, by_name, triples), len(articles), nodes)
    (folder / "concepts.json").write_bytes(orjson.dumps([_row(concept) for concept in concepts]))

    graph = load_graph(folder, len(articles), len(concepts))
    levels, communities = write_communities(folder, graph, articles, concepts)
    save_articles(folder, articles)
    retracted = np.fromiter((article.retracted for article in articles), np.bool_, len(articles))
    save_array(folder, "retracted", retracted)
    return {
        "articles": len(articles),
        "concepts": len(concepts),
        "edges": edges,
        "terms": terms,
        "communities": communities,
        "community_levels": levels,
        "retracted": int(retracted.sum()),
        **({"statements": len(triples)} if reader else {}),
    }


class Ordered(Sequence[Article]):
    """The articles of a mapping by position, each read on access."""

    def __init__(self, articles: Mapping[Any, Article]) -> None:
        self._articles, self._keys = articles, list(articles)

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, position: int) -> Article: ...
    @overload
    def __getitem__(self, position: slice) -> list[Article]: ...
    def __getitem__(self, position: int | slice) -> Article | list[Article]:
        if isinstance(position, slice):
            return [self._articles[key] for key in self._keys[position]]
        return self._articles[self._keys[position]]


def stored_statements(folder: Path) -> dict[str, list[Triple]] | None:
    """The stored statements of an index by PMID; None where it was built without."""
    path = folder / STATEMENTS
    if not path.is_file():
        return None
    found: dict[str, list[Triple]] = {}
    for pmid, subject, relation, object_ in orjson.loads(path.read_bytes()):
        found.setdefault(pmid, []).append(Triple(subject, relation, object_, pmid))
    return found


def stored_vocabulary(folder: Path) -> tuple[Concept, ...]:
    """The vocabulary an index was built with: the concepts whose names it stores."""
    rows = orjson.loads((folder / "concepts.json").read_bytes())
    return tuple(Concept(row[0], row[1], tuple(row[2]), tuple(row[3])) for row in rows if len(row) > 3)


def _row(concept: Concept) -> list[Any]:
    """Id, name, tree numbers and, where the vocabulary has them, the other names."""
    row = [concept.ui, concept.name, list(concept.tree_numbers)]
    return [*row, list(concept.synonyms)] if concept.synonyms else row


def _descriptor_by_name(articles: Iterable[Article], vocabulary: Sequence[Concept]) -> dict[str, str]:
    """Lower-case heading name -> descriptor id, from the vocabularies and from headings with ids."""
    shipped = (entry.concept for entry in entries())
    known = {" ".join(concept.name.lower().split()): concept.ui for concept in (*vocabulary, *shipped)}
    given = (heading for article in articles for heading in article.mesh if heading.ui)
    return {" ".join(heading.name.lower().split()): heading.ui for heading in given} | known


def concepts_of(
    articles: Iterable[Article], by_name: dict[str, str], vocabulary: Sequence[Concept] = ()
) -> tuple[Concept, ...]:
    """The concepts of a graph: every heading of the articles (without check tags) and the vocabularies.

    The vocabularies' concepts are included even without articles, so that a patient's concept reaches its neighbours in
    the MeSH tree. Names of the shipped vocabulary are part of the program; those of other vocabularies are stored here.
    """
    found = {entry.concept.ui: replace(entry.concept, synonyms=()) for entry in entries()}
    for concept in vocabulary:
        names = tuple(name for name in (concept.name, *concept.synonyms))
        known = found.get(concept.ui, concept)
        found[concept.ui] = replace(known, synonyms=tuple(name for name in names if name != known.name))
    for article in articles:
        for heading in article.mesh:
            if is_check_tag(heading.name):
                continue
            ui = heading.ui or by_name.get(" ".join(heading.name.lower().split()), "")
            key = concept_key(heading.name, ui)
            if key not in found:
                found[key] = Concept(key, heading.name, tree_numbers().get(ui, ()))
    return tuple(found[key] for key in sorted(found))


def _version() -> str:
    try:
        return version("riskcards")
    except PackageNotFoundError:
        return "from source"
