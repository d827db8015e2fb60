"""Builds the graph from its edges, in memory or in the files of an index, and reads these files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.core.arrays import load_array, release_pages, save_array
from knowledge_index.core.errors import ArtifactError
from knowledge_index.graph.edges import Edges
from knowledge_index.graph.knowledge_graph import OPPOSITE, KnowledgeGraph
from knowledge_index.graph.sparse_cells import CellFiles, RowBlock

_ARTICLES, _CONCEPTS = 1 << 17, 1 << 8
"""Nodes sorted together; a concept may have a thousand times as many edges as an article."""
_FILES = 384
"""Maximum number of ranges of each kind: all their files are open at once."""


def build_graph(edges: Iterable[Edges], articles: int, nodes: int) -> KnowledgeGraph:
    """The graph of `edges_of` in memory; the first `articles` of the nodes are articles."""
    parts = list(_sorted(edges, articles, nodes, None))
    counts, columns, values, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return KnowledgeGraph(articles, sparse.csr_array((values, columns, starts), shape=(nodes, nodes)), kinds)


def write_graph(folder: Path, edges: Iterable[Edges], articles: int, nodes: int) -> int:
    """Writes the graph files of an index; returns the number of directed edges. Memory holds one range of nodes."""
    starts = np.zeros(nodes + 1, np.int64)
    columns = _Growing("graph_nodes", folder.parent)
    values = _Growing("graph_weights", folder.parent)
    kinds = _Growing("graph_relations", folder.parent)
    row = 0
    for part in _sorted(edges, articles, nodes, folder.parent):
        starts[row + 1 : row + 1 + len(part.counts)] = part.counts
        row += len(part.counts)
        columns.append(part.columns)
        values.append(part.values)
        kinds.append(part.kinds)
    np.cumsum(starts, out=starts)
    save_array(folder, "graph_starts", starts)
    for file in (columns, values, kinds):
        file.save(folder)
    return int(starts[-1])


def load_graph(folder: Path, articles: int, concepts: int) -> KnowledgeGraph:
    """The graph of an index folder, memory-mapped."""
    nodes = articles + concepts
    matrix = load_matrix(folder, ("graph_weights", "graph_nodes", "graph_starts"), (nodes, nodes))
    return KnowledgeGraph(articles, matrix, load_array(folder, "graph_relations", np.uint8, (matrix.nnz,)))


def load_matrix(folder: Path, names: tuple[str, str, str], shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix of an index folder from its files of values, columns and row starts; `ArtifactError` where they are
    inconsistent.
    """
    data = load_array(folder, names[0], np.float32, (None,))
    columns = load_array(folder, names[1], np.int32, (len(data),))
    starts = load_array(folder, names[2], np.int64, (shape[0] + 1,))
    within = len(data) == 0 or (int(columns.min()) >= 0 and int(columns.max()) < shape[1])
    if int(starts[0]) != 0 or int(starts[-1]) != len(data) or (np.diff(starts) < 0).any() or not within:
        raise ArtifactError("offsets do not fit the values", path=str(folder / f"{names[2]}.npy"))
    release_pages(columns)
    if len(data) < 2**31:
        # SciPy copies the columns to the wider of the two integer types: a gigabyte for a million articles.
        return sparse.csr_array((data, columns, starts.astype(np.int32)), shape=shape, copy=False)
    nothing = np.zeros(0, np.float32)
    wide = sparse.csr_array((nothing, nothing.astype(np.int32), np.zeros(shape[0] + 1, np.int32)), shape=shape)
    wide.data, wide.indices, wide.indptr = data, columns, starts
    return wide


def _sorted(edges: Iterable[Edges], articles: int, nodes: int, folder: Path | None) -> Iterator[RowBlock]:
    """Rows of the matrix with both directions of each edge. Of two edges between the same nodes the first keeps its
    relation; headings come first.
    """
    of_articles, of_concepts = (max(least, -(-many // _FILES)) for least, many in (
        (_ARTICLES, articles), (_CONCEPTS, nodes - articles)
    ))  # fmt: skip
    bounds = np.concatenate([np.arange(0, articles, of_articles), np.arange(articles, nodes, of_concepts), [nodes]])
    cells = CellFiles(bounds, nodes, folder)
    for source, target, weight, relation in edges:
        apart = source != target
        source, target, weight, relation = source[apart], target[apart], weight[apart], relation[apart]
        both = np.concatenate([relation, OPPOSITE[relation]])
        # Both directions of an edge together: of `A cites B` and `B cites A` the first must win at both ends.
        turn = np.arange(2 * len(source)).reshape(2, -1).T.ravel()
        rows, columns = np.concatenate([source, target]), np.concatenate([target, source])
        cells.add(rows[turn], columns[turn], np.concatenate([weight, weight])[turn], both[turn])
    return cells.rows()


class _Growing:
    """A `.npy` file written sequentially; its length is known only at the end."""

    def __init__(self, name: str, beside: Path) -> None:
        self._name = name
        self._stream: Any = tempfile.TemporaryFile(dir=beside)  # noqa: SIM115 - open until `save`
        self._dtype: np.dtype[Any] | None = None
        self._count = 0

    def append(self, values: NDArray[Any]) -> None:
        self._dtype = values.dtype
        self._stream.write(values.tobytes())
        self._count += len(values)

    def save(self, folder: Path) -> None:
        assert self._dtype is not None
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._count,)}
        self._stream.seek(0)
        with (folder / f"{self._name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(self._stream, file, 1 << 20)
        self._stream.close()
