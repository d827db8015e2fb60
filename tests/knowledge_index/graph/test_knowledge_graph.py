"""The graph's edges and their relations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knowledge_index import Article, Concept
from knowledge_index.graph.edges import edges_of
from knowledge_index.graph.files import build_graph
from knowledge_index.graph.knowledge_graph import RELATIONS, Hop, KnowledgeGraph
from knowledge_index.indexing.build import concepts_of
from tests.knowledge_index.conftest import LITERATURE, article

CONCEPTS = (Concept("D1", "Parent", ("C01",)), Concept("D2", "Part", ("C01.100.200",)), Concept("D3", "Other"))


def built(articles: Sequence[Article], concepts: Sequence[Concept], by_name: dict[str, str]) -> KnowledgeGraph:
    return build_graph(edges_of(articles, concepts, by_name), len(articles), len(articles) + len(concepts))


def edges(graph: KnowledgeGraph) -> set[tuple[int, str, int]]:
    matrix = graph.weights.tocoo()
    return {
        (int(row), RELATIONS[relation], int(column))
        for row, column, relation in zip(matrix.row, matrix.col, graph.relations, strict=True)
    }


def test_headings_tree_and_citations_become_edges_in_both_directions() -> None:
    articles = (article("1", "t", "", "*Part/D2", references=("2", "999")), article("2", "t", "", "Other/D3"))
    graph = built(articles, CONCEPTS, {})
    assert edges(graph) == {
        (3, "main heading of", 0),
        (0, "mainly indexed with", 3),
        (4, "heading of", 1),
        (1, "indexed with", 4),
        (3, "narrower than", 2),
        (2, "broader than", 3),
        (0, "cites", 1),
        (1, "cited by", 0),
    }
    assert (graph.weights != graph.weights.T).nnz == 0


def test_mentions_become_edges() -> None:
    concepts = concepts_of((), {})
    number = next(at for at, concept in enumerate(concepts, 3) if concept.ui == "D018805")
    articles = (
        article("1", "Sepsis in the ward", ""),
        article("2", "No sepsis here", ""),
        article("3", "Sepsis", "", "*Sepsis/D018805"),
    )
    about = {edge for edge in edges(built(articles, concepts, {})) if edge[0] == number and edge[2] < 3}
    assert about == {(number, "mentioned in", 0), (number, "main heading of", 2)}


def test_check_tags_are_excluded() -> None:
    names = {concept.name for concept in concepts_of(LITERATURE, {})}
    assert "Humans" not in names
    assert {"Heart Failure", "Telemedicine"} <= names


def test_a_heading_without_id_finds_its_descriptor_by_name() -> None:
    articles = (article("1", "t", "", "heart failure"), article("2", "t", "", "Mucus"))
    concepts = concepts_of(articles, {"heart failure": "D006333"})
    assert {"D006333", "name:mucus"} <= {concept.ui for concept in concepts}
    assert "name:heart failure" not in {concept.ui for concept in concepts}


def test_concepts_often_indexed_together_are_joined() -> None:
    together = [article(str(n), "t", "", "Parent/D1", "Other/D3") for n in range(4)]
    apart = [article(str(n + 10), "t", "", "Part/D2") for n in range(20)]
    graph = built([*together, *apart], CONCEPTS, {})
    joined = {edge for edge in edges(graph) if edge[1] == "often indexed together with"}
    assert joined == {(24, "often indexed together with", 26), (26, "often indexed together with", 24)}


def test_the_path_follows_the_largest_flow() -> None:
    articles = (article("1", "t", "", "*Part/D2"), article("2", "t", "", "*Part/D2", references=("1",)))
    graph = built(articles, CONCEPTS, {})
    rank = graph.walk({2: 1.0})
    assert graph.path(0, [2], rank) == (Hop(2, "broader than", 3), Hop(3, "main heading of", 0))
    assert graph.path(0, [4], rank) == ()
    assert graph.path(0, [2], rank, length=1) == ()


def test_one_kind_of_edge_can_be_removed() -> None:
    articles = (article("1", "t", "", "*Part/D2", references=("2",)), article("2", "t", "", "Other/D3"))
    graph = built(articles, CONCEPTS, {})
    less = edges(graph.without("citations"))
    assert edges(graph) - less == {(0, "cites", 1), (1, "cited by", 0)}
    assert less < edges(graph)


def test_a_walk_without_seeds_is_zero() -> None:
    graph = built(LITERATURE, concepts_of(LITERATURE, {}), {})
    assert not graph.walk({}).any()


def test_a_walk_from_an_isolated_node_stays_there() -> None:
    graph = built((article("1", "t", ""),), CONCEPTS, {})
    np.testing.assert_allclose(graph.walk({0: 3.0}), [1.0, 0.0, 0.0, 0.0])
