"""A running service takes over an index that was updated, and keeps the old one when the new one is damaged."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service.application.index_reload import IndexWatch
from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, Query, update_index
from risk_model import Pipeline
from tests.knowledge_index.conftest import encoder, index_folder

__all__ = ["encoder", "index_folder"]


@pytest.fixture
def folder(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "index"))


@pytest.fixture
def answering(folder: Path) -> Any:
    shipped = Pipeline.shipped()
    return SimpleNamespace(pipeline=Pipeline(KnowledgeIndex.open(folder), shipped.reader, shipped.models))


def test_an_updated_index_is_taken_over(folder: Path, answering: Any, encoder: MiniLMEncoder) -> None:
    watch, before = IndexWatch(answering), answering.pipeline
    question = Query("zebra stripes")
    asked = before._retrieve(question, k=3)
    assert not watch.look()
    assert answering.pipeline is before
    update_index(folder, {"999": Article("999", "Zebra stripes", "Stripes of the zebra.")}, (), encoder)
    assert watch.look()
    assert [item.pmid for item in answering.pipeline._retrieve(question, k=3).evidence] == ["999"]
    # Who still holds the old pipeline gets what it always answered.
    assert before._retrieve(question, k=3) == asked
    assert len(answering.pipeline.index) == len(before.index) + 1
    assert answering.pipeline.models == before.models


def test_a_damaged_index_is_not_taken_over(
    folder: Path, answering: Any, encoder: MiniLMEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    before = answering.pipeline
    manifest, _ = update_index(folder, {"999": Article("999", "Zebra", "A zebra.")}, (), encoder)
    (manifest.inside(folder) / "terms.json").write_bytes(b"[]")
    with caplog.at_level(logging.WARNING):
        assert not IndexWatch(answering).look()
    assert answering.pipeline is before
    assert "the old one is still served" in caplog.text
