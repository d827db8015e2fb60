"""Diseases by ICD category: the same in ICD-9 and ICD-10, unknown in other systems, and models that answer without."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.codes import ICD9CM, ICD10CM, SNOMED
from risk_model.features.diseases import disease_inputs, disease_names, disease_of, disease_sources, diseases
from risk_model.features.inputs import can_be_computed, concept_of, gap_of, label_of, row
from risk_model.predictors.boosting import FORGOTTEN, forgetful

AT = datetime(2024, 5, 4, tzinfo=UTC)
SUBJECT = {"subject": {"reference": "Patient/p"}}


def record(reason: tuple[str, str] | None, *problems: tuple[str, str]) -> PatientRecord:
    stay: dict[str, Any] = {"resourceType": "Encounter", "id": "e", "status": "in-progress", **SUBJECT}
    stay["class"] = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    stay["period"] = {"start": "2024-05-01T08:00:00Z"}
    if reason is not None:
        stay["reasonCode"] = [{"coding": [{"system": reason[0], "code": reason[1]}]}]
    listed = [
        {"resourceType": "Condition", "id": f"c{n}", "recordedDate": "2024-05-01", **SUBJECT}
        | {"code": {"coding": [{"system": system, "code": code}]}}
        for n, (system, code) in enumerate(problems)
    ]
    return PatientRecord.from_resources([{"resourceType": "Patient", "id": "p"}, stay, *listed], prediction_time=AT)


@pytest.mark.parametrize(
    ("icd9", "icd10", "disease"),
    [
        ("428.0", "I50.9", "heart_failure"), ("410.71", "I21.4", "infarction"), ("434.91", "I63.9", "stroke"),
        ("486", "J18.9", "lung_infection"), ("038.9", "A41.9", "sepsis"), ("250.83", "E11.649", "any_diabetes"),
        ("584.9", "N17.9", "acute_kidney"), ("820.8", "S72.001A", "fracture"), ("V57.89", "Z51.89", "aftercare"),
        ("786.50", "R07.9", "chest_symptom"), ("008.45", "A04.7", "infection"), ("E885.9", "W01.0", "cause"),
    ],
)  # fmt: skip
def test_both_classifications_name_the_same_disease(icd9: str, icd10: str, disease: str) -> None:
    assert disease_of(ICD9CM, icd9) == disease_of(ICD10CM, icd10) == disease


def test_every_category_in_use_has_one_disease() -> None:
    ranges = [(d.name, r) for d in diseases().values() for r in d.icd10]
    assert ranges
    assert all(first <= last for _, (first, last) in ranges)
    assert disease_of(SNOMED, "84114007") is None
    assert disease_of(None, "428.0") is None


def test_reason_and_problems_are_separate_and_name_their_sources() -> None:
    found = disease_inputs(one := record((ICD10CM, "I50.9"), (ICD10CM, "E11.9"), (SNOMED, "38341003")))
    assert {name for name, value in found.items() if value} == {
        "reason.heart_failure", "disease.heart_failure", "disease.any_diabetes",
    }  # fmt: skip
    assert set(found) == set(disease_names())
    assert disease_sources(one, "disease.any_diabetes") == ("Condition/c0",)
    assert disease_sources(one, "reason.heart_failure") == ("Encounter/e",)


def test_what_is_coded_in_no_icd_is_unknown_and_not_absent() -> None:
    assert disease_inputs(record(None, (SNOMED, "84114007"))) == {}
    assert np.isnan(row(record(None, (SNOMED, "84114007")), ["disease.heart_failure", "reason.heart_failure"])).all()


def test_names_labels_and_gaps() -> None:
    assert all(can_be_computed(name) for name in disease_names())
    assert concept_of("reason.lung_infection") == "lung_infection"
    assert label_of("lung_infection") == "Pneumonia or influenza"
    assert {label_of(gap_of(name)) for name in disease_names()} == {"Diseases by ICD code"}


def test_some_rows_are_learned_from_without_codes() -> None:
    x = np.ones((40, 2), np.float32)
    kept = forgetful(x, ("age.last", "disease.stroke"))
    assert np.isnan(kept[:, 1]).sum() == 40 / FORGOTTEN
    assert np.isfinite(kept[:, 0]).all()
    assert forgetful(x, ("age.last", "group.dementia")) is x
