"""Communities of the graph: planted groups are found, described and stored in the index."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from knowledge_index import Community, Evidence, KnowledgeIndex, Query, spread
from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.storage import read_manifest
from knowledge_index.graph import communities as module
from knowledge_index.graph.communities import levels_of, read_communities
from tests.knowledge_index.conftest import index, index_folder

__all__ = ["index", "index_folder"]


def cliques(count: int, size: int) -> sparse.csr_array:
    """Complete graphs in a ring, each joined to the next by one light edge."""
    dense = np.kron(np.eye(count), 1 - np.eye(size))
    for at in range(count):
        one, other = at * size, (at + 1) % count * size + 1
        dense[one, other] = dense[other, one] = 0.1
    return sparse.csr_array(dense)


def modularity(weights: sparse.csr_array, labels: np.ndarray) -> float:  # type: ignore[type-arg]
    """By its definition, pair by pair."""
    dense, total = weights.toarray(), weights.sum()
    degree = dense.sum(axis=1)
    same = labels[:, None] == labels[None, :]
    return float(((dense - np.outer(degree, degree) / total) * same).sum() / total)


@pytest.mark.parametrize("edges_at_a_time", [1, 40, 1 << 22])
def test_planted_groups_are_found(monkeypatch: pytest.MonkeyPatch, edges_at_a_time: int) -> None:
    monkeypatch.setattr(module, "_EDGES", edges_at_a_time)
    weights = cliques(6, 5)
    labels = levels_of(weights)[-1]
    groups = labels.reshape(6, 5)
    assert (groups == groups[:, :1]).all()


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0.1, 5.0)), max_size=40))
def test_levels_are_nested_with_increasing_modularity(edges: list[tuple[int, int, float]]) -> None:
    dense = np.zeros((12, 12))
    for one, other, weight in edges:
        if one != other:
            dense[one, other] = dense[other, one] = weight
    weights = sparse.csr_array(dense)
    levels = levels_of(weights)
    assert bool(levels) == bool(weights.nnz)
    for fine, coarse in pairwise(levels):
        assert len(set(zip(fine.tolist(), coarse.tolist(), strict=True))) == len(set(fine.tolist()))
    for labels in levels:
        assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))
        assert modularity(weights, labels) >= modularity(weights, np.arange(12)) - 1e-9


def test_the_shipped_index_has_described_communities() -> None:
    shipped = KnowledgeIndex.open_starter()
    manifest = shipped.manifest
    listed = read_communities(manifest.inside(KnowledgeIndex.starter_folder()), manifest.counts["communities"])
    assert {item.level for item in listed} == set(range(manifest.counts["community_levels"]))
    coarsest = [item for item in listed if item.parent is None]
    assert len(shipped) / 2 < sum(item.articles for item in coarsest) <= len(shipped)
    titles = {shipped.article(at).title for at in range(len(shipped))}
    assert all(set(item.titles) <= titles and item.concepts and item.articles > 1 for item in listed)
    heart = shipped.search(Query("heart failure readmission"), 3)
    assert any(item.community and "Heart Failure" in item.community.in_words() for item in heart)


def test_communities_are_deterministic(index: KnowledgeIndex) -> None:
    one, other = (levels_of(index.graph.weights) for _ in range(2))
    assert one
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_malformed_summaries_are_rejected(tmp_path: Path, index_folder: Path) -> None:
    count = read_manifest(index_folder).counts["communities"]
    (tmp_path / "communities.json").write_text("[[1, 2]]" if count != 1 else "[]")
    with pytest.raises(ArtifactError):
        read_communities(tmp_path, count)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_communities(tmp_path, 1 if count != 1 else 0)


def evidence(pmid: int, community: int | None) -> Evidence:
    part = None if community is None else Community(0, community, 2)
    return Evidence(str(pmid), "", "", 1.0, "graph", community=part)


@pytest.mark.parametrize(
    ("answers", "limit", "expected"),
    [
        # Without communities the answers are taken in turn.
        ([[(1, None), (2, None)], [(3, None), (4, None)]], 3, [1, 3, 2]),
        # The second answer's first would repeat; the better place still goes first.
        ([[(1, 7), (2, 8)], [(3, 7), (4, 9)]], 4, [1, 3, 2, 4]),
        # At equal worth the earlier place; a third of the same community waits behind other second places.
        ([[(1, 7), (2, 7)], [(3, 8), (4, 9)]], 4, [1, 3, 4, 2]),
        # What several answers hold is taken once, where it stands best.
        ([[(1, None), (2, None)], [(2, None), (1, None)]], 5, [1, 2]),
        ([], 5, []),
    ],
)
def test_evidence_is_diversified_over_answers_and_communities(
    answers: list[list[tuple[int, int | None]]], limit: int, expected: list[int]
) -> None:
    found = [[evidence(*item) for item in answer] for answer in answers]
    assert [int(item.pmid) for item in spread(found, limit)] == expected
