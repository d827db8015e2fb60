"""A running service loads an updated index, and keeps the old one when the new one is damaged."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from cds_service.application.index_reload import IndexWatch
from cds_service.hooks.current_pipeline import CurrentPipeline
from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, Query, update_index
from risk_model import Pipeline
from tests.knowledge_index.conftest import encoder, index_folder

__all__ = ["encoder", "index_folder"]


@pytest.fixture
def folder(index_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index_folder, tmp_path / "index"))


@pytest.fixture
def current(folder: Path) -> CurrentPipeline:
    shipped = Pipeline.shipped()
    return CurrentPipeline(Pipeline(KnowledgeIndex.open(folder), shipped.reader, shipped.models))


def test_an_updated_index_is_loaded(folder: Path, current: CurrentPipeline, encoder: MiniLMEncoder) -> None:
    watch, before = IndexWatch(current), current.pipeline
    question = Query("zebra stripes")
    asked = before._retrieve(question, k=3)
    assert not watch.check()
    assert current.pipeline is before
    update_index(folder, {"999": Article("999", "Zebra stripes", "Stripes of the zebra.")}, (), encoder)
    assert watch.check()
    assert [item.pmid for item in current.pipeline._retrieve(question, k=3).evidence] == ["999"]
    # A request that took the old pipeline still gets its answers.
    assert before._retrieve(question, k=3) == asked
    assert len(current.pipeline.index) == len(before.index) + 1
    assert current.pipeline.models == before.models


def test_a_damaged_index_is_not_loaded(
    folder: Path, current: CurrentPipeline, encoder: MiniLMEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    before = current.pipeline
    manifest, _ = update_index(folder, {"999": Article("999", "Zebra", "A zebra.")}, (), encoder)
    (manifest.inside(folder) / "terms.json").write_bytes(b"[]")
    with caplog.at_level(logging.WARNING):
        assert not IndexWatch(current).check()
    assert current.pipeline is before
    assert "the old one is still served" in caplog.text
