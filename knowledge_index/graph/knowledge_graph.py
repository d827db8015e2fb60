"""The graph of articles and MeSH concepts, and personalised PageRank on it.

Nodes are the articles (in index order), then the concepts. Edges are headings, mentions, the MeSH tree, citations,
statements and co-occurrence. Each edge is traversed in both directions and has a phrase for either, so that a path can
be shown in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.graph.pagerank import local_push

DAMPING = 0.5
"""HippoRAG 2's value: half of the walk returns to the seeds at every step, so evidence stays near its concept."""

# Files hold the numbers: new relations go to the end.
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
    "complicates",
    "complicated by",
    "diagnoses",
    "diagnosed by",
    "does not change",
    "not changed by",
    "is not associated with",
)
OPPOSITE = np.array(
    (1, 0, 3, 2, 5, 4, 7, 6, 8, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 23, 25, 24, 27, 26, 29, 28, 30),
    np.uint8,
)
"""The inverse of each relation in `RELATIONS`."""


EDGE_KINDS = {
    "minor headings": (0, 1),
    "major headings": (2, 3),
    "tree": (4, 5),
    "citations": (6, 7),
    "often together": (8,),
    "mentions": (9, 10),
    "statements": tuple(range(11, len(RELATIONS))),
}
"""Kind of edge -> its indexes in `RELATIONS`."""
_HEADINGS = np.array((*EDGE_KINDS["minor headings"], *EDGE_KINDS["major headings"]), np.uint8)


@dataclass(frozen=True, slots=True)
class Hop:
    """One edge of a path, by node number."""

    source: int
    relation: str
    target: int


@dataclass(frozen=True, slots=True)
class KnowledgeGraph:
    """`weights` has shape (nodes, nodes), float32, symmetric CSR; `relations` names each edge, uint8, aligned."""

    articles: int
    weights: sparse.csr_array
    relations: NDArray[np.uint8]

    def without(self, kind: str) -> KnowledgeGraph:
        """The graph without the edges of one of `EDGE_KINDS`, for ablation."""
        keep = ~np.isin(self.relations, EDGE_KINDS[kind])
        rows = np.repeat(np.arange(self.weights.shape[0]), np.diff(self.weights.indptr))[keep]
        starts = np.searchsorted(rows, np.arange(self.weights.shape[0] + 1))
        data, columns = self.weights.data[keep], self.weights.indices[keep]
        matrix = sparse.csr_array((data, columns, starts.astype(self.weights.indptr.dtype)), shape=self.weights.shape)
        return KnowledgeGraph(self.articles, matrix, self.relations[keep])

    def degree(self, node: int) -> int:
        """The number of edges of a node."""
        return int(self.weights.indptr[node + 1] - self.weights.indptr[node])

    def articles_beside(self, nodes: Iterable[int]) -> NDArray[np.int64]:
        """The articles with an edge to one of these nodes, in order."""
        return self._articles_in(self.weights.indices[self._edges(node)] for node in nodes)

    def articles_under(self, concepts: Iterable[int]) -> NDArray[np.int64]:
        """The articles with one of these concepts as a heading, in order."""
        edges = (self._edges(node) for node in concepts)
        return self._articles_in(self.weights.indices[row][np.isin(self.relations[row], _HEADINGS)] for row in edges)

    def _edges(self, node: int) -> slice:
        return slice(self.weights.indptr[node], self.weights.indptr[node + 1])

    def _articles_in(self, neighbours: Iterable[NDArray[np.integer]]) -> NDArray[np.int64]:
        found = np.unique(np.concatenate([np.zeros(0, np.int64), *neighbours]))
        return found[found < self.articles]

    def walk(self, seeds: Mapping[int, float], damping: float = DAMPING) -> NDArray[np.float64]:
        """Personalised PageRank of every node, shape (nodes,), summing to 1; zeros when there are no seeds.

        The mass on a node without edges returns to the seeds. See `pagerank.local_push`.
        """
        return local_push(self.weights, seeds, damping)

    def path(self, article: int, seeds: Iterable[int], rank: NDArray[np.float64], length: int = 3) -> tuple[Hop, ...]:
        """The path that carried most of the walk from one of `seeds` to the article: at most `length` edges; empty
        where no seed is that near.

        Searches backwards from the article over the 24 best neighbours of each node, so its cost does not grow with
        the graph.
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
        edges = self._edges(node)
        sources = self.weights.indices[edges]
        flow = self.weights.data[edges] * rank[sources]
        for at in np.argsort(-flow, kind="stable")[:limit]:
            relation = RELATIONS[OPPOSITE[self.relations[edges][at]]]
            yield float(flow[at]), Hop(int(sources[at]), relation, node)
