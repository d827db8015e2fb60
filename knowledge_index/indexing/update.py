"""Changes an index without encoding it again: new articles become one more shard, what is gone is marked.

    generation 1    vectors.faiss                                     rows 0 .. 99
    update          vectors.faiss + vectors-1.faiss + vector_rows     rows 0 .. 103, of which 2 are gone
    compact         vectors.faiss                                     rows 0 .. 101

The files that did not change are the same files (hard links). Words, graph and records are written anew from the
articles, since a word's weight and a heading's depend on all of them. The new generation takes the place of the old
one at once, see `storage.publish`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.errors import ArticleError, EncoderError
from knowledge_index.core.storage import ArticleStore, Manifest, load_array, publish, save_array, verify_index
from knowledge_index.core.values import Article
from knowledge_index.encoders.registry import Encoder
from knowledge_index.graph.triples import GivenTriples
from knowledge_index.indexing.build import (
    Ordered,
    Statements,
    described,
    stored_statements,
    stored_vocabulary,
    work_folder,
    write_text_and_graph,
)
from knowledge_index.indexing.shards import Engine, Progress, Shards, encoded
from knowledge_index.vectors.files import StoredVectors, write_shard, write_vectors


@dataclass(frozen=True, slots=True)
class Changed:
    """What an update did: articles new to the index, replaced by a new version, found as they were, and removed."""

    added: int
    replaced: int
    unchanged: int
    removed: int


def update_index(
    folder: Path,
    articles: Mapping[str, Article],
    removed: Collection[str],
    encoder: Encoder,
    *,
    retracted: Collection[str] = (),
    progress: Progress | None = None,
    engine: Engine | None = None,
    statements: Statements | None = None,
) -> tuple[Manifest, Changed]:
    """Put `articles` (by PMID) into the index and take the PMIDs `removed` out of it.

    Of articles that stay, those in `retracted` are marked so. Only texts that are new to the index are encoded, and
    only they are read for `statements`: what the others said is kept.
    Nothing is written when nothing changes. Raises `ArtifactError` for a folder that is no index or was altered,
    `EncoderError` for another encoder than made it, `ArticleError` when no article would be left.
    """
    manifest = verify_index(folder)
    if manifest.encoder_fingerprint != encoder.fingerprint:
        raise EncoderError(f"the index was made with {manifest.encoder}, not with {encoder.name}: build it anew")
    old = manifest.inside(folder)
    store = ArticleStore(old, manifest.counts["articles"])
    articles = {**_marked(store, set(retracted) - set(articles)), **articles} if retracted else articles
    plan = _planned(store, articles, removed)
    if not (plan.changed.added or plan.changed.replaced or plan.changed.removed):
        return manifest, plan.changed
    if not plan.kept and not plan.fresh:
        raise ArticleError("no article would be left", file=str(folder), record="none")
    work = work_folder(folder, resume=True)
    new = _empty(work / "new")
    listed = Ordered(_Union(store, articles, plan))
    counts = write_text_and_graph(listed, new, stored_vocabulary(old), _statements(old, store, plan, statements))
    counts |= _extend_vectors(manifest, old, new, plan, encoded(
        Ordered({pmid: articles[pmid] for pmid in plan.encode}), work / "shards", encoder, progress, engine
    ))  # fmt: skip
    updated = publish(new, folder, described(manifest.source, encoder, counts))
    shutil.rmtree(work)
    return updated, plan.changed


def compact_index(folder: Path) -> Manifest:
    """Write the vectors anew as one shard without the rows that are gone; everything else stays as it is."""
    manifest = verify_index(folder)
    old = manifest.inside(folder)
    if manifest.vector_shards == 1 and not (old / "vector_rows.npy").exists():
        return manifest
    work = work_folder(folder, resume=True)
    new = _empty(work / "new")
    for name in manifest.files:
        if not name.startswith("vector"):
            _link(old / name, new / name)
    write_vectors(new, StoredVectors(old, manifest.vector_shards), manifest.counts["articles"])
    counts = {name: count for name, count in manifest.counts.items() if not name.startswith("vector_")}
    compacted = publish(new, folder, replace(manifest, counts=counts, files={}, generation=""))
    shutil.rmtree(work)
    return compacted


@dataclass(frozen=True, slots=True)
class _Plan:
    """`kept` are old positions, `fresh` PMIDs to append; of `fresh`, `encode` have a text the index has not seen, and
    `reused` tells the old position whose vector the others keep.
    """

    kept: list[int]
    fresh: list[str]
    encode: list[str]
    reused: dict[str, int]
    changed: Changed


def _planned(store: ArticleStore, articles: Mapping[str, Article], removed: Collection[str]) -> _Plan:
    gone = set(removed)
    kept: list[int] = []
    reused: dict[str, int] = {}
    known: set[str] = set()
    unchanged = replaced = 0
    for position in range(len(store)):
        old = store[position]
        new = articles.get(old.pmid)
        if new is None and old.pmid not in gone:
            kept.append(position)
        if new is None:
            continue
        known.add(old.pmid)
        if new == old:
            kept.append(position)
            unchanged += 1
            continue
        replaced += 1
        if new.text == old.text:
            reused[old.pmid] = position
    same = {store[position].pmid for position in kept} & known
    fresh = [pmid for pmid in articles if pmid not in same]
    encode = [pmid for pmid in fresh if pmid not in reused]
    taken_out = len(store) - len(kept) - replaced
    return _Plan(kept, fresh, encode, reused, Changed(len(fresh) - replaced, replaced, unchanged, taken_out))


def _marked(store: ArticleStore, retracted: set[str]) -> dict[str, Article]:
    """New versions of the stored articles that were not known to be retracted."""
    stored = (store[position] for position in range(len(store)))
    return {old.pmid: replace(old, retracted=True) for old in stored if old.pmid in retracted and not old.retracted}


def _statements(old: Path, store: ArticleStore, plan: _Plan, read: Statements | None) -> Statements | None:
    """What articles that stay said before, and a reader of the new ones; None where neither is."""
    known = stored_statements(old)
    if known is None:
        return read
    given = {pmid: known.get(pmid, []) for pmid in (store[position].pmid for position in plan.kept)}
    return lambda linker: GivenTriples(given, read(linker) if read else None)


class _Union(Mapping[int, Article]):
    """Kept and fresh articles by their new position, each read when it is asked for."""

    def __init__(self, store: ArticleStore, articles: Mapping[str, Article], plan: _Plan) -> None:
        self._store, self._articles, self._plan = store, articles, plan

    def __len__(self) -> int:
        return len(self._plan.kept) + len(self._plan.fresh)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __getitem__(self, position: int) -> Article:
        if position < len(self._plan.kept):
            return self._store[self._plan.kept[position]]
        return self._articles[self._plan.fresh[position - len(self._plan.kept)]]


def _extend_vectors(manifest: Manifest, old: Path, new: Path, plan: _Plan, fresh: Shards) -> dict[str, int]:
    """Link the old shards, write the new one, say where each row now stands; returns counts for the manifest."""
    shards = manifest.vector_shards
    for name in manifest.files:
        if name.startswith("vectors"):
            _link(old / name, new / name)
    if plan.encode:
        write_shard(new, shards, old, fresh, len(plan.encode))
        shards += 1
    moved = np.full(manifest.counts["articles"], -1, np.int64)
    moved[plan.kept] = np.arange(len(plan.kept))
    at = {pmid: len(plan.kept) + number for number, pmid in enumerate(plan.fresh)}
    for pmid, position in plan.reused.items():
        moved[position] = at[pmid]
    before = _rows(old, manifest)
    rows = np.concatenate([
        np.where(before >= 0, moved[before], -1), np.array([at[pmid] for pmid in plan.encode], np.int64)
    ])  # fmt: skip
    save_array(new, "vector_rows", rows)
    return {"vector_shards": shards, "vector_rows_gone": int((rows < 0).sum())}


def _rows(old: Path, manifest: Manifest) -> NDArray[np.int64]:
    """Position of each stored row so far: as many as articles, in order, until the first update."""
    if (old / "vector_rows.npy").exists():
        return load_array(old, "vector_rows", np.int64, (None,))
    return np.arange(manifest.counts["articles"])


def _empty(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where the file system cannot."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
