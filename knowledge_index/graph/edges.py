"""Creates the edges of the graph: headings, mentions, the MeSH tree, citations, statements, co-occurrence.

Edges are yielded as arrays, a few thousand articles at a time. Statistics over all articles (how many carry a heading)
take four bytes per heading. Where two edges join the same nodes, the first keeps its relation.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.values import Article, Concept, Triple
from knowledge_index.graph.knowledge_graph import RELATIONS
from knowledge_index.vocabulary.linker import Linker

Numbers = NDArray[np.int64]

PART = 1 << 14
"""Articles per batch."""
_LEAST, _EACH = 3, 5
"""Minimum number of shared articles for a co-occurrence edge, and maximum number of such edges per concept."""
_PAIRS = 1 << 21

_HEADING, _MAIN_HEADING, _NARROWER, _CITES, _TOGETHER, _MENTIONED, _ASSOCIATED = (
    RELATIONS.index(words)
    for words in (
        "heading of", "main heading of", "narrower than", "cites", "often indexed together with", "mentioned in",
        "is associated with",
    )
)  # fmt: skip

# Headings that nearly every clinical article carries are uninformative (NLM calls most of them check tags).
CHECK_TAGS = frozenset(
    ("Humans", "Human", "Male", "Female", "Adult", "Aged", "Aged, 80 and over", "Middle Aged", "Adolescence",
     "Adolescent", "Child", "Child, Preschool", "Infant", "Infant, Newborn", "Young Adult", "Animals", "Animal",
     "Pregnancy", "Mice", "Rats", "Retrospective Studies", "Prospective Studies", "Cohort Studies",
     "Follow-Up Studies", "Comparative Study", "Support, U.S. Gov't, P.H.S.", "Support, Non-U.S. Gov't",
     "United States", "Treatment Outcome", "Time Factors")
)  # fmt: skip
_CHECK_KEYS = frozenset(name.replace(",", "").replace("-", " ").lower() for name in CHECK_TAGS)


class Edges(NamedTuple):
    """Node numbers, weights, and numbers in `RELATIONS` as read from source to target; each of shape (edges,)."""

    source: Numbers
    target: Numbers
    weight: NDArray[np.float64]
    relation: NDArray[np.uint8]


def concept_key(name: str, ui: str) -> str:
    """A concept's id: its descriptor id, or `name:` and the name where the source gives no id.

    >>> concept_key("Heart Failure", "D006333"), concept_key("Mucus", "")
    ('D006333', 'name:mucus')
    """
    return ui or f"name:{' '.join(name.lower().split())}"


def is_check_tag(name: str) -> bool:
    """Whether a heading is left out of the graph: check tags, in NLM's current or former spelling.

    >>> is_check_tag("Humans"), is_check_tag("CHILD-PRESCHOOL"), is_check_tag("Heart Failure")
    (True, True, False)
    """
    return name.replace(",", "").replace("-", " ").lower() in _CHECK_KEYS


def edges_of(
    articles: Sequence[Article],
    concepts: Sequence[Concept],
    by_name: Mapping[str, str],
    triples: Iterable[Triple] = (),
) -> Iterator[Edges]:
    """All edges of the graph whose nodes are the articles, then the concepts.

    `concepts` hold at least every heading of the articles (see `build.concepts_of`); `by_name` gives the descriptor
    id of a heading without one. `triples` are the articles' statements about two concepts.
    """
    node = {concept.ui: len(articles) + number for number, concept in enumerate(concepts)}
    linker = Linker(concept for concept in concepts if concept.synonyms)
    headings, mentions = Lists(), Lists()
    pmids: list[NDArray[np.bytes_]] = []
    for start in range(0, len(articles), PART):
        part = articles[start : start + PART]
        for article in part:
            headings.append(2 * number + major for number, major in heading_nodes(article, node, by_name).items())
            found = linker.link_text(article.text)
            mentions.append({node[m.concept.ui] for m in found if not m.negated and m.concept.ui in node})
        pmids.append(np.array([article.pmid.encode() for article in part]))
    nodes = len(articles) + len(concepts)
    yield from _heading_edges(headings, nodes)
    yield from _mention_edges(mentions, nodes)
    yield _tree_edges(concepts, len(articles))
    yield from _citation_edges(articles, np.concatenate(pmids))
    yield _statement_edges(triples, node)
    yield _together_edges(headings, len(articles), nodes)


class Lists:
    """A list of integers for each article, concatenated: four bytes per integer.

    >>> lists = Lists()
    >>> lists.append([7, 8]); lists.append([9])
    >>> [(owner.tolist(), values.tolist()) for owner, values in lists.parts(10)]
    [([0, 0, 1], [7, 8, 9])]
    """

    def __init__(self) -> None:
        self._values, self._ends = array("i"), array("q", [0])

    def append(self, values: Iterable[int]) -> None:
        self._values.extend(values)
        self._ends.append(len(self._values))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def parts(self, size: int = PART) -> Iterator[tuple[Numbers, Numbers]]:
        """(article of each number, numbers) for `size` articles at a time."""
        for start in range(0, len(self), size):
            ends = np.array(self._ends[start : start + size + 1], np.int64)
            values = np.array(self._values[ends[0] : ends[-1]], np.int64)
            yield np.repeat(start + np.arange(len(ends) - 1), np.diff(ends)), values


def heading_nodes(article: Article, node: Mapping[str, int], by_name: Mapping[str, str]) -> dict[int, bool]:
    """Node of each heading of the article -> whether it is a major topic; without check tags."""
    found: dict[int, bool] = {}
    for heading in article.mesh:
        if is_check_tag(heading.name):
            continue
        ui = heading.ui or by_name.get(" ".join(heading.name.lower().split()), "")
        number = node[concept_key(heading.name, ui)]
        found[number] = found.get(number, False) or heading.major
    return found


def _holding(lists: Lists, nodes: int, shift: int) -> Numbers:
    """The number of articles with each node, shape (nodes,)."""
    holding = np.zeros(nodes, np.int64)
    for _, values in lists.parts():
        holding += np.bincount(values >> shift, minlength=nodes)
    return holding


def _heading_edges(headings: Lists, nodes: int) -> Iterator[Edges]:
    """Edges from articles to headings: rare headings weigh more, major headings twice as much as minor ones."""
    holding = _holding(headings, nodes, 1)
    for article, coded in headings.parts():
        concept, major = coded >> 1, (coded & 1).astype(np.bool_)
        weight = np.log(1 + len(headings) / holding[concept]) * np.where(major, 2.0, 1.0)
        yield Edges(concept, article, weight, np.where(major, _MAIN_HEADING, _HEADING).astype(np.uint8))


def _mention_edges(mentions: Lists, nodes: int) -> Iterator[Edges]:
    """Edges to vocabulary concepts named in title or abstract: they connect articles that are not (yet) indexed.

    The weight is half that of a minor heading. Where the concept is also a heading, the heading's edge is kept.
    """
    holding = _holding(mentions, nodes, 0)
    for article, concept in mentions.parts():
        yield _all(_MENTIONED, concept, article, 0.5 * np.log(1 + len(mentions) / holding[concept]))


def _tree_edges(concepts: Sequence[Concept], first: int) -> Edges:
    """From each concept to its nearest ancestors in the graph, one per tree number."""
    place = {number: first + at for at, concept in enumerate(concepts) for number in concept.tree_numbers}
    pairs: list[tuple[int, int]] = []
    for number, child in place.items():
        above = number
        while "." in above:
            above = above.rpartition(".")[0]
            if above in place:
                pairs.append((child, place[above]))
                break
    joined = np.array(pairs, np.int64).reshape(-1, 2)
    return _all(_NARROWER, joined[:, 0], joined[:, 1], np.ones(len(pairs)))


def _citation_edges(articles: Sequence[Article], pmids: NDArray[np.bytes_]) -> Iterator[Edges]:
    """From each article to those it cites that are in the index; `pmids` has shape (articles,)."""
    order = np.argsort(pmids, kind="stable")
    pmids = pmids[order]
    for start in range(0, len(articles), PART):
        part = articles[start : start + PART]
        citing = np.repeat(start + np.arange(len(part)), [len(article.references) for article in part])
        if not len(citing):
            continue
        cited = np.array([pmid.encode() for article in part for pmid in article.references])
        at = np.minimum(np.searchsorted(pmids, cited), len(pmids) - 1)
        known = pmids[at] == cited
        yield _all(_CITES, citing[known], order[at[known]], np.full(int(known.sum()), 2.0))


def _statement_edges(triples: Iterable[Triple], node: Mapping[str, int]) -> Edges:
    """Edges of statements, weighted by the number of articles; the most frequent relation of a pair is kept."""
    stated = Counter((triple.subject, triple.relation, triple.object) for triple in dict.fromkeys(triples))
    rows = [
        (node[one], node[other], count, RELATIONS.index(words) if words in RELATIONS else _ASSOCIATED)
        for (one, words, other), count in stated.most_common()
        if one in node and other in node
    ]
    table = np.array(rows, np.int64).reshape(-1, 4)
    return Edges(table[:, 0], table[:, 1], np.log(1 + table[:, 2]), table[:, 3].astype(np.uint8))


def _together_edges(headings: Lists, articles: int, nodes: int) -> Edges:
    """Concepts that share articles more often than chance, by normalised pointwise mutual information.

    Kept where at least `_LEAST` articles carry both, at most `_EACH` per concept.
    """
    pairs, shared = _shared(headings, nodes)
    frequent = shared >= _LEAST
    one, other, shared = pairs[frequent] // nodes, pairs[frequent] % nodes, shared[frequent]
    holding = _holding(headings, nodes, 1)
    chance = np.log(shared * articles / (holding[one] * holding[other].astype(np.float64)))
    information = chance / np.maximum(np.log(articles / shared), 1e-9)
    above = information > 0
    one, other, information = one[above], other[above], information[above]
    # Both ends of each pair, by concept and then best first; ties go to the later pair.
    end, pair = np.concatenate([one, other]), np.tile(np.arange(len(one)), 2)
    order = np.lexsort((-pair, -information[pair], end))
    first = np.searchsorted(end[order], end[order])
    kept = np.unique(pair[order][np.arange(len(order)) - first < _EACH])
    return _all(_TOGETHER, one[kept], other[kept], information[kept])


def _shared(headings: Lists, nodes: int) -> tuple[Numbers, NDArray[np.int64]]:
    """Pairs of concepts as `one * nodes + other`, sorted, and the number of shared articles; each of shape (pairs,)."""
    pairs, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    waiting: list[Numbers] = []
    for article, coded in headings.parts():
        waiting.append(_pairs(article, coded >> 1, nodes))
        if sum(map(len, waiting)) > max(_PAIRS, len(pairs)):
            pairs, counts = _counted(pairs, counts, waiting)
            waiting = []
    return _counted(pairs, counts, waiting)


def _pairs(article: Numbers, concept: Numbers, nodes: int) -> Numbers:
    """All pairs of concepts of each article, shape (pairs,); articles with equally many concepts form one batch."""
    order = np.lexsort((concept, article))
    concept = concept[order]
    first, many = np.unique(article[order], return_index=True, return_counts=True)[1:]
    found = [np.zeros(0, np.int64)]
    for count in np.unique(many[many > 1]):
        rows = concept[first[many == count][:, None] + np.arange(count)]
        left, right = np.triu_indices(count, 1)
        found.append((rows[:, left] * nodes + rows[:, right]).ravel())
    return np.concatenate(found)


def _counted(
    pairs: Numbers, counts: NDArray[np.int64], waiting: Sequence[Numbers]
) -> tuple[Numbers, NDArray[np.int64]]:
    """The pairs merged with the pending ones."""
    new, seen = np.unique(np.concatenate([*waiting, np.zeros(0, np.int64)]), return_counts=True)
    joined, inverse = np.unique(np.concatenate([pairs, new]), return_inverse=True)
    total = np.zeros(len(joined), np.int64)
    np.add.at(total, inverse, np.concatenate([counts, seen]))
    return joined, total


def _all(relation: int, source: Numbers, target: Numbers, weight: NDArray[np.float64]) -> Edges:
    return Edges(source, target, weight, np.full(len(source), relation, np.uint8))
