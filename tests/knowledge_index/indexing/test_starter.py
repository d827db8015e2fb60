"""The starter evidence base: every citation against the records it was taken from, its factors against the vocabulary,
and the shipped index against its articles.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from knowledge_index import Article, KnowledgeIndex, MiniLMEncoder, Query
from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.storage import verify_index
from knowledge_index.graph.knowledge_graph import RELATIONS
from knowledge_index.indexing.build import stored_statements
from knowledge_index.indexing.starter import STARTER, build, starter_articles, starter_statements
from knowledge_index.vocabulary import OUTCOMES, SETTINGS, factors
from knowledge_index.vocabulary.entries import tree_numbers

ARTICLES = starter_articles().articles
QUOTED = 8
"""A run of this many words shared with a record is a quotation."""
FIELDS = {
    "pmid", "title", "first_author", "journal", "year", "study_type", "factors", "outcomes", "populations", "abstract",
    "mesh", "references",
}  # fmt: skip


@cache
def entries() -> tuple[dict[str, Any], ...]:
    paths = sorted((STARTER / "articles").glob("*.jsonl"))
    return tuple(orjson.loads(line) for path in paths for line in path.read_bytes().splitlines() if line.strip())


def lines(path: Path) -> dict[str, dict[str, Any]]:
    """PMID -> record of a JSON Lines file, compressed or not."""
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return {str(record["pmid"]): record for record in map(orjson.loads, text.splitlines())}


@pytest.fixture(scope="module")
def records(shared_data: Path) -> tuple[dict[str, dict[str, Any]], ...]:
    """Landmarks, cited papers and citing articles, each PMID -> record."""
    folder = shared_data / "pubmed"
    return (
        lines(folder / "landmarks" / "landmarks.jsonl"),
        lines(folder / "evidence-inference" / "references.jsonl.gz"),
        lines(folder / "evidence-inference" / "articles.jsonl.gz"),
    )


@pytest.fixture(scope="module")
def mesh(shared_data: Path) -> dict[str, str]:
    """Descriptor id -> name."""
    with gzip.open(shared_data / "mesh" / "terms.tsv.gz", "rt", encoding="utf-8") as stream:
        return {row["mesh_id"]: row["mesh_name"] for row in csv.DictReader(stream, delimiter="\t")}


def plain(text: str) -> str:
    """Letters and digits in lower case, without accents."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[^a-z0-9]", "", folded.replace("ı", "i"))


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[at : at + QUOTED]) for at in range(len(words) - QUOTED + 1)}


def test_each_article_is_there_once() -> None:
    counted = Counter(entry["pmid"] for entry in entries())
    assert len(counted) >= 350
    assert [pmid for pmid, count in counted.items() if count > 1] == []


def test_every_entry_is_complete() -> None:
    odd = {
        entry["pmid"]
        for entry in entries()
        if not re.fullmatch(r"[1-9][0-9]{0,7}", entry["pmid"])
        or not all(entry.get(name) for name in ("title", "first_author", "journal", "year", "study_type", "mesh"))
        or not 1960 <= entry["year"] <= 2026
        or not 10 <= len(entry["title"]) <= 400
        or not 0 <= len(entry.get("abstract", "")) <= 250
        or set(entry) - FIELDS
    }
    assert odd == set()


def test_every_entry_is_about_a_known_factor_and_outcome() -> None:
    assert {e["pmid"] for e in entries() if not e["factors"] or not e["outcomes"]} == set()
    assert {n for e in entries() for n in (*e["factors"], *e.get("populations", ()))} - set(factors()) == set(SETTINGS)
    assert {name for e in entries() for name in e["outcomes"]} == set(OUTCOMES)


def test_every_entry_has_a_heading_of_each_factor_and_outcome() -> None:
    """The graph reaches an article from a factor by these headings."""
    wanting = set()
    for entry in entries():
        headings = {heading["name"] for heading in entry["mesh"]}
        wanting |= {(entry["pmid"], n) for n in entry["factors"] if headings.isdisjoint(factors()[n].headings)}
        wanting |= {(entry["pmid"], n) for n in entry["outcomes"] if headings.isdisjoint(OUTCOMES[n].headings)}
    assert wanting == set()


def test_a_finding_is_one_sentence() -> None:
    found = [entry["abstract"] for entry in entries() if entry.get("abstract")]
    assert len(found) >= 20
    assert [text for text in found if re.search(r"[.!?]\s+[A-Z]", text)] == []


def test_no_text_holds_an_identifier() -> None:
    """Two findings once read "acute kidney major_trauma": a factor's id in place of a word."""
    named = ("title", "abstract", "first_author", "journal")
    assert not [entry["pmid"] for entry in entries() if any("_" in entry.get(name, "") for name in named)]


def test_statements_are_about_a_factor_and_an_outcome_of_their_article() -> None:
    """The outcome is the article's own, or another of its headings beside it (length of stay, coronary disease)."""
    articles = starter_articles().articles
    stated = [triple for found in starter_statements(articles).values() for triple in found]
    assert len(stated) == len(set(stated)) >= 50
    for triple in stated:
        article = articles[triple.pmid]
        names = {heading.ui: heading.name for heading in article.mesh}
        of_outcomes = {name for outcome in article.outcomes for name in OUTCOMES[outcome].headings}
        assert names[triple.subject] not in of_outcomes, triple
        assert names[triple.object] in of_outcomes | {"Length of Stay", "Coronary Artery Disease"}, triple


@pytest.mark.parametrize(
    "line",
    [
        "1\tSepsis\tpredicts\tMortality",
        "31954465\tDelirium\tpredicts\tMortality",
        "31954465\tSepsis\tforetells\tMortality",
    ],
)
def test_a_statement_about_nothing_is_refused(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "statements.tsv").write_text(f"pmid\tsubject\trelation\tobject\n{line}\n")
    monkeypatch.setattr("knowledge_index.indexing.starter.STARTER", tmp_path)
    articles = {"31954465": ARTICLES["31954465"]}
    with pytest.raises(ArtifactError, match="line 2"):
        starter_statements(articles)


def test_the_shipped_index_holds_the_statements(starter: KnowledgeIndex) -> None:
    stored = stored_statements(starter.manifest.inside(KnowledgeIndex.starter_folder()))
    assert stored == {pmid: list(found) for pmid, found in starter_statements(starter_articles().articles).items()}
    wider = {RELATIONS.index(words) for words in ("predicts", "decreases", "does not change")}
    assert wider <= set(starter.graph.relations.tolist())


def test_pmid_title_author_journal_and_year_are_the_records(records: tuple[dict[str, dict[str, Any]], ...]) -> None:
    """Title and author as spelled there, up to case, accents and punctuation; a title may leave out a study group's
    name that a citing paper put before it."""
    wrong = []
    for entry in entries():
        same = [
            known
            for source in records
            if (known := source.get(entry["pmid"])) is not None
            and plain(entry["title"]) in plain(known["title"])
            and len(plain(entry["title"])) > 0.45 * len(plain(known["title"]))
            and entry["year"] == known["year"]
        ]
        authors = [plain(known["first_author"]) for known in same if known.get("first_author")]
        if not same or (authors and not any(found.startswith(plain(entry["first_author"])) for found in authors)):
            wrong.append((entry["pmid"], entry["title"]))
    assert wrong == []


def test_references_are_real_citations(records: tuple[dict[str, dict[str, Any]], ...]) -> None:
    _, cited, citing = records
    stated = {(e["pmid"], reference) for e in entries() for reference in e.get("references", ())}
    known = {(by, pmid) for pmid, record in cited.items() for by in record["cited_by"]}
    known |= {(pmid, reference) for pmid, record in citing.items() for reference in record.get("references", ())}
    pmids = {entry["pmid"] for entry in entries()}
    assert stated == {(one, other) for one, other in known if one in pmids and other in pmids}
    assert len(stated) > 40


def test_findings_do_not_quote_the_sources(records: tuple[dict[str, dict[str, Any]], ...]) -> None:
    shared = {
        entry["pmid"]: " ".join(min(common))
        for entry in entries()
        if entry.get("abstract") and (common := runs(entry["abstract"]) & runs(_texts(records, entry["pmid"])))
    }
    assert shared == {}


def _texts(records: tuple[dict[str, dict[str, Any]], ...], pmid: str) -> str:
    found = [source[pmid] for source in records if pmid in source]
    return " ".join(f"{record.get('abstract', '')} {record.get('finding', '')}" for record in found)


def test_a_finding_stands_only_where_a_text_was_read(records: tuple[dict[str, dict[str, Any]], ...]) -> None:
    assert {e["pmid"] for e in entries() if e.get("abstract") and not _texts(records, e["pmid"]).strip()} == set()


def test_every_descriptor_is_mesh_s_own(mesh: dict[str, str]) -> None:
    wrong = {
        (entry["pmid"], heading["ui"], heading["name"])
        for entry in entries()
        for heading in entry["mesh"]
        if mesh.get(heading["ui"]) != heading["name"]
    }
    assert wrong == set()


def test_every_descriptor_has_a_tree_number() -> None:
    """Fails after headings were added until `python -m tools.derive_mesh_tree MESH_FOLDER` has been run."""
    used = {heading["ui"] for entry in entries() for heading in entry["mesh"]}
    assert used - set(tree_numbers()) <= {"D005260", "D008297"}  # Female and Male stand outside the tree


# The shipped index ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


def shipped(index: KnowledgeIndex) -> list[Article]:
    return [index.article(position) for position in range(len(index))]


def test_the_shipped_index_holds_the_committed_articles(starter: KnowledgeIndex) -> None:
    """Fails after articles change until `python -m knowledge_index.indexing.starter` has been run."""
    assert shipped(starter) == list(starter_articles().articles.values())


def test_a_new_build_equals_the_shipped_graph_and_terms(starter: KnowledgeIndex, tmp_path: Path) -> None:
    """Fails after the articles, the vocabulary or the graph's rules changed until the starter has been built again.

    Files of floating-point weights are left out: another processor may round their last bit otherwise.
    """
    fresh = build(tmp_path / "index").files
    exact = {name for name in fresh if not name.endswith(("weights.npy", "idf.npy", ".faiss"))}
    assert len(exact) > 8
    assert {name for name in exact if fresh[name] != starter.manifest.files[name]} == set()


def test_two_builds_are_equal_byte_for_byte(tmp_path: Path) -> None:
    """The one command that builds the shipped index, in two processes with other hash seeds."""
    code = (
        "import sys; from pathlib import Path; from knowledge_index.indexing.starter import build; "
        "build(Path(sys.argv[1]))"
    )
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        subprocess.run([sys.executable, "-c", code, str(out)], env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
        made.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
    assert len(made[0]) > 10
    assert made[0] == made[1]


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
    ("diabetes readmission", "Diabetes Mellitus"),
]


@pytest.mark.parametrize(("question", "concept"), QUESTIONS)
def test_the_problems_of_hospital_patients_find_evidence(starter: KnowledgeIndex, question: str, concept: str) -> None:
    found = starter.search(Query(question), 5)
    assert found
    paths = [item.path for item in found if item.path]
    assert concept in {path[0].source for path in paths}


def test_the_steps_of_a_path_are_connected(starter: KnowledgeIndex) -> None:
    paths = [item.path for item in starter.search(Query("diastolic heart failure"), 5)]
    assert paths
    assert all(len(path) > 1 for path in paths)
    assert not [path for path in paths if any(one.target != other.source for one, other in pairwise(path))]


@pytest.mark.parametrize("question", ["violin varnish recipes", "offside rule in football", "python packaging"])
def test_non_medical_queries_find_nothing(starter: KnowledgeIndex, question: str) -> None:
    assert starter.search(Query(question), 10) == ()


def test_vectors_have_unit_length(starter: KnowledgeIndex) -> None:
    stored = starter._vectors.stored(0, len(starter))
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-5)
