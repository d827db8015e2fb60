"""Words and edges written in blocks and ranges give what doing it at once gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_index.graph import files as graph_files
from knowledge_index.graph.edges import edges_of
from knowledge_index.graph.files import build_graph, write_graph
from knowledge_index.graph.sparse_cells import CellFiles
from knowledge_index.indexing.build import concepts_of
from knowledge_index.search.bm25 import Bm25, terms, write_bm25
from knowledge_index.search.postings import Postings
from tests.knowledge_index.conftest import LITERATURE

TEXTS = ["heart failure and sodium", "", "sodium, sodium and the kidney", "falls in heart failure", "kidney"]


def filled(postings: Postings) -> tuple[list[int], list[float]]:
    documents, weights = np.empty(len(postings), np.int32), np.empty(len(postings), np.float32)
    postings.fill(documents, weights, lambda term, document, count: 100.0 * term + 10 * document + count)
    postings.close()
    return documents.tolist(), weights.tolist()


@pytest.mark.parametrize("block", [1, 2, 5])
def test_block_size_does_not_change_postings(block: int) -> None:
    small, one = Postings(TEXTS, terms, block=block), Postings(TEXTS, terms)
    assert small.vocabulary == one.vocabulary
    assert small.starts.tolist() == one.starts.tolist()
    assert filled(small) == filled(one)


def test_written_bm25_equals_the_in_memory_index(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    in_memory = Bm25.build(TEXTS)
    assert write_bm25(folder, TEXTS) == len(in_memory.vocabulary)
    for name, array in (("documents", in_memory.weights.indices), ("weights", in_memory.weights.data)):
        np.testing.assert_array_equal(np.load(folder / f"bm25_{name}.npy"), array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_texts_without_words_give_no_terms(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    assert write_bm25(folder, ["", "the"]) == 0
    assert np.load(folder / "bm25_weights.npy").shape == (0,)


CELLS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 200)), max_size=60)


@given(CELLS, st.sets(st.integers(1, 9)), st.integers(1, 60))
def test_cells_are_sorted_and_the_first_duplicate_is_kept(
    cells: list[tuple[int, int, int]], inner: set[int], at_a_time: int
) -> None:
    expected: dict[tuple[int, int], int] = {}
    for row, column, kind in cells:
        expected.setdefault((row, column), kind)
    files = CellFiles(np.array([0, *sorted(inner), 10]), 10)
    for start in range(0, len(cells), at_a_time):
        rows, columns, kinds = np.array(cells[start : start + at_a_time]).T
        files.add(rows, columns, kinds / 2, kinds.astype(np.uint8))
    parts = list(files.rows())
    counts, columns, values, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found = zip(np.repeat(np.arange(10), counts).tolist(), columns.tolist(), kinds.tolist(), strict=True)
    assert list(found) == [(*place, kind) for place, kind in sorted(expected.items())]
    assert (values == kinds / 2).all()


def test_a_graph_in_files_equals_the_in_memory_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    concepts = concepts_of(LITERATURE, {})
    articles, nodes = len(LITERATURE), len(LITERATURE) + len(concepts)
    whole = build_graph(edges_of(LITERATURE, concepts, {}), articles, nodes)
    monkeypatch.setattr(graph_files, "_ARTICLES", 3)
    monkeypatch.setattr(graph_files, "_CONCEPTS", 100)
    assert write_graph(folder, edges_of(LITERATURE, concepts, {}), articles, nodes) == whole.weights.nnz
    for name, array in {
        "weights": whole.weights.data,
        "nodes": whole.weights.indices,
        "starts": whole.weights.indptr,
        "relations": whole.relations,
    }.items():
        np.testing.assert_array_equal(np.load(folder / f"graph_{name}.npy"), array)
