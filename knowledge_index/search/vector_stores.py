"""Nearest-neighbour search by cosine: exact for a small index, compressed for a large one, both in shards.

flat          every vector as float32; exact. Below `vector_files.EXACT_BELOW` vectors.
compressed    inverted lists of 4-bit product-quantised codes scanned in registers (FAISS `IVF,PQx4fs`: Johnson et al.,
              "Billion-scale similarity search with GPUs", 2019; André et al., "Quicker ADC", 2019) propose candidates;
              one byte for each dimension, read from a memory map, puts them in their final order.
PostgreSQL    pgvector answers the same queries: see `pgvector`.

Shards of one index share the trained quantizers, so that a shard can be written without reading the others, and a
search over all shards equals a search over the merged index. Rows that were removed or replaced stay in their shard,
marked in `RemappedRows`, until `compact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array
from knowledge_index.core.errors import ArtifactError

PROBES = 64
"""Inverted lists probed per query. Measured by `python -m benchmarks.vector_scale`, as is the depth."""
_DEPTH, _DEPTH_TIMES = 256, 2
"""Candidates that are re-ranked: at least 256, and twice as many as requested."""

Vectors = NDArray[np.float32]
Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and rows, each of shape (queries, k), best first; padded with row -1 at score -inf."""


class VectorStore(Protocol):
    """Rows of L2-normalised vectors. A row's number is its position in insertion order."""

    @property
    def dimensions(self) -> int: ...

    def __len__(self) -> int:
        """The number of searchable rows."""
        ...

    def search(self, questions: Vectors, k: int) -> Found:
        """The `k` rows nearest by cosine to each query, shape (queries, dimensions)."""
        ...


class FlatVectors:
    """Exact search. `FlatVectors.of(vectors)` in memory, `FlatVectors.open(folder)` from an index folder."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.dimensions = int(index.d)

    @classmethod
    def of(cls, vectors: Vectors) -> FlatVectors:
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, np.float32))
        return cls(index)

    @classmethod
    def open(cls, folder: Path, shard: int = 0) -> FlatVectors:
        return cls(read_faiss(folder / shard_files(shard)[0], "IndexFlat"))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def stored(self, start: int, end: int) -> Vectors:
        """The stored rows `start` to `end`."""
        vectors: Vectors = self._index.reconstruct_n(start, end - start)
        return vectors

    def search(self, questions: Vectors, k: int) -> Found:
        scores, rows = self._index.search(np.ascontiguousarray(questions, np.float32), k)
        return _padded(scores, rows)


class ByteCodes:
    """Scalar quantization to one byte per dimension: `low + step * code`, clipped to the bounds of a sample.

    >>> codec = ByteCodes.trained(np.array([[0.0, -1.0], [1.0, 1.0]], np.float32))
    >>> codec.encode(np.array([[0.25, 9.0]], np.float32)).tolist()
    [[64, 255]]
    """

    def __init__(self, low: Vectors, step: Vectors) -> None:
        self.low, self.step = low, step

    @classmethod
    def trained(cls, sample: Vectors) -> ByteCodes:
        """A codec with the bounds of the sample in each dimension."""
        low, high = sample.min(axis=0).astype(np.float32), sample.max(axis=0).astype(np.float32)
        return cls(low, np.maximum(high - low, np.float32(1e-6)) / np.float32(255))

    def encode(self, vectors: Vectors) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = np.clip(np.rint((vectors - self.low) / self.step), 0, 255).astype(np.uint8)
        return codes

    def decode(self, codes: NDArray[np.uint8]) -> Vectors:
        return codes.astype(np.float32) * self.step + self.low

    def scores(self, codes: NDArray[np.uint8], question: Vectors) -> NDArray[np.float32]:
        """Inner products of a query, shape (dimensions,), with coded vectors, shape (rows, dimensions)."""
        return codes.astype(np.float32) @ (question * self.step) + np.float32(question @ self.low)


class CompressedVectors:
    """Candidates from inverted lists in memory, re-ranked by byte codes on disk; over one or more shards."""

    def __init__(self, shards: Sequence[tuple[Any, NDArray[np.uint8]]], codec: ByteCodes, probes: int = PROBES) -> None:
        self._shards, self._codec = tuple(shards), codec
        self._first = np.cumsum([0, *(len(codes) for _, codes in shards)])
        self.dimensions = int(shards[0][0].d)
        self.set_probes(probes)

    @classmethod
    def open(cls, folder: Path, shards: Sequence[int] = (0,)) -> CompressedVectors:
        opened = [_read_compressed(folder, shard) for shard in shards]
        return cls(opened, read_codec(folder, int(opened[0][0].d)))

    def set_probes(self, probes: int) -> None:
        """Sets the number of inverted lists to probe: more is slower and finds more."""
        for lists, _ in self._shards:
            lists.nprobe = min(probes, int(lists.nlist))

    def __len__(self) -> int:
        return int(self._first[-1])

    def stored(self, start: int, end: int) -> Vectors:
        """The decoded rows `start` to `end`, normalised."""
        parts = [
            codes[max(0, start - first) : max(0, end - first)]
            for (_, codes), first in zip(self._shards, self._first, strict=False)
        ]
        vectors = self._codec.decode(np.concatenate(parts))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return vectors

    def search(self, questions: Vectors, k: int) -> Found:
        asked = np.ascontiguousarray(questions, np.float32)
        depth = min(max(_DEPTH, _DEPTH_TIMES * k), len(self))
        found = [lists.search(asked, min(depth, len(codes))) for lists, codes in self._shards]
        proposed = [merged(found, self._first, at, depth)[1] for at in range(len(asked))]
        return stacked([self._in_order(question, rows, k) for question, rows in zip(asked, proposed, strict=True)])

    def _in_order(self, question: Vectors, candidates: NDArray[np.int64], k: int) -> Found:
        rows = np.sort(candidates[candidates >= 0])
        edges = np.searchsorted(rows, self._first)
        scores = [
            self._codec.scores(codes[rows[edges[shard] : edges[shard + 1]] - self._first[shard]], question)
            for shard, (_, codes) in enumerate(self._shards)
        ]
        return best_of(np.concatenate(scores), rows, k)


class ShardedVectors:
    """Several stores as one; their rows are concatenated."""

    def __init__(self, shards: Sequence[VectorStore]) -> None:
        self._shards = tuple(shards)
        self._first = np.cumsum([0, *(len(shard) for shard in shards)])
        self.dimensions = shards[0].dimensions

    def __len__(self) -> int:
        return int(self._first[-1])

    def search(self, questions: Vectors, k: int) -> Found:
        found = [shard.search(questions, k) for shard in self._shards]
        return stacked([merged(found, self._first, at, k) for at in range(len(questions))])


class RemappedRows:
    """A store with removed or moved rows: `position[row]` is the new number of a row, -1 where it was removed."""

    def __init__(self, store: VectorStore, position: NDArray[np.int64]) -> None:
        if len(position) != len(store):
            raise ValueError(f"{len(position)} positions for {len(store)} rows")
        self._store, self._position = store, position
        self._alive = int((position >= 0).sum())
        self.dimensions = store.dimensions

    def __len__(self) -> int:
        return self._alive

    def search(self, questions: Vectors, k: int) -> Found:
        return stacked([self._search(question[None], k) for question in questions])

    def _search(self, question: Vectors, k: int) -> Found:
        # The nearest rows may all be removed: request more until enough remain or the store is exhausted.
        wanted, asked = min(k, self._alive), min(2 * k, len(self._store))
        while True:
            scores, rows = self._store.search(question, asked)
            known = rows[0] >= 0
            position = self._position[rows[0][known]]
            alive = position >= 0
            if alive.sum() >= wanted or asked == len(self._store):
                return best_of(scores[0][known][alive], position[alive], k)
            asked = min(4 * asked, len(self._store))


def shard_files(shard: int) -> tuple[str, str]:
    """The file names of a shard's FAISS index and byte codes.

    >>> shard_files(0), shard_files(2)
    (('vectors.faiss', 'vectors_codes.npy'), ('vectors-2.faiss', 'vectors_codes-2.npy'))
    """
    suffix = f"-{shard}" if shard else ""
    return f"vectors{suffix}.faiss", f"vectors_codes{suffix}.npy"


def open_vectors(folder: Path, shards: int) -> VectorStore:
    """All shards of an index folder whose files were verified; `vector_rows.npy` maps rows to articles."""
    store: VectorStore
    if is_compressed(folder):
        store = CompressedVectors.open(folder, range(shards))
    else:
        flat = [FlatVectors.open(folder, shard) for shard in range(shards)]
        store = flat[0] if shards == 1 else ShardedVectors(flat)
    if (folder / "vector_rows.npy").exists():
        return RemappedRows(store, load_array(folder, "vector_rows", np.int64, (len(store),)))
    return store


def is_compressed(folder: Path) -> bool:
    return (folder / shard_files(0)[1]).exists()


def read_codec(folder: Path, dimensions: int) -> ByteCodes:
    low, step = load_array(folder, "vectors_scale", np.float32, (2, dimensions))
    return ByteCodes(np.array(low), np.array(step))


def _read_compressed(folder: Path, shard: int) -> tuple[Any, NDArray[np.uint8]]:
    faiss_file, codes_file = shard_files(shard)
    lists = read_faiss(folder / faiss_file, "IndexIVFPQFastScan")
    shape = (int(lists.ntotal), int(lists.d))
    return lists, load_array(folder, codes_file.removesuffix(".npy"), np.uint8, shape)


def read_faiss(path: Path, kind: str) -> Any:
    """Reads a verified FAISS file; allocations are bounded by the file size."""
    import faiss

    size = path.stat().st_size
    faiss.set_deserialization_vector_byte_limit(4 * size + (1 << 20))
    faiss.set_deserialization_loop_limit(1 << 20)
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ArtifactError("FAISS cannot read it", path=str(path)) from error
    if not type(index).__name__.startswith(kind):
        raise ArtifactError(f"holds {type(index).__name__}, expected {kind}", path=str(path))
    return index


def merged(found: Sequence[Found], first: NDArray[np.int64], at: int, k: int) -> Found:
    """The `k` best rows of query number `at` over several stores whose rows begin at `first`."""
    scores = np.concatenate([scores[at] for scores, _ in found])
    rows = np.concatenate(
        [np.where(rows[at] >= 0, rows[at] + start, -1) for (_, rows), start in zip(found, first, strict=False)]
    )
    return best_of(scores, rows, k)


def best_of(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
    """The `k` best rows of one query, ties by row, padded to `k`; both of shape (k,)."""
    order = np.lexsort((rows, -scores))
    order = order[rows[order] >= 0][:k]
    out_scores, out_rows = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
    out_scores[: len(order)], out_rows[: len(order)] = scores[order], rows[order]
    return out_scores, out_rows


def stacked(found: Sequence[Found]) -> Found:
    return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])


def _padded(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Found:
    scores[rows < 0] = -np.inf
    return scores, rows
