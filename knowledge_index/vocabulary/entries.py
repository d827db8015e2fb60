"""The vocabulary for hospital patients: MeSH descriptors with their names, abbreviations and codes.

`concepts.json` is written by this project: for each concept its MeSH descriptor, synonyms used by clinicians, and
the codes that imply it. `tree.json` holds the tree numbers of these and of the starter articles' headings; it is made
from NLM's tables by `python -m tools.derive_mesh_tree MESH_FOLDER`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import orjson

from knowledge_index.core.values import Concept


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """A concept of the vocabulary. ICD codes are prefixes without the dot; SNOMED CT codes are complete; `rxnorm` holds
    RxNorm ingredient names.
    """

    concept: Concept
    icd10cm: tuple[str, ...] = ()
    icd9cm: tuple[str, ...] = ()
    icd9cm_procedure: tuple[str, ...] = ()
    snomed: tuple[str, ...] = ()
    rxnorm: tuple[str, ...] = ()


@cache
def tree_numbers() -> dict[str, tuple[str, ...]]:
    """MeSH tree numbers by descriptor id."""
    content = orjson.loads(files("knowledge_index.vocabulary").joinpath("tree.json").read_bytes())
    return {ui: tuple(numbers) for ui, numbers in content.items()}


@cache
def entries() -> tuple[VocabularyEntry, ...]:
    """Every concept of the vocabulary, in the order of the file.

    >>> [entry.concept.ui for entry in entries() if entry.concept.name == "Heart Failure"]
    ['D006333']
    """
    listed = orjson.loads(files("knowledge_index.vocabulary").joinpath("concepts.json").read_bytes())
    systems = ("icd10cm", "icd9cm", "icd9cm_procedure", "snomed", "rxnorm")
    return tuple(
        VocabularyEntry(
            Concept(item["ui"], item["name"], tree_numbers().get(item["ui"], ()), tuple(item.get("synonyms", ()))),
            **{system: tuple(item.get(system, ())) for system in systems},
        )
        for item in listed
    )
