"""Index files: verified before they are opened, and deterministic."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest

from artifact_store import manifests
from knowledge_index import ArtifactError, KnowledgeIndex, MiniLMEncoder, build_index
from knowledge_index.core import storage
from knowledge_index.core.arrays import load_array, save_array
from knowledge_index.core.articles import ArticleStore, save_articles
from knowledge_index.core.storage import read_manifest, verify_index
from tests.knowledge_index.conftest import LITERATURE

FILES = [
    "articles.jsonl", "article_offsets.npy", "vectors.faiss", "terms.json", "bm25_idf.npy", "bm25_weights.npy",
    "bm25_documents.npy", "bm25_starts.npy", "communities.json", "communities.npy", "concepts.json",
    "graph_weights.npy", "graph_nodes.npy", "graph_starts.npy", "graph_relations.npy", "retracted.npy",
]  # fmt: skip


@pytest.fixture
def copy(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "copy"))


def test_the_manifest_names_every_file(index_folder: Path) -> None:
    manifest = verify_index(index_folder)
    assert sorted(manifest.files) == sorted(FILES)
    assert {path.name for path in index_folder.iterdir()} == {manifest.generation, "manifest.json"}
    assert {path.name for path in manifest.inside(index_folder).iterdir()} == set(FILES)
    assert (manifest.encoder, manifest.dimensions, manifest.source) == ("all-MiniLM-L6-v2-int8", 384, "tests")
    assert manifest.counts["articles"] == len(LITERATURE)
    assert manifest.counts["retracted"] == 1


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_rejected(copy: Path, name: str) -> None:
    path = read_manifest(copy).inside(copy) / name
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="altered") as caught:
        KnowledgeIndex.open(copy)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_truncated_files_are_reported(copy: Path, name: str) -> None:
    path = read_manifest(copy).inside(copy) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="altered"):
        verify_index(copy)
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        verify_index(copy)


BAD_MANIFESTS = [
    (b"", "not JSON"),
    (b"[]", "not a manifest"),
    (b"{}", "not a manifest"),
    ({"format": 99}, "format 99"),
    ({"dimensions": 0}, "0 dimensions"),
    ({"dimensions": 10_000_000}, "10000000 dimensions"),
    ({"counts": {"articles": 0}}, "0 articles"),
    ({"counts": {"articles": 10**12}}, "1000000000000 articles"),
    ({"counts": {}}, "not a manifest"),
    ({"files": {"../outside": {"sha256": "0", "size": 1}}}, "leaves the folder"),
    ({"generation": "../../elsewhere"}, "leaves the folder"),
    ({"files": {"x": {"sha256": "0"}}}, "not a manifest"),
    (b" " * (1 << 20) + b"{}", "larger than any manifest"),
]


@pytest.mark.parametrize(("change", "message"), BAD_MANIFESTS)
def test_malformed_manifests_are_rejected(copy: Path, change: bytes | dict[str, object], message: str) -> None:
    path = copy / "manifest.json"
    content = change if isinstance(change, bytes) else orjson.dumps(orjson.loads(path.read_bytes()) | change)
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        KnowledgeIndex.open(copy)


def test_a_folder_without_manifest_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an index"):
        KnowledgeIndex.open(tmp_path)


@pytest.mark.parametrize(("name", "count"), [("articles", 7), ("articles", 9), ("terms", 3), ("concepts", 3)])
def test_inconsistent_counts_are_rejected(copy: Path, name: str, count: int) -> None:
    """The manifest is not itself hashed: one that lies about the counts must not lead to reading out of bounds."""
    path = copy / "manifest.json"
    content = orjson.loads(path.read_bytes())
    content["counts"][name] = count
    path.write_bytes(orjson.dumps(content))
    with pytest.raises(ArtifactError):
        KnowledgeIndex.open(copy)


def test_two_builds_of_the_same_input_give_the_same_hashes(index_folder: Path, tmp_path: Path) -> None:
    again = build_index(LITERATURE, tmp_path / "again", MiniLMEncoder(threads=2), source="tests")
    assert again == verify_index(index_folder)
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (index_folder / "manifest.json").read_bytes()


def test_articles_round_trip(tmp_path: Path) -> None:
    save_articles(tmp_path, LITERATURE)
    store = ArticleStore(tmp_path, len(LITERATURE))
    assert [store[position] for position in range(len(store))] == list(LITERATURE)


def test_arrays_of_another_dtype_or_shape_are_rejected(tmp_path: Path) -> None:
    save_array(tmp_path, "numbers", np.arange(6, dtype=np.int32))
    assert load_array(tmp_path, "numbers", np.int32, (None,)).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ArtifactError, match="int32"):
        load_array(tmp_path, "numbers", np.float32, (6,))
    with pytest.raises(ArtifactError, match="expected"):
        load_array(tmp_path, "numbers", np.int32, (5,))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_array(tmp_path, "objects", np.int32, (1,))


@pytest.fixture
def large(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index all of whose files but FAISS's count as large, opened once."""
    monkeypatch.setattr(storage, "LARGE", 1)
    KnowledgeIndex.open(copy)
    return copy


def test_a_large_file_is_hashed_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = manifests.sha256_of
    monkeypatch.setattr(manifests, "sha256_of", lambda path: hashed.append(path.name) or real(path))
    KnowledgeIndex.open(large)
    assert hashed == ["vectors.faiss"]
    verify_index(large)
    assert sorted(hashed) == sorted([*FILES, "vectors.faiss"])


@pytest.mark.parametrize("name", FILES)
def test_changed_large_files_are_hashed_again(large: Path, name: str) -> None:
    path = read_manifest(large).inside(large) / name
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ArtifactError, match="altered"):
        KnowledgeIndex.open(large)


@pytest.mark.parametrize(
    "stamp", [b"", b"[]", b"{}", b'{"manifest": "x", "files": {}}', b'{"manifest": 1, "files": 3}']
)
def test_malformed_stamps_are_ignored(large: Path, stamp: bytes) -> None:
    path = read_manifest(large).inside(large) / "articles.jsonl"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (large / ".verified.json").write_bytes(stamp)
    with pytest.raises(ArtifactError, match="altered"):
        KnowledgeIndex.open(large)
