"""Factors and outcomes: one name for what models, codes and papers call differently; and the documented gaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from knowledge_index.vocabulary import OUTCOMES, factor_of_heading, factors, factors_of_concept

PAGE = Path(__file__).resolve().parents[3] / "docs" / "evidence.md"


def test_names_and_labels_are_unique() -> None:
    labels = [factor.label for factor in factors().values()]
    assert len(set(labels)) == len(labels)
    assert factors()
    assert all(factor.headings and factor.concepts for factor in factors().values())


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("sodium", ["sodium"]),
        ("mean_bp", ["blood_pressure"]),
        ("SAPS II", ["saps2"]),
        ("NEWS2 (scale 2)", ["news2"]),
        ("HOSPITAL", ["hospital_score"]),
        ("Elixhauser (van Walraven)", ["elixhauser"]),
        ("reason.sepsis", ["sepsis"]),
        ("airways", ["copd", "asthma", "airways"]),
        ("myocardial_infarction", ["infarction"]),
        ("violin", []),
        ("", []),
    ],
)
def test_inputs_scores_and_groups_lead_to_factors(concept: str, expected: list[str]) -> None:
    assert [factor.name for factor in factors_of_concept(concept)] == expected


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Hyponatremia", "sodium"),
        ("Shock, Septic", "sepsis"),
        ("Bronchitis, Chronic", "copd"),
        ("Wounds and Injuries", None),
        ("Violins", None),
    ],
)
def test_headings_lead_to_factors(heading: str, expected: str | None) -> None:
    factor = factor_of_heading(heading)
    assert (factor and factor.name) == expected


@pytest.mark.parametrize("outcome", list(OUTCOMES))
def test_every_gap_is_documented(outcome: str) -> None:
    """Fails after the articles or factors changed until `docs/evidence.md` says again what no article is about."""
    index = KnowledgeIndex.open_starter()
    question = [(factor, index.question(factor, OUTCOMES[outcome])) for factor in factors().values()]
    gaps = {factor.label for factor, query in question if not index.retrieve(query, 1).evidence}
    section = PAGE.read_text("utf-8").partition(f"### {outcome.capitalize()}\n")[2].partition("\n### ")[0]
    listed = set(re.split(r",\s+", " ".join(section.split()).rstrip(".")))
    assert listed == gaps
