"""The compiled tables of codes and names: complete, sorted, consistent with MeSH, and derived from descriptions."""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from pathlib import Path

import pytest

from knowledge_index import Concept, KnowledgeIndex, MiniLMEncoder, build_index
from knowledge_index.vocabulary import entries
from knowledge_index.vocabulary.additional_names import (
    ALL,
    DISEASES,
    DRUGS,
    AdditionalNames,
    NameTable,
    key_of,
    shipped,
)
from knowledge_index.vocabulary.linker import Linker
from tests.knowledge_index.conftest import article
from tools.derive_mesh_names import _NO_DISEASE_ICD10, linked, names_of

FOLDER = Path(entries.__file__).parent
ICD10, SNOMED = "http://hl7.org/fhir/sid/icd-10-cm", "http://snomed.info/sct"


def rows(table: NameTable) -> list[tuple[str, str]]:
    keys = [table[row].decode() for row in range(len(table))]
    return [(key, table.get(key) or "") for key in keys]


def test_tables_are_sorted_complete_and_small() -> None:
    tables = shipped()
    for table in (tables.descriptors, tables.codes, tables.names):
        keys = [table[row] for row in range(len(table))]
        assert keys == sorted(set(keys))
    known = {key for key, _ in rows(tables.descriptors)}
    for table in (tables.codes, tables.names):
        assert {ui for _, uis in rows(table) for ui in uis.split(" ")} <= known
    assert sum(path.stat().st_size for path in FOLDER.glob("*.tsv.gz")) < 1_500_000


def test_codes_have_the_shape_of_their_system() -> None:
    shape = re.compile(r"icd10cm:[A-T][0-9][0-9A-Z]{1,5}|icd9cm:[0-9]{3,5}")
    assert [code for code, _ in rows(shipped().codes) if not shape.fullmatch(code)] == []


def test_names_and_tree_numbers_are_those_of_mesh(shared_data: Path) -> None:
    """Where the tables at hand know the descriptor: NLM renames a few and moves branches every year."""
    official: dict[str, set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    with gzip.open(shared_data / "mesh" / "tree-numbers.tsv.gz", "rt", encoding="utf-8") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            official[row["mesh_id"]].add(row["mesh_tree_number"])
            names[row["mesh_id"]] = row["mesh_name"]
    ours = [concept for ui, _ in rows(shipped().descriptors) if (concept := shipped().concept(ui)) and ui in names]
    assert len(ours) > 10_000
    assert sum(names[concept.ui] == concept.name for concept in ours) / len(ours) > 0.95
    branches = [{n[0] for n in c.tree_numbers} & {n[0] for n in official[c.ui]} for c in ours]
    assert sum(map(bool, branches)) / len(ours) > 0.99


def test_a_table_finds_every_key_and_no_other() -> None:
    table = NameTable(
        b"".join(f"{key}\tvalue of {key}\n".encode() for key in sorted(["abc", "abd", "b", "ca", "caa", "é"]))
    )
    assert [table.get(key) for key in ("abc", "caa", "\u00e9")] == ["value of abc", "value of caa", "value of \u00e9"]
    assert [table.get(key) for key in ("", "ab", "abcd", "z", "\u00ea")] == [None] * 5
    assert NameTable(b"").get("a") is None


TABLES = AdditionalNames(
    NameTable(b"D1\tGout\tC05.1\nD2\tGouty Stone\tC05.1.2\nD3\tColchicine\tD03.1\n"),
    NameTable(b"icd10cm:M10\tD1\n"),
    NameTable(b"colchicine\tD3\ngout\tD1\ngouty stone\tD2\n"),
)


@pytest.mark.parametrize(
    ("text", "branches", "expected"),
    [
        ("Gouty stones of the foot", DISEASES, ["Gouty Stones"]),
        ("GOUT, colchicine", ALL, ["GOUT", "colchicine"]),
        ("GOUT, colchicine", DRUGS, ["colchicine"]),
        ("nothing known", ALL, []),
        ("", ALL, []),
    ],
)
def test_the_longest_name_of_the_branch_is_found(text: str, branches: tuple[str, ...], expected: list[str]) -> None:
    found = [text[start:end] for start, end, _ in TABLES.mentions(text, branches)]
    assert [word.lower() for word in found] == [word.lower() for word in expected]


def test_codes_inherit_from_their_category() -> None:
    assert [concept.name for concept in TABLES.of_code("icd10cm", "M1034X9")] == ["Gout"]
    assert TABLES.of_code("icd10cm", "M11") == TABLES.of_code("icd9cm", "M10") == []


def test_rows_are_derived_from_descriptions() -> None:
    concepts = [
        Concept("D1", "Pneumonia", ("C08.381.677",)),
        Concept("D2", "Sepsis", ("C01.757",)),
        Concept("D3", "Depression", ("F01.145.126", "F03.600")),
        Concept("D4", "Burns", ("C26.200",)),
    ]
    descriptions = [
        ("J18", "Pneumonia, unspecified organism"),
        ("J180", "Bronchopneumonia or pneumonia"),
        ("J181", "Pneumonia with sepsis"),
        ("J182", "Pneumonia without sepsis"),
        ("J189", "Other lung disease, excluding pneumonia with sepsis"),
        ("F32", "Depression"),
        ("I99", "Depression of the ST segment"),
        ("T30", "Burns and sepsis"),
        ("Z80", "Family history of sepsis"),
        ("W03", "Burns by falling"),
    ]
    found = dict(linked(descriptions, Linker(concepts, vocabulary=()), _NO_DISEASE_ICD10))
    assert found == {"J18": ["D1"], "J181": ["D1", "D2"], "F32": ["D3"], "T30": ["D4"]}


def test_names_with_several_meanings_and_abbreviations_are_left_out() -> None:
    concepts = [
        Concept("D1", "Stones, Kidney", ("C12.1",), ("renal calculi", "calculus", "KS")),
        Concept("D2", "Calculus", ("C23.1",), ("stone",)),
        Concept("D3", "Cold", ("C01.1",), ("catarrh",)),
        Concept("D4", "Flu", ("C01.2",), ("catarrh",)),
    ]
    assert names_of(concepts) == {
        "stone kidney": ["D1"], "kidney stone": ["D1"], "renal calculi": ["D1"], "calculus": ["D2"], "stone": ["D2"],
        "cold": ["D3"],
    }  # fmt: skip
    assert key_of("Kidney Stones") == "kidney stone"


def test_an_index_links_its_own_concepts_only(index: KnowledgeIndex) -> None:
    gingivitis = (SNOMED, "66383009", "Gingivitis (disorder)")
    linked = index.link_codes([(ICD10, "I50.9", None), gingivitis])
    assert [item.concept.name for item in linked] == ["Heart Failure"]
    assert [item.concept.name for item in Linker().link_codes([gingivitis])] == ["Gingivitis"]


def test_tables_link_concepts_of_an_index(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    build_index([article("1", "Gums", "Sore gums.", "*Gingivitis/D005891")], tmp_path / "index", encoder)
    index = KnowledgeIndex.open(tmp_path / "index", encoder)
    assert [item.concept.ui for item in index.link_codes([(ICD10, "K05.10", None)])] == ["D005891"]
