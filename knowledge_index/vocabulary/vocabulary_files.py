"""Compiled vocabularies: gzip, one concept per line, `{"ui", "name", "tree_numbers", "synonyms"}`.

Compiled once from NLM's descriptor file or from the installed lexicons, then passed to `build_index`, which stores the
names in the index: serving reads the index only.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.values import Concept
from knowledge_index.vocabulary.lexicons import DESCRIPTORS, LEXICONS, descriptor_ids, installed, read_lexicon
from knowledge_index.vocabulary.mesh_files import read_descriptors


def from_lexicons() -> tuple[Concept, ...]:
    """Diseases and drugs of the installed lexicons. Raises `ArtifactError` with what to install where none is."""
    paths, ids = installed(), descriptor_ids()
    if not paths:
        names = " ".join(lexicon.distribution for lexicon in (*LEXICONS, DESCRIPTORS))
        raise ArtifactError(f"no lexicon is installed: pip install {names}", path="lexicons")
    return merged(concept for path in paths for concept in read_lexicon(path, ids))


def from_mesh(path: Path) -> tuple[Concept, ...]:
    """Every descriptor of NLM's XML or ASCII file."""
    return merged(read_descriptors(path))


def vocabulary_named(name: str) -> tuple[Concept, ...]:
    """The concepts of the installed lexicons (`lexicons`) or of a file, compiled or NLM's, detected by content."""
    if name == "lexicons":
        return from_lexicons()
    path = Path(name)
    if not path.is_file():
        raise ArtifactError("no such file; a vocabulary is a file, or the word lexicons", path=name)
    return tuple(read_vocabulary(path)) if _is_compiled(path) else from_mesh(path)


def _is_compiled(path: Path) -> bool:
    try:
        with gzip.open(path) as stream:
            return stream.read(1) == b"{"
    except (OSError, EOFError):
        return False


def merged(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """One concept per descriptor id, by id, with the names and tree numbers of all concepts with that id."""
    found: dict[str, Concept] = {}
    for concept in concepts:
        known = found.get(concept.ui, concept)
        others = (*known.synonyms, concept.name, *concept.synonyms)
        found[concept.ui] = replace(
            known,
            tree_numbers=tuple(dict.fromkeys((*known.tree_numbers, *concept.tree_numbers))),
            synonyms=tuple(name for name in dict.fromkeys(others) if name != known.name),
        )
    return tuple(found[ui] for ui in sorted(found))


def write_vocabulary(path: Path, concepts: Iterable[Concept]) -> None:
    """Writes a compiled vocabulary; output is deterministic."""
    rows = ({"ui": c.ui, "name": c.name, "tree_numbers": c.tree_numbers, "synonyms": c.synonyms} for c in concepts)
    content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(content, mtime=0))


def read_vocabulary(path: Path) -> Iterator[Concept]:
    """Concepts of a compiled file. Raises `ArtifactError` with the malformed line."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ArtifactError(f"not a compiled vocabulary: {error}", path=str(path)) from error
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = orjson.loads(line)
            yield Concept(str(row["ui"]), str(row["name"]), tuple(row["tree_numbers"]), tuple(row["synonyms"]))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ArtifactError(f"line {number} is no concept: {error}", path=str(path)) from error
