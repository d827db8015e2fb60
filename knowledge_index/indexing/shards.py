"""Encodes articles in shards of 256, keyed by content, in this process or on workers.

A shard is a file named by the hash of its encoder and texts, written under a temporary name and renamed. A shard that
exists is therefore complete, and a stopped build can be resumed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from artifact_store import PerProcess, Workers
from knowledge_index.core.errors import EncoderError
from knowledge_index.core.values import Article
from knowledge_index.encoders.registry import Encoder

SHARD = 256
"""Articles per shard: about 15 seconds of encoding on one core."""

Progress = Callable[[int, int], None]
Texts = list[str]
Engine = Callable[[Iterable[tuple[Path, Texts]]], Iterator[tuple[Path, NDArray[np.float32]]]]
"""Encodes shards and yields them in order."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Encoded shards on disk, iterated as arrays of shape (articles of the shard, dimensions), one at a time."""

    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for path in self.paths:
            yield np.asarray(np.load(path, allow_pickle=False), np.float32)


def encoded(
    articles: Sequence[Article], folder: Path, encoder: Encoder, progress: Progress | None, engine: Engine | None = None
) -> Shards:
    """All shards of the articles; those missing in `folder` are encoded."""
    paths: list[Path] = []
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, len(articles))

    def missing() -> Iterator[tuple[Path, Texts]]:
        for start in range(0, len(articles), SHARD):
            texts = [article.text for article in articles[start : start + SHARD]]
            path = folder / f"{_digest(encoder, texts)}.npy"
            paths.append(path)
            if path.exists():
                report(len(texts))
            else:
                yield path, texts

    for path, vectors in (engine or encode_in_process(encoder))(missing()):
        _check_lengths(vectors, encoder)
        _save(path, vectors)
        report(len(vectors))
    return Shards(tuple(paths))


def _check_lengths(vectors: NDArray[np.float32], encoder: Encoder) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all((np.abs(lengths - 1) < 0.01) | (lengths == 0)):
        raise EncoderError(
            f"{encoder.name} gives vectors that are not of length one (normalise: false): no index can use them"
        )


def encode_in_process(encoder: Encoder) -> Engine:
    """The default engine: the encoder in this process, with its own threads."""

    def run(shards: Iterable[tuple[Path, Texts]]) -> Iterator[tuple[Path, NDArray[np.float32]]]:
        for path, texts in shards:
            yield path, encoder.encode(texts)

    return run


def encode_on(workers: Workers, make_encoder: Callable[[], Encoder]) -> Engine:
    """An engine that encodes on workers, each of which makes its encoder once."""
    job = partial(_encode, PerProcess(make_encoder))

    def run(shards: Iterable[tuple[Path, Texts]]) -> Iterator[tuple[Path, NDArray[np.float32]]]:
        paths: deque[Path] = deque()

        def texts() -> Iterator[Texts]:
            for path, of_shard in shards:
                paths.append(path)
                yield of_shard

        for vectors in workers.map(job, texts()):
            yield paths.popleft(), vectors

    return run


def _encode(encoder: PerProcess[Encoder], texts: Texts) -> NDArray[np.float32]:
    return encoder().encode(texts)


def _digest(encoder: Encoder, texts: Texts) -> str:
    return hashlib.sha256(orjson.dumps([encoder.name, encoder.fingerprint, texts])).hexdigest()[:32]


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    unfinished.rename(path)
