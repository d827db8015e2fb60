"""Personalised PageRank by local push: only nodes near the seeds are visited.

Local push of Andersen, Chung and Lang, "Local Graph Partitioning using PageRank Vectors" (FOCS 2006), fig. 1, with all
nodes above the threshold pushed at once: each round is a few array operations, and no compiler is needed at run time
(see docs/decisions/0010-graph-step.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

TOLERANCE = 3e-6
"""Residual per edge below which a node is not pushed. Measured by `python -m benchmarks.graph_step`."""

_FEW = 4
"""A round that touches fewer than 1/4 of the nodes scatters its updates; a larger one sums over all nodes."""


def local_push(
    weights: sparse.csr_array, seeds: Mapping[int, float], damping: float, tolerance: float = TOLERANCE
) -> NDArray[np.float64]:
    """PageRank of every node, shape (nodes,): p = (1 - damping) s + damping W D^-1 p; zeros without seeds.

    `weights` is symmetric with shape (nodes, nodes). The mass on a node without edges returns to the seeds. At most
    1 / ((1 - damping) * tolerance) edges are visited, whatever the size of the graph.

    >>> line = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    >>> local_push(line, {0: 1.0}, damping=0.5, tolerance=1e-12).round(3).tolist()
    [0.583, 0.333, 0.083]
    """
    nodes = weights.shape[0]
    rank, residual = np.zeros(nodes), np.zeros(nodes)
    for node, weight in seeds.items():
        residual[node] += weight
    total = residual.sum()
    if total <= 0:
        return rank
    residual /= total
    degree = np.diff(weights.indptr)
    frontier = np.flatnonzero(residual)
    while len(frontier):
        pushed = residual[frontier]
        rank[frontier] += (1.0 - damping) * pushed
        residual[frontier] = 0.0
        frontier = _spread(weights, degree, frontier, damping * pushed, residual, tolerance)
    # Each residual would give at least its own share to its own node.
    rank += (1.0 - damping) * residual
    # Nodes without edges lose their mass; returning it to the seeds equals scaling the result.
    rank /= rank.sum()
    return rank


def _spread(
    weights: sparse.csr_array,
    degree: NDArray[np.integer],
    frontier: NDArray[np.int64],
    mass: NDArray[np.float64],
    residual: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.int64]:
    """Pushes the mass of each frontier node to its neighbours' residual; returns the nodes now above the threshold."""
    linked = degree[frontier] > 0
    frontier, mass = frontier[linked], mass[linked]
    counts = degree[frontier].astype(np.int64)
    edges = int(counts.sum())
    if not edges:
        return np.zeros(0, np.int64)
    first = np.cumsum(counts) - counts
    at = np.repeat(weights.indptr[frontier] - first, counts) + np.arange(edges)
    share = weights.data[at]
    given = share * np.repeat(mass / np.add.reduceat(share, first, dtype=np.float64), counts)
    reached = weights.indices[at]
    if edges * _FEW > len(residual):
        residual += np.bincount(reached, given, minlength=len(residual))
        return np.flatnonzero(residual > tolerance * degree)
    np.add.at(residual, reached, given)
    return np.unique(reached[residual[reached] > tolerance * degree[reached]]).astype(np.int64)
