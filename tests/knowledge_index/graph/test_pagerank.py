"""The local push against the exact walk: right, near its seeds, and bounded in work."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from knowledge_index.graph.pagerank import TOLERANCE, local_push


def power_law(nodes: int, edges: int, seed: int) -> sparse.csr_array:
    """Symmetric, a few hubs and many leaves, weights between .5 and 3."""
    rng = np.random.default_rng(seed)
    one, other = (nodes * rng.random(edges) ** 3).astype(int), rng.integers(0, nodes, edges)
    upper = sparse.coo_array((rng.uniform(0.5, 3.0, edges), (one, other)), shape=(nodes, nodes)).tocsr()
    upper.setdiag(0)
    upper.eliminate_zeros()
    return sparse.csr_array(upper + upper.T)


def exact(weights: sparse.csr_array, seeds: dict[int, float], damping: float) -> np.ndarray[tuple[int], np.dtype]:
    """p = (1 - damping) s + damping W D^-1 p, solved as it stands, loose mass handed back to the seeds."""
    start = np.zeros(weights.shape[0])
    start[list(seeds)] = list(seeds.values())
    start /= start.sum()
    degree = np.asarray(weights.sum(axis=1)).ravel()
    inverse = np.divide(1.0, degree, out=np.zeros(len(degree)), where=degree > 0)
    rank = start
    for _ in range(500):
        moved = weights @ (rank * inverse)
        rank = damping * moved + (1 - damping * moved.sum()) * start
    return rank


@pytest.mark.parametrize("damping", [0.5, 0.85])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_top_fifty_equal_exact_pagerank(seed: int, damping: float) -> None:
    weights = power_law(20_000, 100_000, seed)
    seeds = {int(node): 1.0 for node in np.random.default_rng(seed).integers(0, 20_000, 6)}
    truth, found = exact(weights, seeds, damping), local_push(weights, seeds, damping)
    border = np.sort(truth)[-50]
    first = np.argsort(-found)[:50]
    assert (truth[first] >= border).mean() >= 0.95
    assert found.sum() == pytest.approx(1.0)


def test_a_smaller_tolerance_converges() -> None:
    weights = power_law(2_000, 9_000, 4)
    truth = exact(weights, {7: 2.0, 900: 1.0}, 0.5)
    distance = [
        np.abs(local_push(weights, {7: 2.0, 900: 1.0}, 0.5, tolerance) - truth).sum()
        for tolerance in (1e-4, 1e-6, 1e-9)
    ]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 2e-5  # the tolerance times the number of edges


def test_distant_nodes_are_not_visited() -> None:
    line = sparse.csr_array(sparse.diags_array([np.ones(99_999), np.ones(99_999)], offsets=[-1, 1]))
    rank = local_push(line, {0: 1.0}, 0.5)
    assert np.flatnonzero(rank).max() < 40
    assert (np.diff(rank[:10]) < 0).all()


def test_pagerank_is_deterministic() -> None:
    weights = power_law(5_000, 30_000, 5)
    assert local_push(weights, {3: 1.0, 4: 2.0}, 0.5).tobytes() == local_push(weights, {3: 1.0, 4: 2.0}, 0.5).tobytes()


@pytest.mark.parametrize("seeds", [{0: 1.0}, {0: 3.0, 1: 1.0}, {1: 1.0}])
def test_mass_on_a_node_without_edges_returns_to_the_seeds(seeds: dict[int, float]) -> None:
    weights = sparse.csr_array(np.array([[0, 0, 0], [0, 0, 2.0], [0, 2.0, 0]]))
    np.testing.assert_allclose(local_push(weights, seeds, 0.5, 1e-12), exact(weights, seeds, 0.5), atol=1e-9)


def test_without_seeds_the_result_is_zero() -> None:
    assert not local_push(power_law(50, 90, 6), {}, 0.5, TOLERANCE).any()
    assert not local_push(power_law(50, 90, 6), {3: 0.0}, 0.5, TOLERANCE).any()
