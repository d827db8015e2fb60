"""Retrieval on a small literature: order, paths, what is withheld, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from knowledge_index import EncoderError, KnowledgeIndex, MiniLMEncoder, PathStep, Query, RetrievalError
from knowledge_index.retrieval.ranking import RETRIEVERS


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_the_relevant_article_ranks_first(index: KnowledgeIndex, retriever: str) -> None:
    found = index.search(Query("hyponatremia and death in hospital"), k=3, retriever=retriever)
    assert found[0].pmid == "103"
    assert found[0].retriever == retriever
    assert found[0].url == "https://pubmed.ncbi.nlm.nih.gov/103/"
    assert found[0].year == 2011
    assert "Hyponatremia" in found[0].mesh
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_retracted_articles_are_never_shown(index: KnowledgeIndex, retriever: str) -> None:
    found = index.search(Query("heart failure", ("D006333",)), 10, retriever)
    assert found
    assert "107" not in {item.pmid for item in found}
    assert "107" not in dict(index.ranking(Query("heart failure"), 10, retriever))


def test_evidence_has_a_path_from_the_patient_s_concept(index: KnowledgeIndex) -> None:
    by_pmid = {item.pmid: item for item in index.search(Query("CHF readmission"), 10)}
    assert by_pmid["101"].path[-1].target == "PMID 101"
    assert by_pmid["101"].path[0].source in {"Heart Failure", "Patient Readmission"}
    assert by_pmid["101"].path_in_words().count("main heading of") == 1


def test_paths_use_the_tree_and_citations(index: KnowledgeIndex) -> None:
    query = Query("early return to hospital", ("D054144",))  # Heart Failure, Diastolic: no article carries it
    paths = {item.pmid: item.path for item in index.search(query, 10)}
    assert paths["101"] == (
        PathStep("Heart Failure, Diastolic", "narrower than", "Heart Failure"),
        PathStep("Heart Failure", "main heading of", "PMID 101"),
    )


def test_flat_retrievers_have_no_path(index: KnowledgeIndex) -> None:
    found = index.search(Query("heart failure"), 10, "hybrid")
    assert found
    assert not any(item.path for item in found)


def test_weak_matches_are_withheld(index: KnowledgeIndex) -> None:
    found = index.retrieve(Query("repair of violins in the baroque era"), 5)
    assert found.evidence == ()
    assert found.withheld == 5
    asked = index.retrieve(Query("lactate in sepsis"), 7)
    assert [item.pmid for item in asked.evidence][:1] == ["105"]
    assert len(asked.evidence) + asked.withheld == 7
    assert asked.withheld > 0


def test_bm25_and_linking_need_no_encoder(index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "knowledge_index.encoders.minilm.MODEL", ("no_such_package", "model.onnx", "0", "no-such-package")
    )
    index = KnowledgeIndex.open(index_folder)
    assert index.search(Query("prednisone"), retriever="bm25")[0].pmid == "104"
    assert index.link_text("COPD")[0].concept.ui == "D029424"
    with pytest.raises(EncoderError, match="no-such-package"):
        index.search(Query("prednisone"))


def test_concepts_alone_are_a_query(index: KnowledgeIndex) -> None:
    assert index.search(Query("", ("D018805",)), 1)[0].pmid == "105"


def test_negated_mentions_are_no_seeds(index: KnowledgeIndex) -> None:
    paths = [item.path for item in index.search(Query("return to hospital, no sepsis"), 10)]
    assert paths
    assert all(path[0].source != "Sepsis" for path in paths if path)


@pytest.mark.parametrize(
    ("query", "retriever", "message"),
    [
        (Query("sepsis"), "sparse", "no retriever named 'sparse'"),
        (Query(""), "graph", "an empty question"),
        (Query("  \n"), "bm25", "an empty question"),
        (Query("", ("D999999",)), "graph", "an empty question"),
    ],
)
def test_invalid_queries_are_errors(index: KnowledgeIndex, query: Query, retriever: str, message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        index.search(query, 10, retriever)


@pytest.mark.parametrize("text", ["?", "the of and", "日本語", "\x00", "x" * 50_000, "a\udce9b"])
@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_unusual_queries_raise_no_error(index: KnowledgeIndex, text: str, retriever: str) -> None:
    assert len(index.search(Query(text), 3, retriever)) <= 3


def test_searches_are_deterministic(index: KnowledgeIndex) -> None:
    query = Query("heart failure after discharge", ("D006333",))
    assert index.search(query) == index.search(query)
    assert index.search(query, k=0) == ()


def test_an_encoder_with_other_weights_is_rejected(index_folder: Path) -> None:
    other = MiniLMEncoder()
    other.fingerprint = "another model"
    with pytest.raises(EncoderError, match="another model"):
        KnowledgeIndex.open(index_folder, other)


def test_a_concept_is_known_by_its_descriptor(index: KnowledgeIndex) -> None:
    concept = index.concept("D006333")
    assert concept is not None
    assert concept.name == "Heart Failure"
    assert "CHF" in concept.synonyms
    assert "C14.280.434" in concept.tree_numbers
    assert index.concept("D000000") is None


def test_opening_copies_no_large_array(index: KnowledgeIndex) -> None:
    """SciPy once copied the columns of both matrices to 64 bits: a gigabyte for a million articles."""
    for matrix in (index.graph.weights, index._bm25.weights):
        assert matrix.indices.dtype == np.int32
        assert not matrix.data.flags.writeable, "the mapped file itself"
        assert not matrix.indices.flags.writeable
