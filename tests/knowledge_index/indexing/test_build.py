"""Builds are atomic, and a killed build resumes with the missing shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_index import Article, ArticleError, ArtifactError, KnowledgeIndex, MiniLMEncoder, Query, build_index
from knowledge_index.indexing import shards as module
from tests.knowledge_index.conftest import LITERATURE


class StoppedError(Exception):
    """Stands for the kill."""


class Counting:
    """The real encoder, counting texts, and stopping after `limit` of them."""

    name, dimensions = MiniLMEncoder.name, MiniLMEncoder.dimensions

    def __init__(self, encoder: MiniLMEncoder, limit: int | None = None) -> None:
        self.fingerprint = encoder.fingerprint
        self.encoded = 0
        self._encoder, self._limit = encoder, limit

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._limit is not None and self.encoded + len(texts) > self._limit:
            raise StoppedError
        self.encoded += len(texts)
        return self._encoder.encode(texts)


def test_after_a_kill_only_the_missing_shards_are_encoded(
    tmp_path: Path, encoder: MiniLMEncoder, index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 2)
    out = tmp_path / "index"
    with pytest.raises(StoppedError):
        build_index(LITERATURE, out, Counting(encoder, limit=5), source="tests")
    assert not out.exists()
    again = Counting(encoder)
    manifest = build_index(LITERATURE, out, again, source="tests", resume=True)
    assert again.encoded == len(LITERATURE) - 4
    assert manifest == KnowledgeIndex.open(index_folder).manifest
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_without_resume_everything_is_encoded_again(
    tmp_path: Path, encoder: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 2)
    with pytest.raises(StoppedError):
        build_index(LITERATURE, tmp_path / "index", Counting(encoder, limit=5))
    again = Counting(encoder)
    build_index(LITERATURE, tmp_path / "index", again)
    assert again.encoded == len(LITERATURE)


def test_a_changed_text_is_not_taken_from_an_old_shard(
    tmp_path: Path, encoder: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 2)
    with pytest.raises(StoppedError):
        build_index(LITERATURE, tmp_path / "index", Counting(encoder, limit=4))
    changed = (Article("101", "Quite another subject", "Bees."), *LITERATURE[1:])
    again = Counting(encoder)
    build_index(changed, tmp_path / "index", again, resume=True)
    assert again.encoded == len(LITERATURE) - 2


def test_progress_counts_articles(tmp_path: Path, encoder: MiniLMEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 3)
    reported: list[tuple[int, int]] = []
    build_index(LITERATURE, tmp_path / "index", encoder, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(3, 8), (6, 8), (8, 8)]


def test_only_an_index_is_overwritten(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    out = tmp_path / "index"
    build_index(LITERATURE, out, encoder)
    build_index(LITERATURE[:2], out, encoder)
    assert len(KnowledgeIndex.open(out)) == 2
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="left as it is"):
        build_index(LITERATURE, mine, encoder)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_of_two_articles_with_one_pmid_the_last_wins(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    build_index([*LITERATURE[:1], Article("101", "Corrected", "")], tmp_path / "index", encoder)
    index = KnowledgeIndex.open(tmp_path / "index", encoder)
    assert [index.article(at).title for at in range(len(index))] == ["Corrected"]
    assert index.search(Query("corrected"), retriever="bm25")[0].passage == "Corrected"


def test_no_article_is_an_error(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    with pytest.raises(ArticleError, match="no article"):
        build_index([], tmp_path / "index", encoder)
    assert not (tmp_path / "index").exists()


def test_an_index_of_one_article_can_be_searched(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    build_index([Article("1", "Frailty and falls", "")], tmp_path / "index", encoder)
    index = KnowledgeIndex.open(tmp_path / "index", encoder)
    for retriever in ("bm25", "dense", "hybrid", "graph"):
        assert [item.pmid for item in index.search(Query("falls in frailty"), retriever=retriever)] == ["1"]
