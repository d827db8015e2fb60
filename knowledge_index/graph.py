"""The graph of articles and MeSH concepts, and the personalised PageRank that walks it.

Nodes are the articles (in index order), then the concepts. Edges are headings, mentions, the MeSH tree, citations,
statements and co-occurrence; each is walked in both directions and knows how it reads either way, so that a path can
be told in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.linking import Linker
from knowledge_index.pagerank import local_push
from knowledge_index.values import Article, Concept, Triple

DAMPING = 0.5
"""HippoRAG 2's choice: half of the walk returns to the patient at every step, so evidence stays near its concept."""

RELATIONS = (
    "heading of",
    "indexed with",
    "main heading of",
    "mainly indexed with",
    "narrower than",
    "broader than",
    "cites",
    "cited by",
    "often indexed together with",
    "mentioned in",
    "mentions",
    "induces",
    "induced by",
    "prevents",
    "prevented by",
    "treats",
    "treated by",
    "decreases",
    "decreased by",
    "increases",
    "increased by",
    "predicts",
    "predicted by",
    "is associated with",
)
_OPPOSITE = (1, 0, 3, 2, 5, 4, 7, 6, 8, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 23)
_HEADING, _MAIN_HEADING, _NARROWER, _CITES, _TOGETHER, _MENTIONED, _ASSOCIATED = 0, 2, 4, 6, 8, 9, 23

EDGE_KINDS = {
    "minor headings": (0, 1),
    "major headings": (2, 3),
    "tree": (4, 5),
    "citations": (6, 7),
    "often together": (8,),
    "mentions": (9, 10),
    "statements": tuple(range(11, 24)),
}
"""Numbers in `RELATIONS` of the edges of one kind."""

# Headings that nearly every clinical article carries say nothing about it (NLM calls most of them check tags).
CHECK_TAGS = frozenset(
    ("Humans", "Human", "Male", "Female", "Adult", "Aged", "Aged, 80 and over", "Middle Aged", "Adolescence",
     "Adolescent", "Child", "Child, Preschool", "Infant", "Infant, Newborn", "Young Adult", "Animals", "Animal",
     "Pregnancy", "Mice", "Rats", "Retrospective Studies", "Prospective Studies", "Cohort Studies",
     "Follow-Up Studies", "Comparative Study", "Support, U.S. Gov't, P.H.S.", "Support, Non-U.S. Gov't",
     "United States", "Treatment Outcome", "Time Factors")
)  # fmt: skip
_CHECK_KEYS = frozenset(name.replace(",", "").replace("-", " ").lower() for name in CHECK_TAGS)


class _Edge(NamedTuple):
    source: int
    target: int
    weight: float
    relation: int


@dataclass(frozen=True, slots=True)
class Hop:
    """One edge of a path, by node number."""

    source: int
    relation: str
    target: int


def concept_key(name: str, ui: str) -> str:
    """A concept's id: its descriptor id, or, where a source gives names only, the name itself behind `name:`.

    >>> concept_key("Heart Failure", "D006333"), concept_key("Mucus", "")
    ('D006333', 'name:mucus')
    """
    return ui or f"name:{' '.join(name.lower().split())}"


def is_check_tag(name: str) -> bool:
    """Whether a heading is left out of the graph: check tags, in NLM's present or former writing.

    >>> is_check_tag("Humans"), is_check_tag("CHILD-PRESCHOOL"), is_check_tag("Heart Failure")
    (True, True, False)
    """
    return name.replace(",", "").replace("-", " ").lower() in _CHECK_KEYS


@dataclass(frozen=True, slots=True)
class Graph:
    """`weights` has shape (nodes, nodes), float32, symmetric CSR; `relations` names each edge, uint8, aligned."""

    articles: int
    weights: sparse.csr_array
    relations: NDArray[np.uint8]

    @classmethod
    def build(
        cls,
        articles: Sequence[Article],
        concepts: Sequence[Concept],
        by_name: Mapping[str, str],
        triples: Iterable[Triple] = (),
    ) -> Graph:
        """`concepts` hold at least every heading of the articles (see `build.concepts_of`); `by_name` gives the
        descriptor id for a heading that came without one. `triples` are what the articles say of two concepts.
        """
        node = {concept.ui: len(articles) + number for number, concept in enumerate(concepts)}
        headings = [heading_nodes(article, node, by_name) for article in articles]
        holding = np.bincount([number for nodes in headings for number in nodes], minlength=len(articles) + len(node))
        edges = [
            *_heading_edges(headings, holding),
            *_mention_edges(articles, node, Linker(concept for concept in concepts if concept.synonyms)),
            *_tree_edges(concepts, len(articles)),
            *_citation_edges(articles),
            *_statement_edges(triples, node),
            *_together_edges(headings, holding),
        ]
        return cls._from_edges(len(articles), len(articles) + len(concepts), edges)

    @classmethod
    def _from_edges(cls, articles: int, nodes: int, edges: Iterable[_Edge]) -> Graph:
        # Of two edges between the same nodes the first keeps its words; headings come before everything else.
        kept: dict[tuple[int, int], _Edge] = {}
        for edge in edges:
            if edge.source != edge.target and (edge.target, edge.source) not in kept:
                kept.setdefault((edge.source, edge.target), edge)
        both = [*kept.values(), *(_Edge(e.target, e.source, e.weight, _OPPOSITE[e.relation]) for e in kept.values())]
        both.sort()
        columns = np.array([edge.target for edge in both], np.int32)
        starts = np.searchsorted(np.array([edge.source for edge in both], np.int64), np.arange(nodes + 1))
        data = np.array([edge.weight for edge in both], np.float32)
        matrix = sparse.csr_array((data, columns, starts.astype(np.int32)), shape=(nodes, nodes))
        return cls(articles, matrix, np.array([edge.relation for edge in both], np.uint8))

    def without(self, kind: str) -> Graph:
        """The same graph less the edges of one of `EDGE_KINDS`: to measure what they are worth."""
        keep = ~np.isin(self.relations, EDGE_KINDS[kind])
        rows = np.repeat(np.arange(self.weights.shape[0]), np.diff(self.weights.indptr))[keep]
        starts = np.searchsorted(rows, np.arange(self.weights.shape[0] + 1))
        data, columns = self.weights.data[keep], self.weights.indices[keep]
        matrix = sparse.csr_array((data, columns, starts.astype(self.weights.indptr.dtype)), shape=self.weights.shape)
        return Graph(self.articles, matrix, self.relations[keep])

    def walk(self, seeds: Mapping[int, float], damping: float = DAMPING) -> NDArray[np.float64]:
        """Personalised PageRank of every node, shape (nodes,), summing to 1; zeros when there are no seeds.

        What stands on a node without edges returns to the seeds. See `pagerank.local_push`.
        """
        return local_push(self.weights, seeds, damping)

    def path(self, article: int, seeds: Iterable[int], rank: NDArray[np.float64], length: int = 3) -> tuple[Hop, ...]:
        """The way by which most of the walk came from one of `seeds` to the article: at most `length` edges; empty
        when no seed is that near.

        Searched backwards from the article, the 24 best neighbours of each node, so its cost does not grow with the
        graph.
        """
        wanted = set(seeds)
        frontier: list[tuple[float, int, tuple[Hop, ...]]] = [(1.0, article, ())]
        for _ in range(length):
            reached = [
                (share * part, hop.source, (hop, *hops))
                for share, node, hops in frontier
                for part, hop in self._arriving(node, rank, 24)
                if all(hop.source != later.target for later in hops)
            ]
            at_seed = [item for item in reached if item[1] in wanted]
            if at_seed:
                return max(at_seed, key=lambda item: item[0])[2]
            frontier = sorted(reached, key=lambda item: -item[0])[:48]
        return ()

    def _arriving(self, node: int, rank: NDArray[np.float64], limit: int) -> Iterator[tuple[float, Hop]]:
        start, end = self.weights.indptr[node], self.weights.indptr[node + 1]
        sources = self.weights.indices[start:end]
        flow = self.weights.data[start:end] * rank[sources]
        for at in np.argsort(-flow, kind="stable")[:limit]:
            relation = RELATIONS[_OPPOSITE[self.relations[start + at]]]
            yield float(flow[at]), Hop(int(sources[at]), relation, node)


def heading_nodes(article: Article, node: Mapping[str, int], by_name: Mapping[str, str]) -> dict[int, bool]:
    """Node of each heading of the article -> whether it is a major one; check tags left out."""
    found: dict[int, bool] = {}
    for heading in article.mesh:
        if is_check_tag(heading.name):
            continue
        ui = heading.ui or by_name.get(" ".join(heading.name.lower().split()), "")
        number = node[concept_key(heading.name, ui)]
        found[number] = found.get(number, False) or heading.major
    return found


def _heading_edges(headings: Sequence[Mapping[int, bool]], holding: NDArray[np.int64]) -> Iterator[_Edge]:
    """A rare heading tells more about its article than a common one, a major heading twice as much as a minor one."""
    for article, nodes in enumerate(headings):
        for concept, major in nodes.items():
            weight = log(1 + len(headings) / holding[concept]) * (2.0 if major else 1.0)
            yield _Edge(concept, article, weight, _MAIN_HEADING if major else _HEADING)


def _mention_edges(articles: Sequence[Article], node: Mapping[str, int], linker: Linker) -> Iterator[_Edge]:
    """Concepts of the vocabularies that title or abstract name: what an article without indexing (yet) hangs on.

    Weighted as a minor heading at half; where the concept is a heading already, the heading's edge stands.
    """
    found = [
        sorted({node[m.concept.ui] for m in linker.link_text(article.text) if not m.negated and m.concept.ui in node})
        for article in articles
    ]
    holding = Counter(concept for concepts in found for concept in concepts)
    for article, concepts in enumerate(found):
        for concept in concepts:
            yield _Edge(concept, article, 0.5 * log(1 + len(articles) / holding[concept]), _MENTIONED)


def _tree_edges(concepts: Sequence[Concept], first: int) -> Iterator[_Edge]:
    """Each concept to its nearest ancestors that are in the graph, one for each of its places in the tree."""
    place = {number: first + at for at, concept in enumerate(concepts) for number in concept.tree_numbers}
    for number, child in place.items():
        above = number
        while "." in above:
            above = above.rpartition(".")[0]
            if above in place:
                yield _Edge(child, place[above], 1.0, _NARROWER)
                break


def _citation_edges(articles: Sequence[Article]) -> Iterator[_Edge]:
    position = {article.pmid: number for number, article in enumerate(articles)}
    for number, article in enumerate(articles):
        for pmid in article.references:
            if pmid in position:
                yield _Edge(number, position[pmid], 2.0, _CITES)


def _statement_edges(triples: Iterable[Triple], node: Mapping[str, int]) -> Iterator[_Edge]:
    """The more articles say it, the heavier; of two on the same concepts the more frequent keeps its words."""
    told = Counter((triple.subject, triple.relation, triple.object) for triple in set(triples))
    for (subject, relation, object_), count in told.most_common():
        if subject in node and object_ in node:
            kind = RELATIONS.index(relation) if relation in RELATIONS else _ASSOCIATED
            yield _Edge(node[subject], node[object_], log(1 + count), kind)


def _together_edges(
    headings: Sequence[Mapping[int, bool]], holding: NDArray[np.int64], least: int = 3, each: int = 5
) -> Iterator[_Edge]:
    """Concepts that share articles more often than chance, by normalised pointwise mutual information.

    Kept where at least `least` articles carry both, the best `each` for a concept.
    """
    shared: dict[tuple[int, int], int] = {}
    for nodes in headings:
        for pair in combinations(sorted(nodes), 2):
            shared[pair] = shared.get(pair, 0) + 1
    ranked: dict[int, list[tuple[float, int, int]]] = {}
    for (one, other), count in shared.items():
        if count < least:
            continue
        information = log(count * len(headings) / (holding[one] * holding[other])) / max(
            log(len(headings) / count), 1e-9
        )
        if information > 0:
            ranked.setdefault(one, []).append((information, one, other))
            ranked.setdefault(other, []).append((information, one, other))
    kept = sorted({pair for pairs in ranked.values() for pair in sorted(pairs, reverse=True)[:each]})
    for information, one, other in kept:
        yield _Edge(one, other, information, _TOGETHER)
