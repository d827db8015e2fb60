"""The starter evidence base: every PMID, year and heading against the records it names, and the shipped index against
its articles.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, Query
from knowledge_index.core.storage import verify_index
from knowledge_index.starter.__main__ import HERE, build, starter_articles
from knowledge_index.vocabulary.entries import tree_numbers

QUOTED = 8
"""A run of this many words shared with a record is a quotation."""


@cache
def entries() -> tuple[dict[str, Any], ...]:
    paths = sorted((HERE / "articles").glob("*.jsonl"))
    return tuple(orjson.loads(line) for path in paths for line in path.read_bytes().splitlines() if line.strip())


@pytest.fixture(scope="module")
def records(shared_data: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By source: PMID -> text, and what the source says of headings and year."""
    return {
        "medline": _pubmedqa(shared_data / "pubmed" / "pubmedqa" / "ori_pqal.json.gz"),
        "annotation": _bc5cdr(shared_data / "pubmed" / "bc5cdr"),
        "text": _reviews(shared_data / "pubmed" / "drug-class-reviews.jsonl.gz"),
    }


def _pubmedqa(path: Path) -> dict[str, dict[str, Any]]:
    return {
        pmid: {
            "text": " ".join([record["QUESTION"], *record["CONTEXTS"], record["LONG_ANSWER"]]),
            "names": set(record["MESHES"]),
            "year": int(record["YEAR"]) if record.get("YEAR") else None,
        }
        for pmid, record in orjson.loads(gzip.decompress(path.read_bytes())).items()
    }


def _bc5cdr(folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"text": "", "ids": set()})
    for path in sorted(folder.glob("*.pubtator.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            if passage := re.match(r"([0-9]+)\|[ta]\|(.*)", line):
                found[passage.group(1)]["text"] += " " + passage.group(2)
            elif len(fields := line.split("\t")) >= 6:
                found[fields[0]]["ids"].update(fields[5].split("|"))
    return dict(found)


def _reviews(path: Path) -> dict[str, dict[str, Any]]:
    with gzip.open(path) as stream:
        listed = [orjson.loads(line) for line in stream]
    return {str(record["pmid"]): {"text": f"{record['title']} {record['abstract']}"} for record in listed}


@pytest.fixture(scope="module")
def mesh(shared_data: Path) -> dict[str, str]:
    """Descriptor id -> name."""
    with gzip.open(shared_data / "mesh" / "terms.tsv.gz", "rt", encoding="utf-8") as stream:
        return {row["mesh_id"]: row["mesh_name"] for row in csv.DictReader(stream, delimiter="\t")}


def words(text: str) -> list[str]:
    """Words in lower case, a plural `s` folded away."""
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
        for word in re.findall(r"[a-z0-9]+", text.lower())
    ]


def runs(text: str) -> set[tuple[str, ...]]:
    plain = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(plain[at : at + QUOTED]) for at in range(len(plain) - QUOTED + 1)}


def test_there_are_at_least_150_articles_each_once() -> None:
    counted = Counter(entry["pmid"] for entry in entries())
    assert len(counted) >= 150
    assert [pmid for pmid, count in counted.items() if count > 1] == []


def test_every_entry_is_complete() -> None:
    odd = {
        entry["pmid"]
        for entry in entries()
        if not re.fullmatch(r"[1-9][0-9]{0,7}", entry["pmid"])
        or not 8 <= len(entry["title"]) <= 140
        or not 40 <= len(entry["abstract"]) <= 400
        or entry["mesh_source"] not in {"medline", "annotation", "text"}
        or not any(heading["major"] in {True, False} and heading["ui"] for heading in entry["mesh"])
        or set(entry) - {"pmid", "title", "abstract", "mesh", "year", "study_type", "mesh_source"}
    }
    assert odd == set()


def test_a_finding_is_one_sentence() -> None:
    several = [e["pmid"] for e in entries() if len(re.findall(r"[.!?](?=\s+[A-Z])", e["abstract"])) > 0]
    assert several == []


def test_every_pmid_is_in_the_source_records(records: dict[str, dict[str, dict[str, Any]]]) -> None:
    assert {e["pmid"] for e in entries() if e["pmid"] not in records[e["mesh_source"]]} == set()


def test_every_descriptor_is_mesh_s_own(mesh: dict[str, str]) -> None:
    wrong = {
        (entry["pmid"], heading["ui"], heading["name"])
        for entry in entries()
        for heading in entry["mesh"]
        if heading.get("ui") and mesh.get(heading["ui"]) != heading["name"]
    }
    assert wrong == set()


def test_every_descriptor_has_a_tree_number() -> None:
    """Fails after headings were added until `python -m knowledge_index.vocabulary.entries MESH_FOLDER` has been run."""
    used = {heading["ui"] for entry in entries() for heading in entry["mesh"] if heading.get("ui")}
    assert used - set(tree_numbers()) == {"D005260", "D008297"} & used  # Female and Male stand outside the tree


def test_every_heading_is_the_record_s(records: dict[str, dict[str, dict[str, Any]]]) -> None:
    wrong = {
        (entry["pmid"], entry["mesh_source"], heading["name"])
        for entry in entries()
        for heading in entry["mesh"]
        if not _carried(heading, entry["mesh_source"], records[entry["mesh_source"]].get(entry["pmid"], {}))
    }
    assert wrong == set()


def _carried(heading: dict[str, Any], source: str, record: dict[str, Any]) -> bool:
    if source == "medline":
        return heading["name"] in record.get("names", ())
    if source == "annotation":
        return heading["ui"] in record.get("ids", ())
    return set(words(heading["name"])) <= set(words(record.get("text", "")))


def test_every_year_is_the_record_s(records: dict[str, dict[str, dict[str, Any]]]) -> None:
    wrong = {
        (entry["pmid"], entry["year"])
        for entry in entries()
        if entry.get("year") is not None and entry["year"] != records[entry["mesh_source"]][entry["pmid"]].get("year")
    }
    assert wrong == set()


def test_findings_do_not_quote_abstracts(records: dict[str, dict[str, dict[str, Any]]]) -> None:
    shared = {
        entry["pmid"]: " ".join(min(common))
        for entry in entries()
        if (common := runs(f"{entry['title']}. {entry['abstract']}") & runs(_texts(records, entry["pmid"])))
    }
    assert shared == {}


def _texts(records: dict[str, dict[str, dict[str, Any]]], pmid: str) -> str:
    return " ".join(source[pmid]["text"] for source in records.values() if pmid in source)


# The shipped index ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


def shipped(index: KnowledgeIndex) -> list[Article]:
    return [index.article(position) for position in range(len(index))]


def test_the_shipped_index_holds_the_committed_articles(starter: KnowledgeIndex) -> None:
    """Fails after articles change until `python -m knowledge_index.starter` has been run."""
    assert shipped(starter) == list(starter_articles().articles.values())


def test_a_new_build_equals_the_shipped_graph_and_terms(starter: KnowledgeIndex, tmp_path: Path) -> None:
    """Fails after the articles, the vocabulary or the graph's rules changed until the starter has been built again.

    Files of floating-point weights are left out: another processor may round their last bit otherwise.
    """
    fresh = build(tmp_path / "index").files
    exact = {name for name in fresh if not name.endswith(("weights.npy", "idf.npy", ".faiss"))}
    assert len(exact) > 8
    assert {name for name in exact if fresh[name] != starter.manifest.files[name]} == set()


def test_shipped_vectors_match_the_texts(starter: KnowledgeIndex, encoder: MiniLMEncoder) -> None:
    fresh = encoder.encode([article.text for article in shipped(starter)])
    stored = starter._vectors.stored(0, len(starter))
    assert float((fresh * stored).sum(axis=1).min()) > 0.999


def test_the_shipped_index_is_unaltered_and_small(starter: KnowledgeIndex) -> None:
    manifest = verify_index(KnowledgeIndex.starter_folder())
    assert manifest.source == "starter"
    assert manifest.size < 5_000_000


QUESTIONS = [
    ("heart failure readmission", "Heart Failure"),
    ("COPD exacerbation", "Pulmonary Disease, Chronic Obstructive"),
    ("pneumonia mortality", "Pneumonia"),
    ("AKI in hospital", "Acute Kidney Injury"),
    ("type 2 diabetes", "Diabetes Mellitus, Type 2"),
]


@pytest.mark.parametrize(("question", "concept"), QUESTIONS)
def test_the_problems_of_hospital_patients_find_evidence(starter: KnowledgeIndex, question: str, concept: str) -> None:
    found = starter.search(Query(question), 5)
    assert found
    paths = [item.path for item in found if item.path]
    assert concept in {path[0].source for path in paths}
    assert all(one.target == other.source for path in paths for one, other in pairwise(path))


@pytest.mark.parametrize("question", ["violin varnish recipes", "offside rule in football", "python packaging"])
def test_non_medical_queries_find_nothing(starter: KnowledgeIndex, question: str) -> None:
    assert starter.search(Query(question), 10) == ()


def test_vectors_have_unit_length(starter: KnowledgeIndex) -> None:
    stored = starter._vectors.stored(0, len(starter))
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-5)
