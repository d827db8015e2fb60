"""Retrieval for a factor and an outcome: only articles about both, the most direct first."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_index import (
    Article,
    Evidence,
    Factor,
    KnowledgeIndex,
    LiteratureSubject,
    MeshHeading,
    MiniLMEncoder,
    build_index,
)
from knowledge_index.retrieval.subjects import is_about, remoteness
from knowledge_index.vocabulary import OUTCOMES, factors

SODIUM = LiteratureSubject(factors()["sodium"], OUTCOMES["mortality"])
HYPONATREMIA = MeshHeading("Hyponatremia", "D007010", True)
MORTALITY = MeshHeading("Hospital Mortality", "D017052")


def curated(pmid: str, title: str, design: str = "cohort", **more: object) -> Article:
    stated = {"factors": ("sodium",), "outcomes": ("mortality",), "mesh": (HYPONATREMIA, MORTALITY)} | more
    return Article(pmid, title, "", study_type=design, **stated)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("article", "about"),
    [
        (curated("1", "a"), True),
        (curated("1", "a", outcomes=("readmission",)), False),
        (curated("1", "a", factors=("potassium",)), False),
        (Article("1", "a", "", (HYPONATREMIA, MORTALITY)), True),
        (Article("1", "a", "", (HYPONATREMIA,)), False),
        (Article("1", "a", "", (MORTALITY,)), False),
        (Article("1", "a", "", (MeshHeading("Hyponatremia", "D007010", qualifiers=("*mortality",)),)), True),
        (Article("1", "a", "", (MeshHeading("Hyponatremia", "D007010", qualifiers=("drug therapy",)),)), False),
        (Article("1", "a", "", (HYPONATREMIA, MeshHeading("Pneumonia", "D011014", qualifiers=("mortality",)))), False),
        (Article("1", "Hyponatremia and hospital mortality", ""), False),
    ],
)
def test_an_article_is_about_a_subject(article: Article, about: bool) -> None:
    assert is_about(article, SODIUM) is about


def test_observations_come_before_scores_trials_and_guidelines() -> None:
    minor = (MeshHeading("Hyponatremia", "D007010"), MORTALITY)
    order = [
        curated("1", "a"),
        curated("2", "b", "derivation cohort", mesh=minor),
        curated("3", "c", "randomized controlled trial"),
        curated("4", "d", "guideline", mesh=minor),
    ]
    assert [remoteness(article, SODIUM.factor) for article in order] == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def index(encoder: MiniLMEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeIndex:
    articles = [
        curated("1", "Hyponatremia and death of hospital patients: a randomized trial", "randomized controlled trial"),
        curated("2", "Hyponatremia at admission and hospital mortality", first_author="Wald", journal="J", year=2010),
        curated("3", "Hyponatremia and hospital readmission", outcomes=("readmission",)),
        Article(
            "4", "Hyponatremia and hospital mortality", "A cohort of hospital patients.", (HYPONATREMIA, MORTALITY)
        ),
        Article("5", "Treatment of hyponatremia", "A trial in stable outpatients.", (HYPONATREMIA,)),
        curated("6", "Hyponatremia and mortality, withdrawn", retracted=True),
    ]
    out: Path = tmp_path_factory.mktemp("subjects") / "index"
    build_index(articles, out, encoder)
    return KnowledgeIndex.open(out, encoder)


def about(index: KnowledgeIndex, factor: str, outcome: str) -> tuple[Evidence, ...]:
    return index.retrieve(index.question(factors()[factor], OUTCOMES[outcome]), 10).evidence


@pytest.mark.parametrize("retriever", ["bm25", "dense", "hybrid", "graph"])
def test_every_retriever_returns_articles_about_both_only(index: KnowledgeIndex, retriever: str) -> None:
    found = index.retrieve(index.question(factors()["sodium"], OUTCOMES["mortality"]), 10, retriever).evidence
    # The cutoffs hold for the article that nobody curated: its words do not cover the query, its vector is near.
    assert {item.pmid for item in found} == {"1", "2"} | ({"4"} if retriever != "bm25" else set())
    assert [item.pmid for item in found if item.study_type][-1] == "1", "the trial comes last"


def test_evidence_carries_its_citation_factor_and_outcome(index: KnowledgeIndex) -> None:
    item = next(item for item in about(index, "sodium", "mortality") if item.pmid == "2")
    assert (item.citation, item.factor, item.outcome) == ("Wald et al., J 2010", "serum sodium", "mortality")
    assert item.finding == "", "only the title is known"
    assert item.path[0].source == "Hyponatremia"


def test_the_other_outcome_and_other_factors_find_nothing_of_these(index: KnowledgeIndex) -> None:
    assert [item.pmid for item in about(index, "sodium", "readmission")] == ["3"]
    assert about(index, "potassium", "mortality") == ()
    assert LiteratureSubject(factors()["sepsis"], OUTCOMES["mortality"]).gap_in_words() == (
        "No study of sepsis and mortality in the evidence base"
    )


def test_an_unknown_heading_finds_nothing(index: KnowledgeIndex) -> None:
    violin = Factor("violin", "violins", ("Violins",))
    assert index.retrieve(index.question(violin, OUTCOMES["mortality"]), 10).evidence == ()
