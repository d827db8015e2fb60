"""The detail of a card says what the estimate says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cds_service.cards.card import Thresholds, build_card
from cds_service.cards.detail import detail
from fhir_mapping import PatientRecord
from risk_model import READMISSION_30D, Assessment, NoteFindings, Pipeline
from risk_model.labels.task_definitions import find_definition
from tests.end_to_end.golden import EXAMPLES


@pytest.fixture(scope="module")
def assessed() -> tuple[Assessment, PatientRecord]:
    bundle: dict[str, Any] = json.loads(
        (EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json").read_text("utf-8")
    )
    resources = [entry["resource"] for entry in bundle["entry"]]
    record = PatientRecord.from_resources(resources, "walter", datetime(2024, 5, 9, 11, tzinfo=UTC))
    return Pipeline.shipped().assess(record, READMISSION_30D), record


def test_cautions_stand_beside_the_number(assessed: tuple[Assessment, PatientRecord]) -> None:
    assessment, record = assessed
    assert "Caution" not in detail([assessment], record)
    atypical = replace(assessment.estimate, cautions=("Unlike most <b>patients</b> the model learned from.",))
    text = detail([replace(assessment, estimate=atypical)], record)
    assert "**Caution:** Unlike most" in text
    assert "<b>" not in text


def test_a_literature_timeout_differs_from_no_result(assessed: tuple[Assessment, PatientRecord]) -> None:
    assessment, record = assessed
    text = detail([replace(assessment, evidence=(), left_out=("literature",))], record)
    assert "The literature search ran out of time" in text
    assert "No article in the evidence base" not in text


def test_past_its_deadline_the_pipeline_skips_notes_and_literature(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    _, record = assessed
    late = Pipeline.shipped().assess(record, READMISSION_30D, deadline=0.0)
    assert late.left_out == ("notes", "literature")
    assert "not read: the time was up" in detail([late], record)
    assert late.evidence == ()
    assert late.estimate.probability is not None


@pytest.mark.parametrize(("probability", "anchor", "indicator"), [(0.40, 0.10, "info"), (0.10, 0.40, "warning")])
def test_a_language_model_never_sets_the_alert_level(
    assessed: tuple[Assessment, PatientRecord], probability: float, anchor: float, indicator: str
) -> None:
    """The number is the bounded one; colour and suggestions come of the estimate without notes."""
    assessment, record = assessed
    estimate = replace(assessment.estimate, probability=probability, anchor=anchor, reads_notes=True)
    findings = replace(assessment.findings, reader="language:https://llm.example/v1#small", language_notes=1, waiting=1)
    read = replace(assessment, estimate=estimate, findings=findings)
    card = build_card([read], record, public_url="https://cds.example", thresholds=Thresholds({READMISSION_30D: 0.25}))
    assert card["indicator"] == indicator
    assert ("suggestions" in card) == (indicator == "warning")
    assert f"**{100 * probability:.0f} %**" in card["detail"]
    assert "the language model small (1)" in card["detail"]
    assert "1 note not read by the language model yet" in card["detail"]
    assert "never the alert level of this card" in card["detail"]


def test_a_question_without_established_scores_says_so_and_blames_no_age(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    """A model of one's own for stays of a week once told a patient of 76 that his age was unknown."""
    assessment, record = assessed
    asked = find_definition("long_stay").question
    own = replace(assessment.estimate, task="long_stay", question=asked, comparators=())
    text = detail([replace(assessment, estimate=own)], record)
    assert "No established score is available for this outcome." in text
    assert "age is known" not in text


def test_notes_without_findings_and_dropped_claims_are_reported(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    """A small model's two notes without a finding once left nothing but the words that it had read them."""
    assessment, record = assessed
    empty = NoteFindings((), None, "language:small", 2, 0, unanchored_dropped=3, language_notes=2)
    text = detail([replace(assessment, findings=empty)], record)
    assert "No current and no denied findings." in text
    assert "Left out: 3 language model findings not supported by the text of the notes." in text
    assert "Nothing was found in them" not in detail([assessment], record)
    assert "Left out" not in detail([assessment], record)
