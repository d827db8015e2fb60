"""An open index: concept linking, and retrieval by BM25, vectors, both, and the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array
from knowledge_index.core.articles import ArticleStore
from knowledge_index.core.errors import RetrievalError
from knowledge_index.core.storage import Manifest, opened, read_manifest
from knowledge_index.core.values import (
    Article,
    Concept,
    Evidence,
    Factor,
    LinkedConcept,
    LiteratureSubject,
    Outcome,
    PathStep,
    Query,
)
from knowledge_index.encoders.registry import Encoder, encode_queries, encoder_named
from knowledge_index.graph.files import load_graph
from knowledge_index.retrieval.loading import (
    check_same_encoder,
    checked_vectors,
    load_bm25,
    load_communities,
    load_concepts,
)
from knowledge_index.retrieval.passages import best_passage
from knowledge_index.retrieval.ranking import DEFAULTS, RETRIEVERS, GraphSettings, Signals, rank
from knowledge_index.retrieval.reranker import Reranker
from knowledge_index.retrieval.subjects import is_about, is_curated, remoteness
from knowledge_index.search.vector_stores import VectorStore, open_vectors
from knowledge_index.vocabulary.linker import Linker, in_plain_order, is_abbreviation
from knowledge_index.vocabulary.other_languages import names_in

_POOL = 100
"""Minimum number of candidates from BM25 and from the vectors, as in most published pipelines."""

_RERANKED = 50
"""Candidates passed to a cross-encoder: enough to promote low-ranked articles at acceptable latency."""

_READ_ABOUT = 60
"""Articles about a subject that compete for the places of an answer."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The result of a search. `withheld` counts candidates among the first k below the cutoffs."""

    evidence: tuple[Evidence, ...]
    withheld: int


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Candidates, best first, and the PageRank that reached them (graph only)."""

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    supported: NDArray[np.bool_]
    walk: NDArray[np.float64] | None = None
    seeds: tuple[int, ...] = ()


class KnowledgeIndex:
    """Evidence for a patient's problems.

    KnowledgeIndex.open(path)                      an index built with `riskcards index build`
    KnowledgeIndex.open_starter()                  the evidence base shipped with riskcards
    index.search(Query("heart failure readmission", concepts=("D006333",)), k=5)

    The encoder is loaded by the first query that needs it; BM25 and linking work without one.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        encoder: Encoder | None = None,
        settings: GraphSettings = DEFAULTS,
        vectors: VectorStore | None = None,
    ) -> None:
        self.manifest = manifest
        self.settings = settings
        self._path_opened, self._given_vectors = path, vectors
        self._encoder = encoder
        # Every file is opened here: the folder may contain another generation by the first query.
        folder = manifest.inside(path)
        self._articles = ArticleStore(folder, manifest.counts["articles"])
        self._bm25 = load_bm25(folder, manifest)
        self._concepts = load_concepts(folder, manifest)
        self.graph = load_graph(folder, len(self._articles), len(self._concepts))
        self._community_of, self._communities = load_communities(folder, manifest)
        self._retracted = load_array(folder, "retracted", np.bool_, (len(self._articles),))
        self._vectors = checked_vectors(vectors or open_vectors(folder, manifest.vector_shards), folder, manifest)
        if encoder is not None:
            check_same_encoder(encoder, manifest)

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        settings: GraphSettings = DEFAULTS,
        vectors: VectorStore | None = None,
    ) -> KnowledgeIndex:
        """Opens an index folder. Size and sha256 of every file are compared with the manifest before any is read.

        Raises `ArtifactError` for a folder that is no index, was altered, or was made by another format version; and
        `EncoderError` when `encoder` is not the one of the vectors. `vectors` replaces the folder's own vectors,
        for example with the same vectors in PostgreSQL (`PgVectors`).
        """
        folder = Path(path)
        return opened(folder, lambda manifest: cls(folder, manifest, encoder, settings, vectors))

    def refreshed(self) -> KnowledgeIndex:
        """This index, or the current generation of its folder, opened with the same encoder.

        The old index stays usable.
        """
        if read_manifest(self._path_opened) == self.manifest:
            return self
        return KnowledgeIndex.open(self._path_opened, self._encoder, self.settings, self._given_vectors)

    @classmethod
    def open_starter(cls) -> KnowledgeIndex:
        """The starter evidence base, as shipped."""
        return cls.open(cls.starter_folder())

    @staticmethod
    def starter_folder() -> Path:
        """The folder of the starter index."""
        return Path(str(files("knowledge_index").joinpath("starter", "index")))

    def __len__(self) -> int:
        return len(self._articles)

    @cached_property
    def pmids(self) -> frozenset[str]:
        """Every PMID of the index: for evaluation, not for serving."""
        return frozenset(self._articles[position].pmid for position in range(len(self._articles)))

    def article(self, position: int) -> Article:
        """The article at a position of the index, `0 <= position < len(index)`."""
        return self._articles[position]

    # Concepts ------------------------------------------------------------------------------------------------------

    @cached_property
    def _linker(self) -> Linker:
        return Linker(self._concepts)

    @cached_property
    def _linkers(self) -> dict[str, Linker]:
        """Linkers of other languages, by ISO 639-1 code."""
        return {}

    @cached_property
    def _node(self) -> dict[str, int]:
        return {concept.ui: len(self._articles) + number for number, concept in enumerate(self._concepts)}

    def concept(self, ui: str) -> Concept | None:
        """The concept of a descriptor id, or None where the index does not contain it."""
        return self._linker.concepts.get(ui)

    def link_codes(self, codings: Iterable[tuple[str | None, str, str | None]]) -> tuple[LinkedConcept, ...]:
        """Concepts of (system, code, display) codings that are in this index; see `Linker.link_codes`.

        Others would find nothing, and the next broader concept would be another disease.
        """
        return tuple(item for item in self._linker.link_codes(codings) if item.concept.ui in self._linker.concepts)

    def link_text(self, text: str) -> tuple[LinkedConcept, ...]:
        """Concepts mentioned in a text, negated mentions marked; see `Linker.link_text`."""
        return self._linker.link_text(text)

    def mentions(self, text: str, language: str = "en") -> Iterator[LinkedConcept]:
        """Yields the concepts mentioned in a text in this language, whatever their context."""
        return (self._linker if language == "en" else self._linker_of(language)).mentions(text)

    def _linker_of(self, language: str) -> Linker:
        """Returns the linker of another language's names, which are findings only."""
        known = self._linkers.get(language)
        if known is None:
            concepts = self._linker.concepts
            named = names_in(language).items()
            found = [replace(concepts[ui], synonyms=names) for ui, names in named if ui in concepts]
            known = self._linkers[language] = Linker(found, vocabulary=())
        return known

    # Retrieval -----------------------------------------------------------------------------------------------------

    def search(
        self, query: Query, k: int = 10, retriever: str = "graph", reranker: Reranker | None = None
    ) -> tuple[Evidence, ...]:
        """At most `k` passages, best first; fewer or none where candidates are below the cutoffs.

        `retriever` is one of "bm25", "dense", "hybrid", "graph"; a `reranker` then reorders its first candidates.
        Retracted articles are never returned. Raises `RetrievalError` for another name or an empty query.
        """
        return self.retrieve(query, k, retriever, reranker).evidence

    def retrieve(
        self, query: Query, k: int = 10, retriever: str = "graph", reranker: Reranker | None = None
    ) -> Retrieval:
        """`search` with the count of withheld candidates. The reranker does not change the cutoffs."""
        if query.subject is not None and not len(self._under(query.subject.factor.headings)):
            return Retrieval((), 0)
        found = self._rank(query, retriever, max(k, _RERANKED if reranker else 0))
        if reranker:
            found = self._reranked(found, self._asked(query), reranker)
        if query.subject is not None:
            return self._about(found, query, query.subject, k, retriever)
        shown = [at for at in range(min(k, len(found.order))) if found.supported[at]]
        evidence = tuple(self._evidence(found, at, query, retriever) for at in shown)
        return Retrieval(evidence, min(k, len(found.order)) - len(shown))

    def _about(self, found: _Ranked, query: Query, subject: LiteratureSubject, k: int, retriever: str) -> Retrieval:
        """The candidates about the subject, the most direct first, in the retriever's order among equals.

        Only articles under one of the factor's headings are read. The cutoffs apply to uncurated articles only.
        """
        articles: dict[int, Article] = {}
        withheld = 0
        for at in np.flatnonzero(np.isin(found.order, self._under(subject.factor.headings))):
            article = self._articles[int(found.order[at])]
            if not is_about(article, subject):
                continue
            if found.supported[at] or is_curated(article):
                articles[int(at)] = article
            else:
                withheld += 1
            if len(articles) >= _READ_ABOUT:
                break
        shown = sorted(articles, key=lambda at: remoteness(articles[at], subject.factor))[:k]
        return Retrieval(tuple(self._evidence(found, at, query, retriever) for at in shown), withheld)

    def question(self, factor: Factor, outcome: Outcome) -> Query:
        """The query for articles about a factor and an outcome: its words, and their headings as seeds of the graph."""
        named = (self._by_name.get(name) for name in (*factor.headings, *outcome.headings[:1]))
        concepts = tuple(dict.fromkeys(concept.ui for concept in named if concept is not None))
        return Query(f"{factor.label} {outcome.words}", concepts, LiteratureSubject(factor, outcome))

    def broader(self, concept: Concept) -> tuple[Concept, ...]:
        """The concepts of this index directly above one in the MeSH tree."""
        above = (self._by_tree.get(number.rpartition(".")[0]) for number in concept.tree_numbers)
        return tuple(dict.fromkeys(found for found in above if found is not None))

    @cached_property
    def _by_name(self) -> dict[str, Concept]:
        return {concept.name: concept for concept in self._concepts}

    @cached_property
    def _by_tree(self) -> dict[str, Concept]:
        return {number: concept for concept in self._concepts for number in concept.tree_numbers}

    def _under(self, headings: Iterable[str]) -> NDArray[np.int64]:
        """Positions of the articles with one of these headings."""
        concepts = (self._by_name.get(name) for name in headings)
        return self.graph.articles_under(self._node[concept.ui] for concept in concepts if concept is not None)

    def ranking(self, query: Query, k: int = 100, retriever: str = "graph") -> tuple[tuple[str, float], ...]:
        """(pmid, score) of the first `k` without cutoffs: for evaluation, not for display."""
        found = self._rank(query, retriever, k)
        return tuple(
            (self._articles[int(position)].pmid, float(score))
            for position, score in zip(found.order[:k], found.scores[:k], strict=True)
        )

    def _rank(self, query: Query, retriever: str, k: int) -> _Ranked:
        if retriever not in RETRIEVERS:
            raise RetrievalError(f"no retriever named {retriever!r}; there are {', '.join(RETRIEVERS)}")
        text = self._asked(query)
        signals = self._signals(text, retriever, max(_POOL, k))
        walk, seeds = None, {}
        if retriever == "graph":
            seeds = self._concept_seeds(query.concepts, text)
            walk = self.graph.walk(signals.seeds(seeds, self.settings), self.settings.damping)
            signals = signals.with_walk(walk[: len(self._articles)], self.graph.articles_beside(seeds))
        order, scores = rank(signals, retriever, self.settings)
        keep = ~self._retracted[order]
        order, scores = order[keep], scores[keep]
        return _Ranked(order, scores, signals.supported(retriever)[order], walk, tuple(seeds))

    def _asked(self, query: Query) -> str:
        """The text of the query, or the names of its concepts."""
        text = query.text.strip() or " ".join(concept.name for concept in map(self.concept, query.concepts) if concept)
        if not text:
            raise RetrievalError("an empty question: give text, or concepts this index knows")
        return text

    def _reranked(self, found: _Ranked, text: str, reranker: Reranker) -> _Ranked:
        """The first candidates reordered by the reranker's scores, then the others unchanged.

        The list of scores stays as it is, so that scores remain on this run's scale.
        """
        first = found.order[:_RERANKED]
        scores = reranker.score(text, [self._articles[int(position)].text for position in first])
        better = np.argsort(-scores, kind="stable")
        order = np.concatenate([first[better], found.order[_RERANKED:]])
        supported = np.concatenate([found.supported[:_RERANKED][better], found.supported[_RERANKED:]])
        return replace(found, order=order, supported=supported)

    def _spelled_out(self, text: str) -> str:
        """The text with abbreviations replaced by concept names, since abstracts may never use `AECOPD`.

        Ambiguous abbreviations are kept.
        """
        mentions = [item for item in self.link_text(text) if is_abbreviation(item.mention)]
        meanings = Counter(item.start for item in mentions)
        for item in reversed(mentions):
            if meanings[item.start] == 1:
                text = text[: item.start] + in_plain_order(item.concept.name) + text[item.end :]
        return text

    def _signals(self, text: str, retriever: str, pool: int) -> Signals:
        spelled_out = self._spelled_out(text)
        bm25, coverage = self._bm25.scores(spelled_out)
        if retriever == "bm25":
            return Signals(pool, bm25, coverage)
        # Both texts are encoded: an expanded name ("CF") can dominate the query, an abbreviation can be meaningless.
        cosine, nearest = self._nearest(dict.fromkeys((text, spelled_out)), max(10 * _POOL, pool))
        return Signals(pool, bm25, coverage, cosine, nearest)

    def _nearest(self, texts: Iterable[str], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(cosine of near articles to the mean of the texts, shape (articles,), -1 elsewhere; nearest, best first)."""
        mean = encode_queries(self.encoder, list(texts)).mean(axis=0, keepdims=True)
        vector = mean / np.linalg.norm(mean)
        cosines, positions = self._vectors.search(vector, min(count, len(self._articles)))
        # A compressed store may find fewer rows than requested; the rest are -1.
        found = positions[0] >= 0
        out = np.full(len(self._articles), -1.0, np.float32)
        out[positions[0][found]] = cosines[0][found]
        return out, positions[0][found]

    def _concept_seeds(self, given: Iterable[str], text: str) -> dict[int, float]:
        """Node -> weight of the patient's concepts; rare concepts weigh more."""
        mentioned = (item.concept.ui for item in self.link_text(text) if not item.negated)
        nodes = {self._node[ui] for ui in (*given, *mentioned) if ui in self._node}
        degrees = ((node, self.graph.degree(node)) for node in sorted(nodes))
        return {node: 1.0 / degree for node, degree in degrees if degree}

    def _evidence(self, found: _Ranked, at: int, query: Query, retriever: str) -> Evidence:
        position = int(found.order[at])
        article = self._articles[position]
        return Evidence(
            pmid=article.pmid,
            title=article.title,
            passage=best_passage(article.abstract or article.title, query.text),
            score=float(found.scores[at]),
            retriever=retriever,
            year=article.year,
            study_type=article.study_type,
            path=self._path(found, position),
            mesh=tuple(heading.name for heading in article.mesh),
            community=self._communities.get(int(self._community_of[position])),
            references=article.references,
            first_author=article.first_author,
            journal=article.journal,
            factor=query.subject.factor.label if query.subject else None,
            outcome=query.subject.outcome.label if query.subject else None,
            remoteness=remoteness(article, query.subject.factor) if query.subject else 0,
            populations=article.populations,
        )

    def _path(self, found: _Ranked, position: int) -> tuple[PathStep, ...]:
        if found.walk is None or not found.seeds:
            return ()
        hops = self.graph.path(position, found.seeds, found.walk)
        return tuple(PathStep(self._label(hop.source), hop.relation, self._label(hop.target)) for hop in hops)

    def _label(self, node: int) -> str:
        if node < len(self._articles):
            return f"PMID {self._articles[node].pmid}"
        return self._concepts[node - len(self._articles)].name

    # Parts loaded on first use ---------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The encoder of this index's vectors."""
        if self._encoder is None:
            encoder = encoder_named(self.manifest.encoder)
            check_same_encoder(encoder, self.manifest)
            self._encoder = encoder
        return self._encoder
