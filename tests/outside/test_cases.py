"""The right answers of the development cases, in our own words; skipped where the folder is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from risk_model import news2, sofa
from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases"
MARCH, EARLY = "2025-03-12T10:00:00Z", "2025-03-12T09:00:00Z"
Expected = float | str | tuple[str, ...] | None
UNKNOWN: tuple[str, ...] = ()
"""Unknown, for whatever reason but that there is none."""

# file, time, encounter, feature, right answer: a number, a word, or the reasons of which one makes it unknown
FEATURES: list[tuple[str, str, str | None, str, Expected]] = [
    ("01-class-vendor", MARCH, None, "inpatient_stay.count_365d", ("class-not-understood",)),
    ("01-class-absent", MARCH, None, "length_of_stay.last", ("no-class",)),
    ("02-disposition-local-20", EARLY, "s1", "discharge_disposition.last", ("code-not-understood",)),
    ("02-priority-local-R", EARLY, "s1", "acute_admission.last", UNKNOWN),
    ("03-local-coding-first", EARLY, "s1", "discharge_disposition.last", "died"),
    ("03-local-coding-first", EARLY, "s1", "acute_admission.last", 1),
    ("04-order-completed-later", MARCH, None, "medication_anticoagulant.last", 1),
    ("04-statement-completed-later", MARCH, None, "medication_anticoagulant.last", 1),
    ("06-administration-running", MARCH, None, "medication_vasopressor.last", 1),
    ("07-two-nights", "2025-03-15", "s1", "length_of_stay.last", ("imprecise",)),
    ("07-year-only", "2025-03-15", "s1", "length_of_stay.last", ("imprecise",)),
    ("08-snomed-components", MARCH, None, "systolic_bp.last", 118),
    ("08-snomed-components", MARCH, None, "diastolic_bp.last", 74),
    ("08-words", MARCH, None, "systolic_bp.last", ("value-not-a-number",)),
    ("10-information", MARCH, None, "condition.count", 1),
    ("10-information", MARCH, None, "inpatient_stay.count_365d", 0),
    ("10-information", MARCH, None, "medication.count", 1),
    ("11-planned", MARCH, None, "intensive_care.last", 0),
    ("13-active-order", MARCH, None, "medication_anticoagulant.last", 1),
    ("15-gcs-scale", MARCH, None, "gcs.last", 14),
    ("15-inr-ratio", MARCH, None, "inr.last", 1.3),
    ("17-account-of-two", MARCH, None, "sodium.last", 131),
    ("18-pulmonary-artery", MARCH, None, "systolic_bp.last", 125),
    ("18-pulmonary-artery", MARCH, None, "diastolic_bp.last", 70),
    ("20-icd-10-gm", MARCH, None, "comorbidity_charlson_heart_failure.last", 1),
    ("21-copd", MARCH, None, "comorbidity_charlson_chronic_pulmonary_disease.last", 1),
    ("22-atc-germany", MARCH, None, "medication_beta_blocker.last", 1),
    ("23-leukocytes-per-nL", MARCH, None, "wbc.last", 12.4),
    ("23-gcs-zib", MARCH, None, "gcs.last", 13),
    ("24-effective-of-report", MARCH, None, "sodium.last", 127),
    ("25-clinic-during-stay", MARCH, None, "heart_rate.last", 131),
]  # fmt: skip


def read(folder: str, name: str, at: str, encounter: str | None = None) -> PatientRecord:
    file: Path = CASES / folder / f"{name}.json"
    if not file.exists():
        pytest.skip("the development cases are absent")
    return PatientRecord.from_json(file.read_bytes(), prediction_time=at, encounter_id=encounter)


@pytest.mark.parametrize(("name", "at", "encounter", "feature", "expected"), FEATURES)
def test_features_of_the_cases(name: str, at: str, encounter: str | None, feature: str, expected: Expected) -> None:
    vector = read("fhir", name, at, encounter).features()
    if isinstance(expected, tuple):
        reason = vector.unknown.get(feature)
        assert reason not in {None, "none-found"}
        assert not expected or reason in expected
    elif isinstance(expected, str):
        assert vector.word(feature) == expected
    else:
        assert vector.number(feature) == pytest.approx(expected)


NOT: list[tuple[str, str, str | None, str, Any]] = [
    ("14-condition-no-current-problems", MARCH, None, "condition.count", 1),
    ("14-medication-no-known", MARCH, None, "medication.count", 1),
    ("19-admission-de-E", MARCH, None, "admission_source.last", "within_hospital"),
    ("19-discharge-uk-51", EARLY, "s1", "discharge_disposition.last", "hospice"),
]


@pytest.mark.parametrize(("name", "at", "encounter", "feature", "wrong"), NOT)
def test_what_must_not_be_read(name: str, at: str, encounter: str | None, feature: str, wrong: Any) -> None:
    vector = read("fhir", name, at, encounter).features()
    found = vector.word(feature) if isinstance(wrong, str) else vector.number(feature)
    assert found != wrong


def test_a_class_of_later_makes_no_stay_then() -> None:
    assert read("fhir", "12-while-emergency", "2025-03-10T10:00:00Z").current_stay is None


def test_a_form_that_cannot_be_read_takes_nothing_from_the_conclusion() -> None:
    record = read("fhir", "16-form-at-url", MARCH)
    assert any("Large pulmonary embolism." in note.text for note in record.notes())


def test_a_value_that_is_not_used_is_named() -> None:
    clinic = read("fhir", "25-clinic-during-stay", MARCH)
    assert "other-encounter" in {refusal.reason for refusal in clinic.refused}
    vessel = read("fhir", "18-pulmonary-artery", MARCH)
    assert {refusal.source.partition("/")[0] for refusal in vessel.refused} == {"Observation"}


SCORED = "2024-05-03T12:00:00Z"


@pytest.mark.parametrize(
    ("name", "score", "low"),
    [
        ("epinephrine-auto-injector", "sofa", 0),
        ("weaned", "news2", 0),
        ("bilirubin-33", "sofa", 2),
        ("creatinine-171", "sofa", 2),
    ],
)
def test_scores_of_the_cases(name: str, score: str, low: int) -> None:
    found = {"sofa": sofa, "news2": news2}[score](read("scores", name, SCORED))
    assert found is not None
    assert found.low == low


@pytest.mark.parametrize("name", ["icd9-lost-zero", "icd9-unk"])
def test_a_code_that_is_none_leaves_its_group_unknown(name: str) -> None:
    vector = read("scores", name, SCORED).features()
    group = "comorbidity_charlson_myocardial_infarction.last"
    assert vector.number(group) is None
    assert vector.unknown[group] != "none-found"
