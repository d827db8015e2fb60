"""Updates an index without encoding it again: new articles become another shard, removed rows are marked.

    generation 1    vectors.faiss                                     rows 0 .. 99
    update          vectors.faiss + vectors-1.faiss + vector_rows     rows 0 .. 103, of which 2 are removed
    compact         vectors.faiss                                     rows 0 .. 101

Unchanged files are hard links. BM25, graph and articles are written again, since the weights of terms and headings
depend on all articles. The new generation replaces the old one atomically, see `storage.publish`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array, save_array
from knowledge_index.core.articles import ArticleStore
from knowledge_index.core.errors import ArticleError, EncoderError
from knowledge_index.core.storage import Manifest, publish, verify_index
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
from knowledge_index.search.vector_files import StoredVectors, write_shard, write_vectors


@dataclass(frozen=True, slots=True)
class Changed:
    """The numbers of articles an update added, replaced, found unchanged and removed."""

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
    versions: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Manifest, Changed]:
    """Adds or replaces `articles` (by PMID) and removes the PMIDs `removed`.

    A stored article is not replaced by an older version of itself, nor removed with one: `versions` of `removed`.

    Remaining articles in `retracted` are marked as retracted. Only new texts are encoded and read for `statements`;
    stored statements are kept. Nothing is written when nothing changes. Raises `ArtifactError` for a folder that is no
    index or was altered, `EncoderError` for another encoder than the index's, `ArticleError` when no article would be
    left.
    """
    manifest = verify_index(folder)
    if manifest.encoder_fingerprint != encoder.fingerprint:
        raise EncoderError(f"the index was made with {manifest.encoder}, not with {encoder.name}: build it anew")
    old = manifest.inside(folder)
    store = ArticleStore(old, manifest.counts["articles"])
    articles = {**_marked(store, set(retracted) - set(articles)), **articles} if retracted else articles
    plan = _planned(store, articles, removed, versions)
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
    """Rewrites the vectors as one shard without removed rows; all other files are unchanged."""
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
    """`kept` are old positions, `fresh` PMIDs to append. Of `fresh`, `encode` have a new text; `reused` maps the others
    to the old position of their vector.
    """

    kept: list[int]
    fresh: list[str]
    encode: list[str]
    reused: dict[str, int]
    changed: Changed


def _planned(
    store: ArticleStore, articles: Mapping[str, Article], removed: Collection[str], versions: Mapping[str, int]
) -> _Plan:
    gone = set(removed)
    kept: list[int] = []
    reused: dict[str, int] = {}
    known: set[str] = set()
    unchanged = replaced = 0
    for position in range(len(store)):
        old = store[position]
        new = articles.get(old.pmid)
        if new is not None and new.version < old.version:
            new = old
        if new is None and (old.pmid not in gone or versions.get(old.pmid, old.version) < old.version):
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
    """New versions of the stored articles in `retracted` that are not yet marked."""
    stored = (store[position] for position in range(len(store)))
    return {old.pmid: replace(old, retracted=True) for old in stored if old.pmid in retracted and not old.retracted}


def _statements(old: Path, store: ArticleStore, plan: _Plan, read: Statements | None) -> Statements | None:
    """Stored statements of kept articles, and an extractor for new ones; None where there is neither."""
    known = stored_statements(old)
    if known is None:
        return read
    given = {pmid: known.get(pmid, []) for pmid in (store[position].pmid for position in plan.kept)}
    return lambda linker: GivenTriples(given, read(linker) if read else None)


class _Union(Mapping[int, Article]):
    """Kept and fresh articles by their new position, each read on access."""

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
    """Links the old shards, writes the new one and the row mapping; returns counts for the manifest."""
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
    """The position of each stored row; the identity until the first update."""
    if (old / "vector_rows.npy").exists():
        return load_array(old, "vector_rows", np.int64, (None,))
    return np.arange(manifest.counts["articles"])


def _empty(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _link(old: Path, new: Path) -> None:
    """Creates a hard link, or a copy where the file system has none."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
