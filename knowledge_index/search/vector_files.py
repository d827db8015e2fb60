"""Writes the vectors of an index in one or more shards: flat for small indexes, compressed for large ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array, save_array
from knowledge_index.search.vector_stores import (
    ByteCodes,
    CompressedVectors,
    FlatVectors,
    Vectors,
    is_compressed,
    read_codec,
    read_faiss,
    shard_files,
)

EXACT_BELOW = 50_000
"""Vectors. Below this a flat search takes a few milliseconds and is exact."""

_POINTS_PER_LIST = 50
_ROUNDS = 8
_CHUNK = 8192
"""Vectors passed to FAISS at once: 12 MB at 384 dimensions."""


def write_vectors(folder: Path, parts: Iterable[Vectors], count: int, *, lists: int | None = None) -> None:
    """Writes the first shard of an index from `parts`, arrays of shape (rows, dimensions), iterated more than once.

    `count` is the total number of vectors. Fewer than `EXACT_BELOW` are stored exactly, unless `lists` is given; more
    are compressed, with quantizers trained on a sample. Memory holds the sample and one chunk.
    """
    if count < EXACT_BELOW and lists is None:
        write_flat(folder, parts)
        return
    lists = lists or lists_for(count)
    sample = sample_of(parts, count, lists)
    trained, codec = train_lists(sample, lists), ByteCodes.trained(sample)
    save_array(folder, "vectors_scale", np.stack([codec.low, codec.step]))
    write_compressed(folder, trained, codec, parts, count)


def write_shard(folder: Path, shard: int, base: Path, parts: Iterable[Vectors], count: int) -> None:
    """Writes one more shard with the quantizers of shard 0 in `base`."""
    if not is_compressed(base):
        write_flat(folder, parts, shard)
        return
    lists = read_faiss(base / shard_files(0)[0], "IndexIVFPQFastScan")
    lists.reset()
    write_compressed(folder, lists, read_codec(base, int(lists.d)), parts, count, shard)


def write_flat(folder: Path, parts: Iterable[Vectors], shard: int = 0) -> None:
    import faiss

    index: Any = None
    for chunk in _chunks(parts):
        index = index or faiss.IndexFlatIP(chunk.shape[1])
        index.add(chunk)
    faiss.write_index(index, str(folder / shard_files(shard)[0]))


def write_compressed(
    folder: Path, lists: Any, codec: ByteCodes, parts: Iterable[Vectors], count: int, shard: int = 0
) -> None:
    """Fills trained, empty `lists` and writes them with the byte codes."""
    import faiss

    faiss_file, codes_file = shard_files(shard)
    codes = np.lib.format.open_memmap(folder / codes_file, "w+", np.uint8, (count, int(lists.d)))
    row = 0
    for chunk in _chunks(parts):
        lists.add(chunk)
        codes[row : row + len(chunk)] = codec.encode(chunk)[: count - row]
        row += len(chunk)
    if row != count:
        raise ValueError(f"{row} vectors came, {count} were announced")
    codes.flush()
    faiss.write_index(lists, str(folder / faiss_file))


def lists_for(count: int) -> int:
    """The number of inverted lists for `count` vectors: the power of two nearest to four times the square root.

    >>> lists_for(50_000), lists_for(1_000_000), lists_for(38_000_000)
    (1024, 4096, 32768)
    """
    return int(2 ** round(np.log2(4 * np.sqrt(count))))


def train_lists(sample: Vectors, lists: int) -> Any:
    """Empty inverted lists, trained on the sample of shape (points, dimensions)."""
    import faiss

    dimensions = sample.shape[1]
    index: Any = faiss.index_factory(dimensions, f"IVF{lists},PQ{dimensions // 4}x4fs", faiss.METRIC_INNER_PRODUCT)
    clustering: Any = faiss.Clustering(dimensions, lists)
    clustering.niter = _ROUNDS
    clustering.spherical = True
    clustering.min_points_per_centroid = 1
    clustering.train(sample, assigner(faiss, dimensions))
    index.quantizer.add(faiss.vector_to_array(clustering.centroids).reshape(lists, dimensions))
    # The many small problems of the product quantizer are slower on several threads than on one.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(sample)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def assigner(faiss: Any, dimensions: int) -> Any:
    """The flat index that assigns points to centroids, the slow part of training; on all GPUs where present.

    The GPU build of FAISS is the same module and writes the same files.
    """
    flat = faiss.IndexFlatIP(dimensions)
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return faiss.index_cpu_to_all_gpus(flat) if gpus else flat


def sample_of(parts: Iterable[Vectors], count: int, lists: int) -> Vectors:
    """Evenly spaced vectors of `count`, enough to train that many lists."""
    stride = max(1, count // max(_POINTS_PER_LIST * lists, 4096))
    return np.concatenate([np.asarray(part[::stride], np.float32) for part in _chunks(parts)])


def _chunks(parts: Iterable[Vectors]) -> Iterator[Vectors]:
    """The same vectors in chunks of `_CHUNK` rows, so that the input's chunking does not change the files."""
    held: list[Vectors] = []
    waiting = 0
    for part in parts:
        held.append(part)
        waiting += len(part)
        if waiting >= _CHUNK:
            joined = np.concatenate(held)
            whole = waiting - waiting % _CHUNK
            for start in range(0, whole, _CHUNK):
                yield np.ascontiguousarray(joined[start : start + _CHUNK], np.float32)
            held, waiting = [joined[whole:]], waiting - whole
    if waiting:
        yield np.ascontiguousarray(np.concatenate(held), np.float32)


class StoredVectors:
    """The vectors of a verified index folder in article order, without removed rows, in chunks."""

    def __init__(self, folder: Path, shards: int) -> None:
        self._stores: list[CompressedVectors | FlatVectors] = (
            [CompressedVectors.open(folder, range(shards))]
            if is_compressed(folder)
            else [FlatVectors.open(folder, shard) for shard in range(shards)]
        )
        self._first = np.cumsum([0, *map(len, self._stores)])
        self._row = np.arange(self._first[-1])
        if (folder / "vector_rows.npy").exists():
            position = load_array(folder, "vector_rows", np.int64, (len(self._row),))
            alive = np.flatnonzero(position >= 0)
            self._row = alive[np.argsort(position[alive], kind="stable")]

    def __iter__(self) -> Iterator[Vectors]:
        for start in range(0, len(self._row), _CHUNK):
            yield np.concatenate([self._stored(run) for run in _runs(self._row[start : start + _CHUNK])])

    def _stored(self, run: NDArray[np.int64]) -> Vectors:
        parts = []
        for store, first in zip(self._stores, self._first, strict=False):
            start, end = max(run[0] - first, 0), min(run[-1] + 1 - first, len(store))
            if start < end:
                parts.append(store.stored(int(start), int(end)))
        return np.concatenate(parts)


def _runs(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows split into runs of consecutive numbers.

    >>> [run.tolist() for run in _runs(np.array([4, 5, 6, 2, 9]))]
    [[4, 5, 6], [2], [9]]
    """
    return np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
