"""Builds an index folder from articles: vectors, BM25, graph, articles, manifest.

Vectors are the expensive part and are made shard by shard into a work folder beside the target, each shard named by
the hash of its encoder and texts. A build that was killed and is run again with `resume=True` encodes only the shards
that are not there; the folder goes once the index stands.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index.bm25 import Bm25
from knowledge_index.encoder import Encoder
from knowledge_index.errors import ArticleError, ArtifactError
from knowledge_index.graph import Graph, concept_key, is_check_tag
from knowledge_index.storage import MANIFEST, Manifest, replace_folder, save_array, save_articles, write_manifest
from knowledge_index.values import Article, Concept
from knowledge_index.vocabulary import entries, tree_numbers

SHARD = 256
"""Articles of one shard: about a quarter of a minute of encoding on one core."""

Progress = Callable[[int, int], None]


def build_index(
    articles: Iterable[Article],
    out: Path,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
    source: str = "articles",
    resume: bool = False,
) -> Manifest:
    """Build an index into `out` (made whole, then put in its place) and return its manifest.

    `progress(done, total)` is told the articles encoded so far. Of two articles with one PMID the last wins. Raises
    `ArticleError` when there is no article at all, `ArtifactError` when `out` holds something that is not an index.
    """
    listed = list({article.pmid: article for article in articles}.values())
    if not listed:
        raise ArticleError("no article to index", file=str(out), record="none")
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise ArtifactError("not empty and not an index: it is left as it is", path=str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.with_name(out.name + ".work")
    if not resume and work.exists():
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    vectors = _vectors(listed, work, encoder, progress)
    new = out.with_name(out.name + ".new")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir()
    manifest = _write(listed, vectors, new, encoder, source)
    replace_folder(new, out)
    shutil.rmtree(work)
    return manifest


def _vectors(
    articles: Sequence[Article], work: Path, encoder: Encoder, progress: Progress | None
) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(articles), SHARD):
        texts = [article.text for article in articles[start : start + SHARD]]
        parts.append(_shard(texts, work, encoder))
        if progress is not None:
            progress(start + len(texts), len(articles))
    return np.concatenate(parts)


def _shard(texts: list[str], work: Path, encoder: Encoder) -> NDArray[np.float32]:
    digest = hashlib.sha256(orjson.dumps([encoder.name, encoder.fingerprint, texts])).hexdigest()
    path = work / f"{digest[:32]}.npy"
    if path.exists():
        # Written under another name and renamed: a shard that is there is whole.
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    vectors = encoder.encode(texts)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    unfinished.rename(path)
    return vectors


def _write(
    articles: Sequence[Article], vectors: NDArray[np.float32], folder: Path, encoder: Encoder, source: str
) -> Manifest:
    import faiss

    flat = faiss.IndexFlatIP(encoder.dimensions)
    flat.add(np.ascontiguousarray(vectors, np.float32))
    faiss.write_index(flat, str(folder / "vectors.faiss"))

    bm25 = Bm25.build(article.text for article in articles)
    (folder / "terms.json").write_bytes(orjson.dumps(list(bm25.vocabulary)))
    save_array(folder, "bm25_idf", bm25.idf)
    save_array(folder, "bm25_weights", bm25.weights.data)
    save_array(folder, "bm25_documents", bm25.weights.indices.astype(np.int32))
    save_array(folder, "bm25_starts", bm25.weights.indptr.astype(np.int64))

    by_name = _descriptor_by_name(articles)
    concepts = concepts_of(articles, by_name)
    graph = Graph.build(articles, concepts, by_name)
    (folder / "concepts.json").write_bytes(orjson.dumps([[c.ui, c.name, list(c.tree_numbers)] for c in concepts]))
    save_array(folder, "graph_weights", graph.weights.data)
    save_array(folder, "graph_nodes", graph.weights.indices.astype(np.int32))
    save_array(folder, "graph_starts", graph.weights.indptr.astype(np.int64))
    save_array(folder, "graph_relations", graph.relations)

    save_articles(folder, articles)
    save_array(folder, "retracted", np.array([article.retracted for article in articles], np.bool_))
    counts: dict[str, Any] = {
        "articles": len(articles),
        "concepts": len(concepts),
        "edges": int(graph.weights.nnz),
        "terms": len(bm25.vocabulary),
        "retracted": sum(article.retracted for article in articles),
    }
    return write_manifest(
        folder,
        Manifest(source, encoder.name, encoder.fingerprint, encoder.dimensions, counts, f"riskcards {_version()}"),
    )


def _descriptor_by_name(articles: Iterable[Article]) -> dict[str, str]:
    """Lower-case heading name -> descriptor id, from the vocabulary and from the articles that do give ids."""
    known = {" ".join(entry.concept.name.lower().split()): entry.concept.ui for entry in entries()}
    given = (heading for article in articles for heading in article.mesh if heading.ui)
    return {" ".join(heading.name.lower().split()): heading.ui for heading in given} | known


def concepts_of(articles: Iterable[Article], by_name: dict[str, str]) -> tuple[Concept, ...]:
    """The concepts of a graph: every heading of the articles (check tags left out) and the whole vocabulary.

    The vocabulary's concepts are there even where no article carries them: a patient's concept then reaches its
    neighbours in the MeSH tree.
    """
    known = {entry.concept.ui: entry.concept for entry in entries()}
    found = {ui: Concept(ui, concept.name, concept.tree_numbers) for ui, concept in known.items()}
    for article in articles:
        for heading in article.mesh:
            if is_check_tag(heading.name):
                continue
            ui = heading.ui or by_name.get(" ".join(heading.name.lower().split()), "")
            key = concept_key(heading.name, ui)
            if key not in found:
                found[key] = Concept(key, heading.name, tree_numbers().get(ui, ()))
    return tuple(found[key] for key in sorted(found))


def _version() -> str:
    try:
        return version("riskcards")
    except PackageNotFoundError:
        return "from source"
