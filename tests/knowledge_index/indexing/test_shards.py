"""Encoding in shards: killed and resumed, in this process and on Ray workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from artifact_store import Workers
from knowledge_index import Article, KnowledgeIndex, build_index
from knowledge_index.indexing.shards import encode_on
from tests.patience import PATIENT, until

ROOT = Path(__file__).resolve().parents[3]
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


def test_killed_workers_are_replaced(tmp_path: Path) -> None:
    here = build_index(ARTICLES, tmp_path / "here", Quick())
    graves = tmp_path / "graves"
    graves.mkdir()
    reported: list[int] = []
    engine = encode_on(Workers(2, "ray"), partial(Mortal, graves, 2))
    there = build_index(
        ARTICLES, tmp_path / "there", Quick(), engine=engine, progress=lambda done, _: reported.append(done)
    )
    assert len(list(graves.iterdir())) >= 2, "workers did die"
    assert there == here, "the same rows, the same vectors, the same bytes"
    assert reported[-1] == len(ARTICLES)
    assert len(KnowledgeIndex.open(tmp_path / "there")) == len(ARTICLES)


_STUCK = """
import threading
from cds_service import cli
from knowledge_index.indexing import shards
save = shards._save

def save_one(path, vectors):
    save(path, vectors)
    threading.Event().wait()

shards._save = save_one
cli.main()
"""


def test_a_killed_build_resumes_with_unfinished_shards(tmp_path: Path) -> None:
    """SIGKILL after the first of three shards; `--resume` then encodes only what is missing."""
    source, out = tmp_path / "articles.jsonl", tmp_path / "index"
    lines = [orjson.dumps({"pmid": n, "title": f"Subject {n}", "abstract": "Words " * 12}) for n in range(1, 700)]
    source.write_bytes(b"\n".join(lines))
    arguments = ["index", "build", "--source", "jsonl", str(source)]
    command = [sys.executable, "-m", "cds_service.cli", *arguments]
    options = ["--out", str(out), "--workers", "1"]
    shards = tmp_path / "index.work" / "shards"
    stuck = [sys.executable, "-c", _STUCK, *arguments, *options]
    with subprocess.Popen(stuck, cwd=ROOT, stderr=subprocess.DEVNULL) as build:
        encoded = until(lambda: list(shards.glob("*.npy")) or build.poll() is not None, PATIENT)
        build.kill()
    assert encoded
    assert build.returncode == -signal.SIGKILL
    assert not out.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.npy")}
    assert len(finished) == 1
    # A shard half written when the power went is not taken for one.
    (shards / "half.part").write_bytes(b"\x93NUMPY")
    resumed = subprocess.run(
        [*command, *options, "--resume", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    answer = orjson.loads(resumed.stdout)
    assert answer["shards_encoded"] == 3 - len(finished)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], cwd=ROOT, check=True, capture_output=True)
    assert (out / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()
    assert not shards.exists()
