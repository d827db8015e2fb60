"""An updated index gives the results of a new build without encoding again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_index import (
    Article,
    ArticleError,
    ArtifactError,
    EncoderError,
    KnowledgeIndex,
    MiniLMEncoder,
    Query,
    build_index,
    compact_index,
    update_index,
)
from knowledge_index.core.storage import Manifest, opened, read_manifest, verify_index
from knowledge_index.indexing.update import Changed
from knowledge_index.search import vector_files as files
from knowledge_index.search.pgvector import PgVectors
from tests.knowledge_index.conftest import LITERATURE, article
from tests.knowledge_index.indexing.test_build import Counting

NEW = {
    "201": article("201", "Potassium binders", "A resin lowered potassium in kidney failure.", "Hyperkalemia/D006947"),
    "103": replace(LITERATURE[2], abstract="In a second analysis hyponatremia did not predict death."),
    "102": replace(LITERATURE[1], year=2011),
    "104": LITERATURE[3],
}
QUESTIONS = ("heart failure readmission", "hyponatremia and death", "potassium in kidney failure", "sepsis lactate")


def expected_after() -> list[Article]:
    kept = [item for item in LITERATURE if item.pmid not in {"102", "103", "106"}]
    return [*kept, NEW["201"], NEW["103"], NEW["102"]]


@pytest.fixture
def folder(tmp_path: Path, encoder: MiniLMEncoder) -> Path:
    build_index(LITERATURE, tmp_path / "index", encoder, source="tests")
    return tmp_path / "index"


def answers(index: KnowledgeIndex) -> list[list[tuple[str, float]]]:
    return [
        [(item.pmid, round(item.score, 5)) for item in index.search(Query(question), 5, retriever)]
        for question in QUESTIONS
        for retriever in ("bm25", "dense", "hybrid", "graph")
    ]


def test_an_updated_index_equals_a_new_build(folder: Path, tmp_path: Path, encoder: MiniLMEncoder) -> None:
    counting = Counting(encoder)
    manifest, changed = update_index(folder, NEW, ["106", "999"], counting)
    assert changed == Changed(added=1, replaced=2, unchanged=1, removed=1)
    assert counting.encoded == 2, "a new text and a changed one; a changed year needs no encoding"
    assert (manifest.counts["vector_shards"], manifest.counts["vector_rows_gone"]) == (2, 2)
    build_index(expected_after(), tmp_path / "anew", encoder, source="tests")
    updated, anew = KnowledgeIndex.open(folder, encoder), KnowledgeIndex.open(tmp_path / "anew", encoder)
    assert sorted(updated.pmids) == sorted(anew.pmids)
    assert answers(updated) == answers(anew)


def test_compaction_leaves_one_shard_and_the_same_results(folder: Path, encoder: MiniLMEncoder) -> None:
    update_index(folder, NEW, ["106"], encoder)
    update_index(folder, {}, ["105"], encoder)
    before = answers(KnowledgeIndex.open(folder, encoder))
    manifest = compact_index(folder)
    assert "vector_rows.npy" not in manifest.files
    assert [name for name in manifest.files if name.startswith("vectors")] == ["vectors.faiss"]
    assert answers(KnowledgeIndex.open(folder, encoder)) == before
    assert compact_index(folder) == manifest


def test_the_same_for_compressed_vectors(
    tmp_path: Path, encoder: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "EXACT_BELOW", 2)
    monkeypatch.setattr(files, "lists_for", lambda count: 1)
    literature = [replace(item, pmid=f"{item.pmid}{n}", title=f"{item.title} {n}") for item in LITERATURE for n in "12"]
    folder = tmp_path / "index"
    manifest = build_index(literature, folder, encoder)
    assert "vectors_codes.npy" in manifest.files
    manifest, _ = update_index(folder, NEW, ["1061", "1062"], encoder)
    assert "vectors_codes-1.npy" in manifest.files
    index = KnowledgeIndex.open(folder, encoder)
    assert index.search(Query("potassium in kidney failure"), 3, "dense")[0].pmid == "201"
    assert not {"1061", "1062"} & {pmid for pmid, _ in index.ranking(Query("drug lists at discharge"), 50, "dense")}
    compact_index(folder)
    again = KnowledgeIndex.open(folder, encoder)
    assert len(again) == len(index)
    assert again.search(Query("potassium in kidney failure"), 3, "dense")[0].pmid == "201"


def test_an_update_without_change_writes_nothing(folder: Path, encoder: MiniLMEncoder) -> None:
    before = (folder / "manifest.json").stat().st_mtime_ns
    manifest, changed = update_index(folder, {"104": LITERATURE[3]}, ["777"], encoder)
    assert changed == Changed(0, 0, 1, 0)
    assert manifest == verify_index(folder)
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_retractions_mark_stored_articles(folder: Path, encoder: MiniLMEncoder) -> None:
    assert "103" in {item.pmid for item in KnowledgeIndex.open(folder, encoder).search(Query(QUESTIONS[1]))}
    manifest, changed = update_index(folder, {}, [], encoder, retracted=["103", "107"])
    assert (changed.replaced, manifest.counts["retracted"]) == (1, 2)
    assert "103" not in {item.pmid for item in KnowledgeIndex.open(folder, encoder).search(Query(QUESTIONS[1]))}


def test_invalid_updates_are_rejected(folder: Path, encoder: MiniLMEncoder, tmp_path: Path) -> None:
    class Other(Counting):
        def __init__(self) -> None:
            super().__init__(encoder)
            self.fingerprint = "other weights"

    with pytest.raises(EncoderError, match="build it anew"):
        update_index(folder, NEW, [], Other())
    with pytest.raises(ArticleError, match="no article would be left"):
        update_index(folder, {}, [item.pmid for item in LITERATURE], encoder)
    with pytest.raises(ArtifactError, match="not an index"):
        update_index(tmp_path, NEW, [], encoder)
    path = read_manifest(folder).inside(folder) / "vectors.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ArtifactError, match="altered"):
        update_index(folder, NEW, [], encoder)
    with pytest.raises(ArtifactError, match="altered"):
        compact_index(folder)


def test_a_failed_update_leaves_the_index_as_it_was(folder: Path, encoder: MiniLMEncoder) -> None:
    class Failing(Counting):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            raise MemoryError

    before = verify_index(folder)
    with pytest.raises(MemoryError):
        update_index(folder, NEW, [], Failing(encoder))
    assert verify_index(folder) == before


def test_an_index_of_the_first_version_is_updated_into_a_generation(folder: Path, encoder: MiniLMEncoder) -> None:
    """Its files lay beside the manifest; nothing but them is removed."""
    manifest = read_manifest(folder)
    for path in manifest.inside(folder).iterdir():
        path.rename(folder / path.name)
    manifest.inside(folder).rmdir()
    (folder / "manifest.json").write_bytes(replace(manifest, generation="").to_json())
    (folder / "notes.txt").write_text("ours")
    assert len(KnowledgeIndex.open(folder)) == len(LITERATURE)
    updated, _ = update_index(folder, {}, ["106"], encoder)
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "notes.txt", updated.generation}
    assert len(KnowledgeIndex.open(folder)) == len(LITERATURE) - 1


def test_replacing_an_index_under_load_is_atomic(folder: Path, encoder: MiniLMEncoder) -> None:
    """Each answer comes from one generation: one has only odd years in its titles, the other only even ones."""
    generations = [
        {item.pmid: replace(item, title=f"{item.title} ({word})") for item in LITERATURE} for word in ("odd", "even")
    ]
    build_index(generations[0], folder, encoder)
    stop, failures, asked = threading.Event(), list[str](), list[int]()

    def reader() -> None:
        index = KnowledgeIndex.open(folder, encoder)
        while not stop.is_set():
            try:
                index = index.refreshed()
                found = index.search(Query("heart failure hyponatremia sepsis discharge"), 8, "graph")
                words = {item.title.rsplit(" ", 1)[1] for item in found}
                if len(words) != 1 or len(found) < 2:
                    failures.append(f"{len(found)} found, {words}")
                asked.append(1)
            except Exception as error:  # noqa: BLE001 - any failure of a reader is the finding
                failures.append(repr(error))

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(1, 8):
        build_index(generations[turn % 2], folder, encoder)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(asked) > 10
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def test_the_vectors_of_an_index_answer_from_postgresql(folder: Path, encoder: MiniLMEncoder, postgres: str) -> None:
    update_index(folder, NEW, ["106"], encoder)
    manifest = verify_index(folder)
    store = PgVectors(postgres, "literature")
    parts = files.StoredVectors(manifest.inside(folder), manifest.vector_shards)
    store.write(parts, manifest.vectors_fingerprint)
    try:
        there = KnowledgeIndex.open(folder, encoder, vectors=store)
        assert answers(there) == answers(KnowledgeIndex.open(folder, encoder))
        update_index(folder, {}, ["105"], encoder)
        with pytest.raises(ArtifactError):
            KnowledgeIndex.open(folder, encoder, vectors=store)
    finally:
        store.close()


def test_opening_retries_a_replaced_generation(folder: Path, encoder: MiniLMEncoder) -> None:
    """The same generation may be replaced and come back while it is opened: its manifest tells nothing of that."""
    build_index(LITERATURE, folder, encoder)
    tried: list[Manifest] = []

    def open_generation(manifest: Manifest) -> str:
        tried.append(manifest)
        if len(tried) == 1:
            raise FileNotFoundError(2, "No such file or directory", "articles.jsonl")
        return "open"

    assert opened(folder, open_generation) == "open"
    assert len(tried) == 2


def test_a_missing_file_is_an_artifact_error(folder: Path, encoder: MiniLMEncoder) -> None:
    build_index(LITERATURE, folder, encoder)

    def open_generation(manifest: Manifest) -> str:
        raise FileNotFoundError(2, "No such file or directory", "articles.jsonl")

    with pytest.raises(ArtifactError, match=r"articles\.jsonl"):
        opened(folder, open_generation)
