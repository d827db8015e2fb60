"""Encoding in shards: killed and gone on with, here and on Ray's workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_index import Article, EncoderError, KnowledgeIndex, build_index
from knowledge_index.shards import on_ray

ARTICLES = [Article(str(n), f"Article number {n}", f"It speaks of subject {n % 7}.") for n in range(1, 1401)]


class Quick:
    """A deterministic encoder without a model: vectors come from a hash of the words."""

    name, fingerprint, dimensions = "quick", "quick-1", 16

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [[*text.encode()] for text in texts]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(self.dimensions) for seed in seeds])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


class Mortal(Quick):
    """Kills its own process the first `deaths` times it is asked, each told by a file in `folder`."""

    def __init__(self, folder: Path, deaths: int) -> None:
        self.folder, self.deaths = folder, deaths

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        died = len(list(self.folder.iterdir()))
        if died < self.deaths:
            (self.folder / f"{os.getpid()}-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)


def test_workers_that_are_killed_cost_nothing_but_time(tmp_path: Path) -> None:
    here = build_index(ARTICLES, tmp_path / "here", Quick())
    graves = tmp_path / "graves"
    graves.mkdir()
    told: list[int] = []
    engine = on_ray(partial(Mortal, graves, 2), workers=2)
    there = build_index(
        ARTICLES, tmp_path / "there", Quick(), engine=engine, progress=lambda done, _: told.append(done)
    )
    assert len(list(graves.iterdir())) >= 2, "workers did die"
    assert there == here, "the same rows, the same vectors, the same bytes"
    assert told[-1] == len(ARTICLES)
    assert len(KnowledgeIndex.open(tmp_path / "there")) == len(ARTICLES)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EncoderError, match=r"riskcards\[scale\]"):
        on_ray(Quick, workers=1)
