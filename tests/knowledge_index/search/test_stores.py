"""One suite for every store of vectors: flat, compressed, in shards, with removed rows, and in PostgreSQL."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from knowledge_index import ArtifactError, KnowledgeIndexError, RetrievalError
from knowledge_index.core.arrays import save_array
from knowledge_index.search import vector_files as module
from knowledge_index.search.pgvector import PgVectors
from knowledge_index.search.vector_stores import (
    CompressedVectors,
    FlatVectors,
    RemappedRows,
    ShardedVectors,
    Vectors,
    VectorStore,
    open_vectors,
)

COUNT, DIMENSIONS, LISTS = 3000, 32, 16


def clustered(count: int, seed: int) -> Vectors:
    """Normalised vectors around 60 centres, shape (count, DIMENSIONS)."""
    centres = np.random.default_rng(0).standard_normal((60, DIMENSIONS))
    rng = np.random.default_rng(seed)
    drawn = centres[rng.integers(0, 60, count)] + 0.6 * rng.standard_normal((count, DIMENSIONS))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUESTIONS = clustered(COUNT, 1), clustered(60, 2)
EXACT = np.argsort(-(QUESTIONS @ VECTORS.T), axis=1, kind="stable")[:, :10]


@pytest.fixture(scope="session")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compressed")
    module.write_vectors(folder, [VECTORS], COUNT, lists=LISTS)
    return folder


def in_shards(base: Path, folder: Path) -> VectorStore:
    if (base / "vectors_scale.npy").exists():
        shutil.copy(base / "vectors_scale.npy", folder)
    for shard, (start, end) in enumerate(((0, 1100), (1100, 1101), (1101, COUNT))):
        module.write_shard(folder, shard, base, [VECTORS[start:end]], end - start)
    return open_vectors(folder, 3)


def flat(folder: Path, base: Path, address: str) -> VectorStore:
    module.write_vectors(folder, [VECTORS], COUNT)
    return open_vectors(folder, 1)


def flat_shards(folder: Path, base: Path, address: str) -> VectorStore:
    module.write_vectors(folder, [VECTORS], COUNT)
    (folder / "parts").mkdir()
    return in_shards(folder, folder / "parts")


def ivf(folder: Path, base: Path, address: str) -> VectorStore:
    return open_vectors(base, 1)


def ivf_shards(folder: Path, base: Path, address: str) -> VectorStore:
    return in_shards(base, folder)


def moved_rows(folder: Path, base: Path, address: str) -> VectorStore:
    """Every vector twice, the first copies gone: the answer is the same, the work is not."""
    twice = FlatVectors.of(np.concatenate([VECTORS, VECTORS]))
    return RemappedRows(twice, np.concatenate([np.full(COUNT, -1), np.arange(COUNT)]))


def pgvector(folder: Path, base: Path, address: str) -> VectorStore:
    store = PgVectors(address, "suite")
    store.write([VECTORS[:1000], VECTORS[1000:]], "of this suite")
    return store


def pgvector_hnsw(folder: Path, base: Path, address: str) -> VectorStore:
    store = PgVectors(address, "suite_hnsw")
    store.write([VECTORS], "of this suite")
    store.build_hnsw()
    return store


STORES = (flat, flat_shards, ivf, ivf_shards, moved_rows, pgvector, pgvector_hnsw)
EXACT_STORES = (flat, flat_shards, moved_rows, pgvector)


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path, compressed: Path) -> Iterator[VectorStore]:
    make: Callable[[Path, Path, str], VectorStore] = request.param
    address = request.getfixturevalue("postgres") if make.__name__.startswith("pgvector") else ""
    made = make(tmp_path, compressed, address)
    yield made
    if isinstance(made, PgVectors):
        made.close()


def test_nearest_vectors_are_found(store: VectorStore, request: pytest.FixtureRequest) -> None:
    scores, rows = store.search(QUESTIONS, 10)
    assert (scores.shape, rows.shape) == ((60, 10), (60, 10))
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, EXACT, strict=True)])
    exact = request.node.callspec.id in {make.__name__ for make in EXACT_STORES}
    assert share == 1.0 if exact else share > 0.95
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores, np.take_along_axis(QUESTIONS @ VECTORS.T, rows, 1), atol=0.02)


def test_stores_report_their_size(store: VectorStore) -> None:
    assert (len(store), store.dimensions) == (COUNT, DIMENSIONS)


def test_a_vector_finds_itself(store: VectorStore) -> None:
    _, rows = store.search(VECTORS[[0, 1100, COUNT - 1]], 1)
    assert rows[:, 0].tolist() == [0, 1100, COUNT - 1]


def test_results_are_padded_to_k(store: VectorStore) -> None:
    scores, rows = store.search(QUESTIONS[:1], COUNT + 5)
    found = rows[0] >= 0
    assert not found[-5:].any()
    assert np.isneginf(scores[0][~found]).all()
    assert len(set(rows[0][found])) == found.sum()


def test_shards_searched_together_equal_the_merged_index(compressed: Path, tmp_path: Path) -> None:
    scores, rows = open_vectors(compressed, 1).search(QUESTIONS, 10)
    apart_scores, apart_rows = in_shards(compressed, tmp_path).search(QUESTIONS, 10)
    np.testing.assert_array_equal(apart_rows, rows)
    np.testing.assert_allclose(apart_scores, scores, atol=1e-6)


def test_written_vectors_are_deterministic(compressed: Path, tmp_path: Path) -> None:
    module.write_vectors(tmp_path, [VECTORS[:7], VECTORS[7:2000], VECTORS[2000:]], COUNT, lists=LISTS)
    first = {path.name: path.read_bytes() for path in compressed.iterdir()}
    assert len(first) >= 2
    for name, content in first.items():
        assert (tmp_path / name).read_bytes() == content, name


def test_removed_rows_are_never_found(compressed: Path) -> None:
    position = np.arange(COUNT)
    nearest = np.argsort(-(QUESTIONS[0] @ VECTORS.T))
    position[nearest[:500]] = -1
    for base in (FlatVectors.of(VECTORS), open_vectors(compressed, 1)):
        store = RemappedRows(base, position)
        _, rows = store.search(QUESTIONS[:1], 10)
        assert len(store) == COUNT - 500
        assert not set(rows[0].tolist()) & set(nearest[:500].tolist())
        assert (rows[0] >= 0).all()
    assert set(RemappedRows(FlatVectors.of(VECTORS), position).search(QUESTIONS[:1], 10)[1][0]) == set(nearest[500:510])


def test_row_mapping_must_fit_the_store() -> None:
    with pytest.raises(ValueError, match="2 positions for 3 rows"):
        RemappedRows(FlatVectors.of(VECTORS[:3]), np.arange(2))


def test_nested_shards_keep_row_numbers() -> None:
    inner = ShardedVectors([FlatVectors.of(VECTORS[:5]), FlatVectors.of(VECTORS[5:9])])
    outer = ShardedVectors([inner, FlatVectors.of(VECTORS[9:20])])
    assert outer.search(VECTORS[:20], 1)[1][:, 0].tolist() == list(range(20))


def test_compressed_vectors_are_decoded_approximately(compressed: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    apart = in_shards(compressed, tmp_path / "shards")
    for store in (open_vectors(compressed, 1), apart):
        assert isinstance(store, CompressedVectors)
        assert (store.stored(0, COUNT) * VECTORS).sum(axis=1).min() > 0.9998
        assert (store.stored(1099, 1105) * VECTORS[1099:1105]).sum(axis=1).min() > 0.9998


def test_small_indexes_are_exact_and_large_ones_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_vectors(tmp_path, [VECTORS], COUNT)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.faiss"]
    monkeypatch.setattr(module, "EXACT_BELOW", COUNT)
    (tmp_path / "many").mkdir()
    module.write_vectors(tmp_path / "many", [VECTORS], COUNT)
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        "vectors.faiss",
        "vectors_codes.npy",
        "vectors_scale.npy",
    ]


def test_a_wrong_vector_count_is_an_error(compressed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3000 vectors came, 2999 were announced"):
        module.write_shard(tmp_path, 1, compressed, [VECTORS], COUNT - 1)


def test_training_uses_gpus_where_present(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU build of FAISS is not on this machine: its two calls are stood in for."""
    asked: list[Any] = []
    fake = SimpleNamespace(
        IndexFlatIP=lambda dimensions: ("flat", dimensions),
        get_num_gpus=lambda: 2,
        index_cpu_to_all_gpus=lambda index: asked.append(index) or ("gpu", index),
    )
    assert module.assigner(fake, 384) == ("gpu", ("flat", 384))
    fake.get_num_gpus = lambda: 0
    assert module.assigner(fake, 384) == ("flat", 384)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "vectors.faiss").write_bytes(b"IwPfnothing"), "FAISS cannot read it"),
        (lambda folder: shutil.copy(folder / "flat.faiss", folder / "vectors.faiss"), "holds IndexFlat"),
        (lambda folder: save_array(folder, "vectors_codes", np.zeros((3, DIMENSIONS), np.uint8)), "expected uint8"),
        (lambda folder: save_array(folder, "vectors_scale", np.zeros((1, 1), np.float32)), "expected float32"),
    ],
)
def test_inconsistent_vector_files_are_rejected(
    compressed: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(compressed, tmp_path / "copy"))
    (tmp_path / "flat").mkdir()
    module.write_vectors(tmp_path / "flat", [VECTORS[:10]], 10)
    shutil.copy(tmp_path / "flat" / "vectors.faiss", folder / "flat.faiss")
    damage(folder)
    with pytest.raises(ArtifactError, match=message):
        open_vectors(folder, 1)


# PostgreSQL ----------------------------------------------------------------------------------------------------------


def test_rows_are_added_and_removed_in_postgresql(postgres: str) -> None:
    with closing(PgVectors(postgres, "changing")) as store:
        store.write([VECTORS[:100]], "first")
        store.add(VECTORS[100:150], 100)
        store.remove([0, 1, 149])
        assert len(store) == 147
        assert store.search(VECTORS[[148]], 1)[1][0, 0] == 148
        assert store.search(VECTORS[[149]], 1)[1][0, 0] != 149


def test_a_failed_write_keeps_the_old_vectors(postgres: str) -> None:
    with closing(PgVectors(postgres, "whole")) as store:
        store.write([VECTORS[:100]], "first")
        with pytest.raises(ArtifactError, match="refused"):
            store.write([VECTORS[:10], VECTORS[:10, :5]], "second")
        assert (len(store), store.fingerprint, store.dimensions) == (100, "first", DIMENSIONS)


@pytest.mark.parametrize("name", ["", "Upper", "a-b", "a;drop table x", "x" * 41, '"'])
def test_invalid_names_are_rejected_before_connecting(name: str) -> None:
    with pytest.raises(ArtifactError, match="a name is"):
        PgVectors("postgresql://nowhere.invalid", name)


def test_an_unreachable_database_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="PostgreSQL cannot be used"):
        PgVectors("host=/nonexistent dbname=x", "absent")


def test_a_missing_database_index_is_an_artifact_error(postgres: str) -> None:
    with closing(PgVectors(postgres, "never_written")) as store:
        with pytest.raises(ArtifactError, match="no vectors of that name"):
            _ = store.fingerprint
        with pytest.raises(RetrievalError, match="did not answer"):
            store.search(QUESTIONS, 3)


def test_a_lost_connection_is_a_retrieval_error(postgres: str) -> None:
    store = PgVectors(postgres, "lost")
    store.write([VECTORS[:10]], "x")
    store.close()
    with pytest.raises(RetrievalError, match="did not answer"):
        store.search(QUESTIONS, 3)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(KnowledgeIndexError, match=r"riskcards\[scale\]"):
        PgVectors("postgresql://anywhere", "name")
