"""Communities of the graph: hierarchical clusters of strongly connected articles and concepts.

Louvain (Blondel et al., J. Stat. Mech. 2008): nodes move to the neighbouring community where modularity gains most; the
communities become the nodes of the next level. Half of the nodes move at a time, as array operations, which prevents
endless swaps and is deterministic. Memory holds a few million edges and some numbers per node.

The hierarchy, its summaries and the decay follow KARE (ICLR 2025), which uses Leiden and a language model. Here
summaries consist of counts and names only, so they cannot contain invented statements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.core.arrays import load_json, save_array
from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.storage import Manifest
from knowledge_index.core.values import Article, Community, Concept, Evidence
from knowledge_index.graph.knowledge_graph import RELATIONS, KnowledgeGraph

Labels = NDArray[np.int32]

LEVELS = 3
DECAY = 0.5
"""Factor on a passage's value for each passage of its community taken before it: KARE's value."""
_ROUNDS = 20
_SETTLED = 0.002
"""Share of the nodes: the level has converged when fewer move."""
_EDGES = 1 << 22
_CITED_BY = RELATIONS.index("cited by")
_NAMED, _QUOTED = 3, 2


def levels_of(weights: sparse.csr_array) -> list[Labels]:
    """The community of every node, shape (nodes,), numbered from 0: one array per level, finest first, at most
    `LEVELS`; empty where the graph has no edge.
    """
    matrix, found = weights, list[Labels]()
    while matrix.nnz and len(found) < LEVELS:
        labels = _settled(matrix)
        if int(labels.max()) + 1 == matrix.shape[0]:
            break
        found.append(labels[found[-1]] if found else labels)
        matrix = _joined(matrix, labels)
    return found


def write_communities(
    folder: Path, graph: KnowledgeGraph, articles: Sequence[Article], concepts: Sequence[Concept]
) -> tuple[int, int]:
    """Writes the community files of an index; returns the numbers of levels and of communities with a summary."""
    levels = levels_of(graph.weights)
    if not levels:
        return 0, 0
    rows = [[item.level, item.number, item.articles, item.concepts, item.titles, item.parent]
            for item in described(graph, levels, articles, concepts)]  # fmt: skip
    save_array(folder, "communities", np.stack(levels))
    (folder / "communities.json").write_bytes(orjson.dumps(rows))
    return len(levels), len(rows)


def read_communities(folder: Path, count: int) -> list[Community]:
    """Every community with a summary, the finest level first; `ArtifactError` where there are not `count`."""
    path = folder / "communities.json"
    try:
        return [
            Community(level, number, articles, tuple(names), tuple(titles), parent)
            for level, number, articles, names, titles, parent in load_json(path, count)
        ]
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"cannot be read: {error}", path=str(path)) from error


def largest_communities(folder: Path, manifest: Manifest, count: int = 5) -> list[Community]:
    """The `count` largest communities of the coarsest level."""
    if not manifest.counts.get("community_levels"):
        return []
    listed = read_communities(manifest.inside(folder), manifest.counts["communities"])
    return sorted((item for item in listed if item.parent is None), key=lambda item: -item.articles)[:count]


def _settled(matrix: sparse.csr_array) -> Labels:
    """The communities of one level."""
    nodes = matrix.shape[0]
    degree = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    labels = np.arange(nodes)
    scattered = np.arange(nodes) * 2654435761
    for turn in range(_ROUNDS):
        # A different split in each round, so that two nodes cannot keep swapping.
        half = (scattered >> (10 + turn)) & 1
        moved = sum(_move(matrix, labels, degree, half == side) for side in (0, 1))
        if moved <= _SETTLED * nodes:
            break
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def _move(
    matrix: sparse.csr_array, labels: NDArray[np.int64], degree: NDArray[np.float64], may: NDArray[np.bool_]
) -> int:
    """Moves each node in `may` to the community with the largest modularity gain; returns how many moved. All gains
    are computed before any move. Changes `labels`.
    """
    together, total = np.bincount(labels, degree, minlength=len(labels)), degree.sum()
    moves = [_best_moves(labels, degree, together / total, *part) for part in _edges(matrix, may)]
    for node, community in moves:
        labels[node] = community
    return sum(len(node) for node, _ in moves)


def _best_moves(
    labels: NDArray[np.int64],
    degree: NDArray[np.float64],
    together: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nodes of `rows` that gain by moving, and where to. `together` is each community's share of the total weight."""
    tie, at = np.unique(rows * len(labels) + labels[columns], return_inverse=True)
    node, community = tie // len(labels), tie % len(labels)
    own = community == labels[node]
    share = together[community] - own * degree[node] / degree.sum()
    gain = np.bincount(at, weights, minlength=len(tie)) - degree[node] * share
    order = np.lexsort((community, -gain, node))
    best = order[np.unique(node[order], return_index=True)[1]]
    # The gain of staying for a node without an edge to its own community.
    mover = node[best]
    staying = -degree[mover] * (together[labels[mover]] - degree[mover] / degree.sum())
    staying[np.searchsorted(mover, node[own])] = gain[own]
    better = gain[best] > staying + 1e-12
    return mover[better], community[best][better]


def _edges(
    matrix: sparse.csr_array, may: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """(rows, columns, weights) of the edges of nodes in `may`, a few million at a time."""
    for rows, place in _parts(matrix):
        columns = matrix.indices[place]
        keep = may[rows] & (rows != columns)
        yield rows[keep], columns[keep].astype(np.int64), matrix.data[place][keep].astype(np.float64)


def _joined(matrix: sparse.csr_array, labels: Labels) -> sparse.csr_array:
    """The graph whose nodes are the communities; edges within a community become a self-loop."""
    many = int(labels.max()) + 1
    keys, sums = [], []
    for rows, place in _parts(matrix):
        key, at = np.unique(labels[rows].astype(np.int64) * many + labels[matrix.indices[place]], return_inverse=True)
        keys.append(key)
        sums.append(np.bincount(at, matrix.data[place], minlength=len(key)))
    row, column = np.divmod(np.concatenate(keys), many)
    # Duplicate cells are summed.
    return sparse.coo_array((np.concatenate(sums), (row, column)), shape=(many, many)).tocsr()


def _parts(matrix: sparse.csr_array) -> Iterator[tuple[NDArray[np.int64], slice]]:
    """(row of each edge, slice of the edges) for a few million edges at a time, in complete rows."""
    starts = matrix.indptr
    first = 0
    while first < matrix.shape[0]:
        last = max(first + 1, int(np.searchsorted(starts, int(starts[first]) + _EDGES, "right")) - 1)
        rows = np.repeat(np.arange(first, last), np.diff(starts[first : last + 1]))
        yield rows, slice(int(starts[first]), int(starts[last]))
        first = last


def described(
    graph: KnowledgeGraph, levels: Sequence[Labels], articles: Sequence[Article], concepts: Sequence[Concept]
) -> Iterator[Community]:
    """The communities of each level with at least two articles, by number."""
    cited = _cited(graph)
    for level, labels in enumerate(levels):
        mine = labels[: graph.articles]
        size = np.bincount(mine, minlength=int(labels.max()) + 1)
        order, first = np.lexsort((-cited, mine)), np.concatenate([[0], np.cumsum(size)])
        named = _named(graph, labels, len(concepts))
        above = levels[level + 1] if level + 1 < len(levels) else None
        for number in np.flatnonzero(size >= 2).tolist():
            quoted = order[first[number] : first[number] + min(_QUOTED, size[number])].tolist()
            yield Community(
                level=level,
                number=number,
                articles=int(size[number]),
                concepts=tuple(concepts[one].name for one in named.get(number, ())),
                titles=tuple(articles[one].title for one in quoted),
                parent=None if above is None else int(above[quoted[0]]),
            )


def _cited(graph: KnowledgeGraph) -> NDArray[np.int64]:
    """How often each article is cited within the index, shape (articles,)."""
    cited = np.zeros(graph.weights.shape[0], np.int64)
    for rows, place in _parts(graph.weights):
        cited += np.bincount(rows[graph.relations[place] == _CITED_BY], minlength=len(cited))
    return cited[: graph.articles]


def _named(graph: KnowledgeGraph, labels: Labels, concepts: int) -> dict[int, list[int]]:
    """Community -> the concepts most strongly linked to its articles."""
    keys: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    sums: list[NDArray[Any]] = [np.zeros(0)]
    for rows, place in _parts(graph.weights):
        columns = graph.weights.indices[place]
        hanging = (rows < graph.articles) & (columns >= graph.articles)
        tied = labels[rows[hanging]].astype(np.int64) * concepts + columns[hanging] - graph.articles
        key, at = np.unique(tied, return_inverse=True)
        keys.append(key)
        sums.append(np.bincount(at, graph.weights.data[place][hanging], minlength=len(key)))
    key, at = np.unique(np.concatenate(keys), return_inverse=True)
    strength = np.bincount(at, np.concatenate(sums), minlength=len(key))
    community = key // max(concepts, 1)
    order = np.lexsort((-strength, community))
    first = np.searchsorted(community[order], community[order])
    most = order[np.arange(len(order)) - first < _NAMED]
    named: dict[int, list[int]] = {}
    for one in most.tolist():
        named.setdefault(int(community[one]), []).append(int(key[one] % concepts))
    return named


def spread(
    answers: Sequence[Sequence[Evidence]],
    limit: int,
    community: Callable[[Evidence], Hashable] = lambda item: item.community and item.community.number,
) -> list[Evidence]:
    """At most `limit` passages of several answers, diversified over communities.

    The value of a passage is 1 / rank, halved for each passage of its community taken before it; a passage in several
    answers counts at its best rank. Ties go to the better rank, then to the earlier answer.
    """
    left: dict[str, tuple[int, int, Evidence]] = {}
    for number, answer in enumerate(answers):
        for place, item in enumerate(answer, 1):
            known = left.get(item.pmid)
            if known is None or place < known[0]:
                left[item.pmid] = (place, number, item)
    taken: list[Evidence] = []
    used: Counter[Hashable] = Counter()
    while left and len(taken) < limit:
        best = max(left.values(), key=lambda one: (DECAY ** used[community(one[2])] / one[0], -one[0], -one[1]))
        taken.append(left.pop(best[2].pmid)[2])
        if (key := community(best[2])) is not None:
            used[key] += 1
    return taken
