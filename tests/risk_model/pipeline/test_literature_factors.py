"""What the literature is searched for: the patient's own factors, in such patients, with this outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from knowledge_index import Evidence, KnowledgeIndex
from knowledge_index.vocabulary import factors
from risk_model import Driver, Pipeline
from risk_model.core.values import NoteFindings
from risk_model.notes.literature import factor_of, outcome_of
from risk_model.pipeline.literature_factors import factors_behind, factors_of_patient, fits

ICD = "http://hl7.org/fhir/sid/icd-10-cm"
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
MORTALITY, READMISSION = "in_hospital_mortality", "readmission_30d"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


@pytest.fixture(scope="module")
def index(pipeline: Pipeline) -> KnowledgeIndex:
    return pipeline.index


def patient(*codes: str, reason: str = "", born: str = "1950-01-01", recorded: str = "2020-01-01") -> PatientRecord:
    """An inpatient since 1 March 2026 with these active diagnoses."""
    subject = {"reference": "Patient/p"}
    stay: dict[str, Any] = {
        "resourceType": "Encounter", "id": "e", "status": "in-progress", "subject": subject,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "period": {"start": "2026-03-01T08:00:00Z"},
    }  # fmt: skip
    if reason:
        stay["reasonCode"] = [{"coding": [{"system": ICD, "code": reason}]}]
    status = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}
    problems = [
        {
            "resourceType": "Condition", "id": f"c{number}", "subject": subject, "clinicalStatus": status,
            "recordedDate": recorded, "code": {"coding": [{"system": ICD, "code": code}]},
        }
        for number, code in enumerate(codes)
    ]  # fmt: skip
    person = {"resourceType": "Patient", "id": "p", "birthDate": born}
    return PatientRecord.from_resources([person, stay, *problems], prediction_time=AT)


def names(record: PatientRecord, index: KnowledgeIndex, *drivers: Driver) -> list[str]:
    found = factors_of_patient(record, NoteFindings((), None, "rules", 0, 0), drivers, index)
    return [factor.name for factor in found.ordered]


def driver(concept: str, contribution: float) -> Driver:
    return Driver(concept, concept, "1", contribution, False)


def test_the_reason_of_the_stay_comes_first(index: KnowledgeIndex) -> None:
    record = patient("I10", "E11.9", reason="A41.9")
    assert names(record, index)[0] == "sepsis"


def test_only_drivers_that_raise_the_estimate_are_searched(index: KnowledgeIndex) -> None:
    found = names(patient("I50.9"), index, driver("lactate", 0.5), driver("sodium", -0.5))
    assert found == ["heart_failure", "lactate"] or found == ["lactate", "heart_failure"]


def test_a_child_gets_no_literature(pipeline: Pipeline) -> None:
    assessment = pipeline.assess(patient("A41.9", reason="A41.9", born="2020-01-01"), MORTALITY)
    assert (assessment.evidence, assessment.asked, assessment.factors) == ((), (), ())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("J44.1", {"copd"}),
        ("J69.0", {"pneumonia"}),
        ("N17.9", {"acute_kidney"}),
        ("S72.00", {"hip_fracture", "fracture"}),
        ("T07", {"major_trauma"}),
    ],
)
def test_a_diagnosis_is_a_factor(index: KnowledgeIndex, code: str, expected: set[str]) -> None:
    linked = index.link_codes([(ICD, code, None)])
    assert expected & {factor_of(item.concept, index).name for item in linked}


def test_a_heading_without_a_factor_stands_for_itself(index: KnowledgeIndex) -> None:
    linked = index.link_codes([(ICD, "R11.0", None)])
    assert [factor_of(item.concept, index).label for item in linked] == ["Nausea"]


@pytest.mark.parametrize(("code", "chronic"), [("J20.9", False), ("J44.1", True), ("J42", True), ("J45.909", True)])
def test_an_acute_bronchitis_is_no_chronic_disease_of_the_airways(
    index: KnowledgeIndex, code: str, chronic: bool
) -> None:
    """A man of 32 with a knee injury and a bronchitis got a paper on chronic disease of the airways."""
    found = {factor_of(item.concept, index).name for item in index.link_codes([(ICD, code, None)])}
    assert found
    assert bool(found & {"airways", "copd", "asthma"}) is chronic


def test_a_group_counts_only_for_the_patient_s_own_diseases() -> None:
    def behind(own: set[str] | None) -> list[str]:
        return [factor.name for factor in factors_behind("bowel", own)]

    assert behind({"crohn"}) == ["crohn", "bowel"]
    assert behind(set()) == ["bowel"]
    assert "peritonitis" in behind(None)


def test_a_ratio_is_also_looked_up_by_its_parts() -> None:
    assert [factor.name for factor in factors_behind("shock_index", None)] == [
        "shock_index", "heart_rate", "blood_pressure",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("populations", "own", "shown"),
    [
        ((), {"ward"}, True),
        (("infarction",), {"ward"}, False),
        (("infarction",), {"ward", "infarction"}, True),
        (("sodium",), {"ward"}, True),
        (("infarction", "coronary"), {"coronary"}, True),
        (("intensive_care",), {"ward"}, False),
        (("sepsis", "intensive_care"), {"sepsis", "ward"}, False),
        (("sepsis", "intensive_care"), {"sepsis", "intensive_care"}, True),
        (("infarction",), None, True),
    ],
)
def test_papers_are_about_such_patients(populations: tuple[str, ...], own: set[str] | None, shown: bool) -> None:
    item = Evidence("1", "t", "t", 1.0, "graph", populations=populations)
    assert fits(item, factors()["sodium"], own) is shown


def test_the_outcome_of_a_hospital_s_own_task_is_its_name_s_headings(index: KnowledgeIndex) -> None:
    assert outcome_of("delirium", index).headings == ("Delirium",)
    assert outcome_of(READMISSION, index).name == "readmission"


def test_every_shown_paper_is_about_factor_and_outcome_and_gaps_are_said(pipeline: Pipeline) -> None:
    assessment = pipeline.assess(patient("I50.9", "J18.9", reason="A41.9"), READMISSION)
    assert assessment.evidence
    assert {item.outcome for item in assessment.evidence} == {"readmission"}
    assert "No study of sepsis and readmission in the evidence base" in {question.gap for question in assessment.asked}
    asked = {question.concept for question in assessment.asked}
    assert {item.factor for item in assessment.evidence} <= asked


def test_a_patient_on_the_ward_gets_no_papers_on_the_critically_ill(pipeline: Pipeline) -> None:
    assessment = pipeline.assess(patient("N17.9", "E87.1", "D64.9"), MORTALITY)
    assert assessment.evidence
    assert not any("intensive_care" in item.populations for item in assessment.evidence)
    assert {"acute_kidney", "sodium", "ward"} <= set(assessment.factors)
