"""Statements of sentences: who does what to whom, and when nothing is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, Query, build_index
from knowledge_index.graph.knowledge_graph import EDGE_KINDS, OPPOSITE, RELATIONS
from knowledge_index.graph.triples import RuleTripleExtractor
from knowledge_index.vocabulary.linker import Linker
from tests.knowledge_index.conftest import article


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker()


def extracted(linker: Linker, text: str) -> list[tuple[str, str, str]]:
    found = RuleTripleExtractor(linker).extract(Article("1", "Title", text))
    name = {ui: concept.name for ui, concept in linker.concepts.items()}
    return [(name[triple.subject], triple.relation, name[triple.object]) for triple in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Furosemide induced hyponatremia.", ("Furosemide", "induces", "Hyponatremia")),
        ("Hyponatremia was caused by furosemide.", ("Furosemide", "induces", "Hyponatremia")),
        ("Furosemide-induced hyponatremia is common.", ("Furosemide", "induces", "Hyponatremia")),
        ("Edema was treated with furosemide.", ("Furosemide", "treats", "Edema")),
        ("Sepsis predicts delirium.", ("Sepsis", "predicts", "Delirium")),
        ("Prednisone reduced fever.", ("Prednisone", "decreases", "Fever")),
        ("Sepsis is strongly associated with delirium.", ("Sepsis", "is associated with", "Delirium")),
        ("Delirium complicates sepsis.", ("Delirium", "complicates", "Sepsis")),
        ("Sepsis was complicated by delirium.", ("Delirium", "complicates", "Sepsis")),
        ("Prednisone had no significant effect on fever.", ("Prednisone", "does not change", "Fever")),
        ("Prednisone did not reduce fever.", ("Prednisone", "does not change", "Fever")),
        ("Fever was not affected by prednisone.", ("Prednisone", "does not change", "Fever")),
        ("Sepsis was not independently associated with delirium.", ("Sepsis", "is not associated with", "Delirium")),
    ],
)
def test_statements_are_extracted(linker: Linker, text: str, expected: tuple[str, str, str]) -> None:
    assert extracted(linker, text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "Furosemide and hyponatremia.",
        "Furosemide was given. Hyponatremia was caused by something else.",
        "Furosemide did not cause hyponatremia.",
        "Furosemide caused no hyponatremia.",
        "Furosemide, in a study of many wards and years that had other aims and found little, induced hyponatremia.",
        "Sepsis caused sepsis.",
        "Prednisone without placebo did not reduce fever.",
        "Fever was not reduced in sepsis.",
        "Prednisone did not, as was feared, cause fever.",
        "",
    ],
)
def test_sentences_without_a_relation_give_no_statement(linker: Linker, text: str) -> None:
    assert extracted(linker, text) == []


def test_every_relation_has_an_inverse() -> None:
    assert len(OPPOSITE) == len(RELATIONS)
    np.testing.assert_array_equal(OPPOSITE[OPPOSITE], np.arange(len(RELATIONS)))
    assert all(RELATIONS[number] for kind in EDGE_KINDS.values() for number in kind)
    assert sorted(number for kind in EDGE_KINDS.values() for number in kind) == list(range(len(RELATIONS)))


def test_statements_become_paths(tmp_path: Path, encoder: MiniLMEncoder) -> None:
    articles = [
        article("1", "Drug and salt", "Furosemide induced hyponatremia.", "*Diuretics/D004232"),
        article("2", "Low salt in hospital", "A study of wards.", "*Hyponatremia/D007010"),
    ]
    build_index(articles, tmp_path / "index", encoder, statements=RuleTripleExtractor)
    index = KnowledgeIndex.open(tmp_path / "index", encoder)
    paths = {item.pmid: item.path_in_words() for item in index.search(Query("low salt in hospital", ("D005665",)), 2)}
    assert paths["2"] == "Furosemide → induces → Hyponatremia → main heading of → PMID 2"


_BUILD = """
import sys
from pathlib import Path
from knowledge_index import Article, MiniLMEncoder, build_index
from knowledge_index.graph.triples import RuleTripleExtractor

verbs = ("induces", "prevents", "treats", "increases", "reduces", "predicts")
texts = [f"{one} {verb} {other}." for one, other in (("Furosemide", "hyponatremia"), ("Sepsis", "delirium"))
         for verb in verbs]
articles = [Article(str(number), "Title", text) for number, text in enumerate(texts, 1)]
build_index(articles, Path(sys.argv[1]), MiniLMEncoder(threads=1), statements=RuleTripleExtractor)
"""


def test_an_index_with_statements_is_the_same_for_every_hash_seed(tmp_path: Path) -> None:
    """Six relations of one pair were equally frequent, and the order of a set of strings chose the one that was kept:
    `index build --triples rules` gave another index in every process.
    """
    made = []
    for seed in ("0", "1", "2"):
        out = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", _BUILD, str(out)], env=environment, check=True)
        made.append({path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
    assert len(made[0]) > 10
    assert [sorted(name for name in files if files[name] != made[0][name]) for files in made] == [[], [], []]
