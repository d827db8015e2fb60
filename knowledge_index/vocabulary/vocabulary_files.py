"""Additional names of concepts, from NLM's descriptor file or from the installed lexicons.

`build_index` stores them in the index; serving reads only the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

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
    """The concepts of the installed lexicons (`lexicons`), or of NLM's descriptor file."""
    if name == "lexicons":
        return from_lexicons()
    path = Path(name)
    if not path.is_file():
        raise ArtifactError("no such file; a vocabulary is a file, or the word lexicons", path=name)
    return from_mesh(path)


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
