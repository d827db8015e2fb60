"""Loads the parts of an index folder: BM25, concepts, communities; checks its vectors and their encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import load_array, load_json
from knowledge_index.core.errors import ArtifactError, EncoderError
from knowledge_index.core.storage import Manifest
from knowledge_index.core.values import Community, Concept
from knowledge_index.encoders.registry import Encoder
from knowledge_index.graph.communities import read_communities
from knowledge_index.graph.files import load_matrix
from knowledge_index.search.bm25 import Bm25
from knowledge_index.search.vector_stores import VectorStore


def checked_vectors(store: VectorStore, path: Path, manifest: Manifest) -> VectorStore:
    """The store, if its vectors are those of the index. Raises `ArtifactError` otherwise."""
    if (len(store), store.dimensions) != (manifest.counts["articles"], manifest.dimensions):
        raise ArtifactError(f"{len(store)} vectors of {store.dimensions} dimensions", path=str(path))
    if getattr(store, "fingerprint", manifest.vectors_fingerprint) != manifest.vectors_fingerprint:
        raise ArtifactError("the vectors in the database belong to another generation of the index", path=str(path))
    return store


def check_same_encoder(encoder: Encoder, manifest: Manifest) -> None:
    """Raises `EncoderError` unless the encoder is the one of the index's vectors, by its weights.

    Not by its name: the model folder may have moved.
    """
    if (encoder.fingerprint, encoder.dimensions) != (manifest.encoder_fingerprint, manifest.dimensions):
        raise EncoderError(
            f"the index was made with {manifest.encoder} ({manifest.encoder_fingerprint}), "
            f"not with {encoder.name} ({encoder.fingerprint}): their vectors do not mix: name the "
            "index's own encoder, or build it anew"
        )


def load_bm25(folder: Path, manifest: Manifest) -> Bm25:
    """The BM25 statistics of the articles."""
    terms, articles = manifest.counts["terms"], manifest.counts["articles"]
    vocabulary = {term: number for number, term in enumerate(load_json(folder / "terms.json", terms))}
    matrix = load_matrix(folder, ("bm25_weights", "bm25_documents", "bm25_starts"), (terms, articles))
    return Bm25(vocabulary, load_array(folder, "bm25_idf", np.float32, (terms,)), matrix)


def load_concepts(folder: Path, manifest: Manifest) -> tuple[Concept, ...]:
    """The concepts of the graph, in the order of its nodes."""
    listed = load_json(folder / "concepts.json", manifest.counts["concepts"])
    return tuple(Concept(ui, name, tuple(numbers), *map(tuple, names)) for ui, name, numbers, *names in listed)


def load_communities(folder: Path, manifest: Manifest) -> tuple[NDArray[np.int32], dict[int, Community]]:
    """(community of each node at the coarsest level, shape (nodes,); communities with a summary). Empty in old indexes
    and where the graph has no edge.
    """
    nodes = manifest.counts["articles"] + manifest.counts["concepts"]
    levels = manifest.counts.get("community_levels", 0)
    if not levels:
        return np.full(nodes, -1, np.int32), {}
    labels = load_array(folder, "communities", np.int32, (levels, nodes))[-1]
    listed = read_communities(folder, manifest.counts["communities"])
    return labels, {item.number: item for item in listed if item.level == levels - 1}
