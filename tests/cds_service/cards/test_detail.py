"""The detail of a card is short and says what the estimate says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cds_service.cards.card import Thresholds, build_card
from cds_service.cards.detail import MAX_WORDS, detail
from cds_service.cards.driver_lines import driver_lines
from cds_service.cards.missing import missing_that_matters
from cds_service.cards.scores import disagreement, fitting_scores, leading_score, score_words
from cds_service.explanations.reading import reading_words
from fhir_mapping import PatientRecord
from knowledge_index import Evidence
from risk_model import (
    IN_HOSPITAL_MORTALITY,
    READMISSION_30D,
    Abnormality,
    Abstention,
    Assessment,
    Driver,
    LevelPolicy,
    NoteFindings,
    Pipeline,
    RiskEstimate,
    ScoreResult,
)
from risk_model.core.values import DataGap, UnreadNote
from risk_model.labels.task_definitions import find_definition
from tests.end_to_end.golden import EXAMPLES, cases


@pytest.fixture(scope="module")
def assessed() -> tuple[Assessment, PatientRecord]:
    bundle: dict[str, Any] = json.loads(
        (EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json").read_text("utf-8")
    )
    resources = [entry["resource"] for entry in bundle["entry"]]
    record = PatientRecord.from_resources(resources, "walter", datetime(2024, 5, 9, 11, tzinfo=UTC))
    return Pipeline.shipped().assess(record, READMISSION_30D), record


def an_estimate(**values: Any) -> RiskEstimate:
    given: dict[str, Any] = {
        "task": IN_HOSPITAL_MORTALITY,
        "subject_id": "p1",
        "prediction_time": datetime(2026, 3, 1, 9, tzinfo=UTC),
        "probability": 0.17,
        "interval": (0.09, 0.25),
        "baseline": 0.14,
        "drivers": (),
        "comparators": (),
        "gaps": (),
        "abstention": None,
        "model_id": "m",
        "model_version": "1",
    }
    return RiskEstimate(**given | values)


def a_score(name: str, low: int, high: int, **values: Any) -> ScoreResult:
    given: dict[str, Any] = {"maximum": 163, "band": None, "missing": (), "inputs": (("age", "83 years", 18),)}
    return ScoreResult(name=name, low=low, high=high, **given | values)


NO_NOTES = NoteFindings((), None, "rules", 0, 0)


PATIENT = {"resourceType": "Patient", "id": "p1", "birthDate": "1943-01-01"}
STAY = {
    "resourceType": "Encounter", "id": "e1", "status": "in-progress", "class": {"code": "IMP"},
    "subject": {"reference": "Patient/p1"}, "period": {"start": "2026-02-25T09:00:00Z"},
}  # fmt: skip


def a_record(*measured: tuple[str, float, str, str]) -> PatientRecord:
    """A stay of four days with Observations of (LOINC code, value, unit, time)."""
    values = [
        {
            "resourceType": "Observation", "id": f"o{n}", "status": "final", "subject": {"reference": "Patient/p1"},
            "encounter": {"reference": "Encounter/e1"}, "effectiveDateTime": when,
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }
        for n, (code, value, unit, when) in enumerate(measured)
    ]  # fmt: skip
    return PatientRecord.from_resources([PATIENT, STAY, *values], "p1", datetime(2026, 3, 1, 9, tzinfo=UTC))


def written(*estimates: RiskEstimate) -> str:
    return detail([Assessment(estimate, NO_NOTES, ()) for estimate in estimates], a_record())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_golden_card_is_read_in_seconds(case: Any) -> None:
    body = json.loads((case / "expected.json").read_text("utf-8"))["body"]
    for card in body.get("cards", ()):
        tasks = card["detail"].count(", cohort average") + card["detail"].count(": no estimate.**")
        assert len(card["detail"].split()) <= MAX_WORDS[tasks]
        assert len(card.get("suggestions", ())) <= 1
        for code in ("none-found", "more-notes-than-read", "heading of", "→", "|"):
            assert code not in card["detail"]


LONG = "A diagnosis with a name of very many words that no chart should have but some charts do"


def test_the_words_are_capped_whatever_the_chart_holds() -> None:
    drivers = tuple(Driver(f"c{n}", f"{LONG} {n}", "recorded", (-1) ** n * (1 + n), False) for n in range(12))
    gaps = tuple(DataGap(f"{LONG} {n}", "none-found") for n in range(12))
    full = an_estimate(drivers=drivers, gaps=gaps, cautions=(LONG * 20,))
    other = replace(full, task=READMISSION_30D)
    assert len(written(full).split()) <= MAX_WORDS[1] + 1
    assert len(written(full, other).split()) <= MAX_WORDS[2] + 1
    assert written(full).startswith("**Hospital death 17 % (9–25 %)**, cohort average 14 %.")


def test_the_card_of_the_issue() -> None:
    drivers = (
        Driver("bun", "Blood urea nitrogen", "97.8 mg/dL (range 60 to 97.8)", 0.9, True, abnormal=Abnormality.HIGH),
        Driver("age", "Age", "83 years", 0.5, False),
        Driver("albumin", "Albumin", "2.3 g/dL", 0.4, True, abnormal=Abnormality.LOW),
        Driver("sodium", "Sodium", "128 mmol/L", 0.1, True, abnormal=Abnormality.LOW),
    )
    text = written(an_estimate(drivers=drivers))
    assert "Raises: BUN 97.8 mg/dL (high), age 83, albumin 2.3 g/dL (low)." in text
    assert "sodium" not in text
    assert "Lowers" not in text


def a_driver(concept: str, value: str, contribution: float) -> Driver:
    return Driver(concept, concept.replace("_", " ").capitalize(), value, contribution, False)


@pytest.mark.parametrize(
    ("task", "drivers", "lines"),
    [
        (IN_HOSPITAL_MORTALITY, [], ["No abnormal value raises the risk."]),
        (READMISSION_30D, [], ["No input of the model raises the risk."]),
        (READMISSION_30D, [("hypertension", "recorded", 0.04)], ["No single finding raises the risk noticeably."]),
        (
            IN_HOSPITAL_MORTALITY,
            [("age", "52 years", -0.2)],
            ["No abnormal value raises the risk.", "Lowers: age 52."],
        ),
        (
            READMISSION_30D,
            [("condition", "4", -0.3), ("medication", "6–7", -0.2), ("length_of_stay", "2.71 days", -0.2)],
            ["No input of the model raises the risk."],
        ),
        (
            READMISSION_30D,
            [("medication", "17–18", 0.3), ("length_of_stay", "12.71 days", 0.2)],
            ["Raises: 17–18 medications, 13 days in hospital."],
        ),
        (
            READMISSION_30D,
            [("acute_admission", "yes", 0.10), ("admitted_from", "emergency department", 0.09)],
            ["Raises: emergency admission."],
        ),
        (
            READMISSION_30D,
            [("acute_admission", "yes", 0.08), ("admitted_from", "emergency department", 0.09)],
            ["Raises: admitted through the emergency department."],
        ),
        (
            READMISSION_30D,
            [
                ("liver", "recorded", 0.24),
                ("mild_liver", "recorded", 0.07),
                ("earlier_stay", "2", 0.06),
                ("inpatient_stay", "1", 0.05),
            ],
            ["Raises: liver, 2 earlier hospital stays."],
        ),
    ],
)
def test_a_card_names_each_fact_once_and_no_small_count_as_protection(
    task: str, drivers: list[tuple[str, str, float]], lines: list[str]
) -> None:
    """Cards said "Lowers: only 6.5 medications" and "Raises: from emergency department, emergency admission"."""
    estimate = an_estimate(task=task, drivers=tuple(a_driver(*driver) for driver in drivers))
    assert list(driver_lines(estimate, 3)) == lines
    assert [line.strip() for line in written(estimate).splitlines()[1:]] == lines


@pytest.mark.parametrize(
    ("interval", "risk", "words"),
    [
        ((0.09, 0.25), (0.55, 0.77), "Scores disagree: SAPS II suggests 55–77 %."),
        ((0.60, 0.75), (0.02, 0.20), "Scores disagree: SAPS II suggests 2–20 %."),
        ((0.09, 0.25), (0.20, 0.40), ""),
        ((0.09, 0.25), (0.15, 0.15), ""),
        ((0.09, 0.25), None, ""),
    ],
)
def test_scores_that_disagree_are_said_to_disagree(
    interval: tuple[float, float], risk: tuple[float, float] | None, words: str
) -> None:
    score = a_score("SAPS II", 54, 67, band="high", missing=("bilirubin",), published_risk=risk)
    estimate = an_estimate(probability=sum(interval) / 2, interval=interval, comparators=(score,))
    assert disagreement(estimate) == words
    assert ("Scores disagree" in written(estimate)) is bool(words)


def test_the_level_follows_the_more_cautious_reading_unless_the_site_says_otherwise(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    _, record = assessed
    score = a_score("SAPS II", 60, 60, band="high", published_risk=(0.68, 0.68))
    read = Assessment(an_estimate(probability=0.05, interval=(0.03, 0.09), comparators=(score,)), NO_NOTES, ())
    for follows, indicator in ((LevelPolicy.CAUTIOUS, "warning"), (LevelPolicy.ESTIMATE, "info")):
        thresholds = Thresholds({IN_HOSPITAL_MORTALITY: 0.15}, follows)
        card = build_card([read], record, public_url="https://cds.example", thresholds=thresholds).to_json()
        assert card["indicator"] == indicator
        assert "**Scores disagree: SAPS II suggests 68 %.**" in card["detail"]
        assert card["summary"] == "Hospital death 5 % (cohort average 14 %, scores disagree)"


def test_the_best_fitting_score_leads() -> None:
    unknown = a_score("SAPS II", 0, 163, inputs=(), missing=("age",))
    ranged = a_score("NEWS2", 3, 9, maximum=20, missing=("air or oxygen",))
    quick = a_score("qSOFA", 2, 2, maximum=3, band="high")
    assert leading_score(an_estimate(comparators=(quick, ranged))) is quick
    whole = replace(ranged, low=9, band="high")
    assert leading_score(an_estimate(comparators=(quick, whole))) is whole
    assert leading_score(an_estimate(comparators=(quick, whole, unknown))) is None, "no ward score in intensive care"
    assert leading_score(an_estimate(comparators=(unknown,))) is None
    assert "No score: too much is missing for SAPS II." in written(an_estimate(comparators=(unknown,)))
    assert score_words(ranged) == "NEWS2 3–9"


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (a_score("SAPS II", 50, 70, published_risk=(0.46, 0.81)), "SAPS II 50–70, published risk 46–81 %"),
        (a_score("LACE", 13, 13, band="high", published_risk=(0.198, 0.198)), "LACE 13 (high), published risk 20 %"),
        (a_score("NEWS2", 9, 9, band="high", published_risk=(0.078, 0.078)), "NEWS2 9 (high)"),
        (a_score("SOFA", 12, 14, band="high", published_risk=(0.8, 1.0)), "SOFA 12–14 (high)"),
    ],
)
def test_a_published_risk_of_another_outcome_is_not_on_the_card(score: ScoreResult, words: str) -> None:
    """NEWS2's is death within a day, SOFA's death in intensive care: beside hospital death they would be misread."""
    assert score_words(score) == words


def a_paper(factor: str | None, outcome: str | None) -> Evidence:
    return Evidence(
        "20194559", "Derivation and validation of an index.", "", 1.0, "graph", 2010,
        first_author="van Walraven", journal="CMAJ", factor=factor, outcome=outcome,
    )  # fmt: skip


def test_one_paper_and_only_where_factor_and_outcome_match() -> None:
    estimate = an_estimate()
    for paper in (a_paper(None, "mortality"), a_paper("BUN", None)):
        assert "PMID" not in detail([Assessment(estimate, NO_NOTES, (paper,))], a_record())
        assert "pubmed" not in detail([Assessment(estimate, NO_NOTES, (paper,))], a_record())
    both = (a_paper("blood urea nitrogen", "mortality"), a_paper("age", "mortality"))
    text = detail([Assessment(estimate, NO_NOTES, both)], a_record())
    assert text.count("pubmed.ncbi.nlm.nih.gov") == 1
    assert "Evidence on blood urea nitrogen and mortality: [van Walraven et al., CMAJ 2010]" in text


def test_no_paper_about_an_outcome_without_a_risk() -> None:
    """A ward patient with asthma, no estimate and a NEWS2 of 2 got a paper on mortality."""
    none: dict[str, Any] = {
        "probability": None,
        "interval": None,
        "abstention": Abstention("not-intensive-care", "No."),
    }
    news = a_score("NEWS2", 2, 2, maximum=20, band="low", published_risk=(0.001, 0.001))
    lace = a_score("LACE", 6, 6, maximum=19, band="moderate", published_risk=(0.06, 0.06))
    death, home = a_paper("asthma", "mortality"), a_paper("asthma", "readmission")
    ward = Assessment(an_estimate(comparators=(news,), **none), NO_NOTES, (death,))
    back = Assessment(an_estimate(task=READMISSION_30D, comparators=(lace,), **none), NO_NOTES, (home,))
    assert "Evidence" not in detail([ward], a_record())
    assert "Evidence on asthma and readmission" in detail([ward, back], a_record())


def test_an_intensive_care_patient_gets_intensive_care_scores() -> None:
    """A ward's call for critical care means nothing in intensive care: neither its level nor its suggestion."""
    saps, news = a_score("SAPS II", 40, 60), a_score("NEWS2", 11, 11, maximum=20, band="high")
    assert [score.name for score in fitting_scores(an_estimate(comparators=(news, saps)))] == ["SAPS II"]
    assert [score.name for score in fitting_scores(an_estimate(comparators=(news,)))] == ["NEWS2"]


def test_what_is_missing_matters_only_where_data_would_help() -> None:
    score = a_score("SAPS II", 54, 67, missing=("urine output", "bilirubin"))
    gaps = (DataGap("Total bilirubin", "none-found"), DataGap("Lactate", "none-found"), DataGap("Weight", "none-found"))
    known = an_estimate(comparators=(score,), gaps=gaps)
    assert missing_that_matters(known, a_record()) == ("urine output", "bilirubin", "lactate")
    young = Abstention("too-young", "A child.")
    child = replace(known, probability=None, interval=None, comparators=(), abstention=young)
    assert missing_that_matters(child, a_record()) == ()
    unknown = Abstention("input-unknown", "Inputs that the model needs are not known: Lactate.")
    lacking = replace(known, probability=None, interval=None, abstention=unknown)
    assert missing_that_matters(lacking, a_record()) == ("urine output", "bilirubin", "weight"), "not said twice"
    asked = an_estimate(comparators=(replace(score, missing=("urea nitrogen", "air or oxygen", "type of admission")),))
    assert missing_that_matters(asked, a_record()) == ("BUN", "whether on oxygen", "whether admitted for surgery")


def test_what_is_too_old_is_not_called_missing_and_what_is_charted_is_not_unmeasured() -> None:
    old_bilirubin = ("1975-2", 1.0, "mg/dL", "2026-02-26T09:00:00Z")
    daily_urine = ("3167-4", 900.0, "mL", "2026-03-01T06:00:00Z")
    score = a_score("SAPS II", 54, 67, missing=("bilirubin",))
    gaps = (DataGap("Urine output", "none-found"), DataGap("Lactate", "none-found"))
    known = an_estimate(comparators=(score,), gaps=gaps)
    record = a_record(old_bilirubin, daily_urine)
    assert {m.concept for m in record.measurements} == {"bilirubin", "daily_urine_output"}
    assert missing_that_matters(known, record) == ("bilirubin (older than 24 h)", "lactate")
    assert missing_that_matters(known, a_record()) == ("bilirubin", "urine output", "lactate")


@pytest.mark.parametrize(
    ("band", "label"),
    [
        ("high", "Request urgent review by a team with critical-care competencies"),
        ("medium", "Review the plan of care with a senior clinician today"),
    ],
)
def test_one_suggestion_and_never_a_limit_of_treatment_from_a_number(
    band: str, label: str, assessed: tuple[Assessment, PatientRecord]
) -> None:
    """The model card forbids decisions to limit treatment; at a NEWS2 of 7 the RCP asks for an urgent review."""
    _, record = assessed
    news = a_score("NEWS2", 7, 7, maximum=20, band=band)
    read = Assessment(an_estimate(probability=0.6, interval=(0.5, 0.7), comparators=(news,)), NO_NOTES, ())
    card = build_card(
        [read], record, public_url="https://cds.example", thresholds=Thresholds({IN_HOSPITAL_MORTALITY: 0.15})
    ).to_json()
    assert [suggestion["label"] for suggestion in card["suggestions"]] == [label]
    task = card["suggestions"][0]["actions"][0]["resource"]
    assert task["restriction"]["period"]["end"] == "2024-05-09T23:59:59+00:00"


def test_cautions_stand_beside_the_number(assessed: tuple[Assessment, PatientRecord]) -> None:
    assessment, record = assessed
    assert "Caution" not in detail([assessment], record)
    atypical = replace(assessment.estimate, cautions=("Unlike most <b>patients</b> the model learned from.",))
    text = detail([replace(assessment, estimate=atypical)], record)
    assert "**Caution:** Unlike most" in text
    assert "<b>" not in text


def test_past_its_deadline_the_pipeline_skips_notes_and_literature(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    _, record = assessed
    late = Pipeline.shipped().assess(record, READMISSION_30D, deadline=0.0)
    assert late.left_out == ("notes", "literature")
    assert "not read: the time was up." in detail([late], record)
    assert late.evidence == ()
    assert late.estimate.probability is not None


@pytest.mark.parametrize(
    ("unread", "words"),
    [
        (("language-fr", False, 1), "1 note not read: written in a language that is not read (fr)."),
        (("text-cut", True, 1), "1 note not read to the end: too long."),
        (("more-mentions-than-read", True, 2), "2 notes not read to the end: more findings than are read of one note."),
    ],
)
def test_a_card_says_which_notes_were_not_read_and_why(
    assessed: tuple[Assessment, PatientRecord], unread: tuple[str, bool, int], words: str
) -> None:
    assessment, record = assessed
    reason, part, count = unread
    notes = tuple(UnreadNote(f"DocumentReference/{number}", reason, part) for number in range(count))
    assert words not in detail([assessment], record)
    assert words in detail([replace(assessment, findings=replace(assessment.findings, not_read=notes))], record)


def test_older_notes_that_are_never_read_have_no_line_on_a_card(assessed: tuple[Assessment, PatientRecord]) -> None:
    assessment, record = assessed
    older = (UnreadNote("DocumentReference/1", "more-notes-than-read"),)
    found = replace(assessment, findings=replace(assessment.findings, not_read=older))
    assert found.findings.unread_in_words()
    assert detail([found], record) == detail([assessment], record)


@pytest.mark.parametrize(("probability", "anchor", "indicator"), [(0.40, 0.10, "info"), (0.10, 0.40, "warning")])
def test_a_language_model_never_sets_the_alert_level(
    assessed: tuple[Assessment, PatientRecord], probability: float, anchor: float, indicator: str
) -> None:
    """The number is the bounded one; level and suggestions come from the estimate without notes."""
    assessment, record = assessed
    estimate = replace(
        assessment.estimate, probability=probability, interval=(0.05, 0.45), anchor=anchor, reads_notes=True
    )
    findings = replace(assessment.findings, reader="language:https://llm.example/v1#small", language_notes=1, waiting=1)
    read = replace(assessment, estimate=estimate, findings=findings)
    card = build_card(
        [read], record, public_url="https://cds.example", thresholds=Thresholds({READMISSION_30D: 0.25})
    ).to_json()
    assert card["indicator"] == indicator
    assert ("suggestions" in card) == (indicator == "warning")
    assert f"{100 * probability:.0f} % (5–45 %)**" in card["detail"]
    assert "1 note read by the language model small. 1 note not read by the language model yet." in card["detail"]
    sentences = " ".join(reading_words([read]))
    assert "the language model small (1)" in sentences
    assert "1 note not read by the language model yet" in sentences
    assert "never the alert level of the card" in sentences


def test_a_question_without_established_scores_blames_no_age(assessed: tuple[Assessment, PatientRecord]) -> None:
    """A model of one's own for stays of a week once sentences a patient of 76 that his age was unknown."""
    assessment, record = assessed
    asked = find_definition("long_stay").question
    own = replace(assessment.estimate, task="long_stay", question=asked, comparators=())
    text = detail([replace(assessment, estimate=own)], record)
    assert text.startswith(f"**{asked.title} ")
    assert "score" not in text
    assert "age is known" not in text


def test_notes_without_findings_and_dropped_claims_are_reported(
    assessed: tuple[Assessment, PatientRecord],
) -> None:
    """A small model's two notes without a finding once left nothing but the words that it had read them."""
    assessment, _ = assessed
    empty = NoteFindings((), None, "language:small", 2, 0, unanchored_dropped=3, language_notes=2)
    sentences = " ".join(reading_words([replace(assessment, findings=empty)]))
    assert "Left out: 3 language model findings not supported by the text of the notes." in sentences
    assert "Left out" not in " ".join(reading_words([assessment]))
