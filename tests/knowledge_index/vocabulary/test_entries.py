"""The vocabulary's own consistency, and every descriptor id and tree number against NLM's tables."""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from knowledge_index.vocabulary import entries as vocabulary
from knowledge_index.vocabulary.entries import entries, tree_numbers

CONCEPTS = Path(vocabulary.__file__).parent / "concepts.json"


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_names_and_ids_are_those_of_mesh(shared_data: Path) -> None:
    official = {row["mesh_id"]: row["mesh_name"] for row in rows(shared_data / "mesh" / "terms.tsv.gz")}
    wrong = {e.concept.ui: e.concept.name for e in entries() if official.get(e.concept.ui) != e.concept.name}
    assert wrong == {}


def test_tree_numbers_are_those_of_mesh(shared_data: Path) -> None:
    official: dict[str, set[str]] = defaultdict(set)
    for row in rows(shared_data / "mesh" / "tree-numbers.tsv.gz"):
        official[row["mesh_id"]].add(row["mesh_tree_number"])
    assert {ui for ui, numbers in tree_numbers().items() if set(numbers) != official[ui]} == set()


def test_every_concept_has_a_tree_number() -> None:
    assert len(entries()) >= 250
    assert [e.concept.name for e in entries() if not e.concept.tree_numbers and e.concept.name not in CHECK] == []


CHECK = {"Male", "Female"}
"""The only descriptors outside the tree."""


def test_concepts_are_unique() -> None:
    listed = [entry.concept.ui for entry in entries()]
    assert len(listed) == len(set(listed))


def test_synonyms_are_unambiguous() -> None:
    meant: dict[str, set[str]] = defaultdict(set)
    for entry in entries():
        for name in (entry.concept.name, *entry.concept.synonyms, *entry.rxnorm):
            meant[name.lower()].add(entry.concept.name)
    assert {name: concepts for name, concepts in meant.items() if len(concepts) > 1} == {}


SHAPES = {
    "icd10cm": r"[A-TV-Z]([0-9][0-9A-B][0-9A-Z]{0,4}|[0-9])?",
    "icd9cm": r"([0-9]{2,5}|V[0-9]{2,4}|E[0-9]{2,4})",
    "icd9cm_procedure": r"[0-9]{2,4}",
    "snomed": r"[1-9][0-9]{5,17}",
}


@pytest.mark.parametrize("system", SHAPES)
def test_codes_have_the_shape_of_their_system(system: str) -> None:
    odd = [code for entry in entries() for code in getattr(entry, system) if not re.fullmatch(SHAPES[system], code)]
    assert odd == []


def test_snomed_codes_carry_their_check_digit() -> None:
    """SNOMED CT ids end in a Verhoeff digit: a code with one wrong figure does not pass."""
    codes = [code for entry in entries() for code in entry.snomed]
    assert codes
    assert [code for code in codes if not verhoeff(code)] == []


def verhoeff(code: str) -> bool:
    """Whether the dihedral checksum of the digits is zero (Verhoeff 1969)."""
    permutation = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    checksum = 0
    for position, digit in enumerate(reversed(code)):
        value = int(digit)
        for _ in range(position % 8):
            value = permutation[value]
        checksum = _dihedral(checksum, value)
    return checksum == 0


def _dihedral(one: int, other: int) -> int:
    """The product in the dihedral group of order ten."""
    if one < 5:
        return (one + other) % 5 if other < 5 else 5 + (one + other) % 5
    return 5 + (one - other) % 5 if other < 5 else (one - other) % 5


def test_the_file_has_no_unread_keys() -> None:
    known = {"ui", "name", "synonyms", "rxnorm", "icd10cm", "icd9cm", "icd9cm_procedure", "snomed"}
    assert {key for item in orjson.loads(CONCEPTS.read_bytes()) for key in item} <= known
