"""Values, units and codes that public trackers report as misread elsewhere, rebuilt as small made-up records.

`docs/real-world-inputs.md` lists the same rows under "Values, units and codes".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fhir_mapping.record.test_cases import LOINC, UCUM, Resource, no_value, observation, record

SNOMED = "http://snomed.info/sct"
SUBJECT = {"reference": "Patient/p"}
GUIDE = Path(__file__).parents[3] / "docs" / "real-world-inputs.md"


class Row(NamedTuple):
    report: str
    resources: list[Resource]
    feature: str
    answer: float | str
    """A value, or the reason why there is none."""


def coding(system: str | None, code: str) -> Resource:
    return {"code": code} | ({"system": system} if system else {})


def part(value: Any, *codings: Resource, unit: str = "mmHg") -> Resource:
    return {"code": {"coding": list(codings)}, "valueQuantity": {"value": value, "unit": unit, "system": UCUM}}


def panel(*components: Resource, code: str = "85354-9", **more: Any) -> Resource:
    return no_value(code=code, component=list(components), **more)


def condition(**code: Any) -> Resource:
    return {"resourceType": "Condition", "id": "c", "subject": SUBJECT, "code": code, "recordedDate": "2020-01-01"}


def quantity(code: str, **parts: Any) -> Resource:
    return observation(code) | {"valueQuantity": parts}


SYS, DIA = coding(LOINC, "8480-6"), coding(LOINC, "8462-4")
GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
DOSE = {
    "resourceType": "MedicationAdministration", "id": "a", "status": "completed", "subject": SUBJECT,
    "effectiveDateTime": "2024-05-03T08:00:00Z", "medicationCodeableConcept": {"text": "Vancomycin"},
    "dosage": {"dose": {"code": "", "unit": "", "value": 1, "system": "urn:mimic:units"}},
}  # fmt: skip
ROWS = [
    Row("synthetichealth/synthea#1198", [observation("59032-3", 2.1, "mmol/L")], "lactate.last", 2.1),
    Row("synthetichealth/synthea#1198", [observation("6690-2", 8.1, "K/uL")], "wbc.last", 8.1),
    Row("synthetichealth/synthea#1213", [observation("2885-2", 70, "g/dL")], "total_protein.last", "implausible"),
    Row("synthetichealth/synthea#1066", [panel(part(118, SYS), part(74, DIA), code="55284-4")], "systolic_bp.last", 118),
    Row("synthetichealth/synthea#793",
        [no_value() | {"code": {"coding": [coding(SNOMED, "2951-2"), coding(LOINC, "2951-2")]},
                       "valueQuantity": {"value": 140, "unit": "mmol/L"}}], "sodium.last", 140),
    Row("ehrbase/fhir-bridge#35", [panel(part("107", SYS), part(74, DIA))], "systolic_bp.last", "value-not-a-number"),
    Row("ehrbase/fhir-bridge#36", [panel(part(1001, SYS), part(74, DIA))], "systolic_bp.last", "implausible"),
    Row("hl7germany/basisprofil-de-r4#185",
        [panel(part(118, SYS, coding(SNOMED, "271649006")), part(74, DIA, coding(SNOMED, "271650006")))],
        "diastolic_bp.last", 74),
    Row("kind-lab/mimic-fhir#105", [panel()], "systolic_bp.last", "no-value"),
    Row("kind-lab/mimic-fhir#109", [DOSE], "medication_antibiotic.last", 1),
    Row("microsoft/FHIR-Converter#504", [quantity("2951-2", value=140, unit="mmol/L", comparator="=")], "sodium.last", 140),
    Row("microsoft/FHIR-Converter#504", [quantity("2951-2", value=140, unit="mmol/L", comparator="<>")], "sodium.last",
        "censored"),
    Row("drajer-health/eCRNow#625", [no_value(code="2160-0", valueCodeableConcept={"text": "GT 45"})], "creatinine.last",
        "value-not-a-number"),
    Row("nhsconnect/careconnect-reference-implementation#36",
        [no_value() | {"code": {"coding": [coding(SNOMED, "165581004")]}, "valueQuantity": {"value": 2.5}}], "inr.last", 2.5),
    Row("onc-healthit/inferno-program#248",
        [no_value() | {"code": {"text": "Glucose Random"}, "valueQuantity": {"value": 99, "unit": "mg/dL"}}],
        "glucose.last", "code-not-mapped"),
    Row("openemr/openemr#13828", [condition(text="Essential (primary) hypertension")], "condition.count", 1),
    Row("openemr/openemr#13828", [condition(text="Essential (primary) hypertension")],
        "comorbidity_elixhauser_hypertension.last", "code-not-mapped"),
    Row("medblocks/openFHIR#168", [condition(coding=[coding(GM, "E10.30†"), coding(GM, "H28.0*")])],
        "comorbidity_charlson_diabetes_with_complications.last", 1),
    Row("metriport/metriport#3990", [condition(coding=[coding("urn:unknown", "I50.9")])],
        "comorbidity_charlson_heart_failure.last", "code-not-mapped"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.report}-{row.feature}" for row in ROWS])
def test_real_world_values(row: Row) -> None:
    found = record(*row.resources).features()
    if isinstance(row.answer, str):
        assert found.unknown[row.feature] == row.answer
    else:
        assert found.number(row.feature) == row.answer


def test_the_guide_lists_every_row() -> None:
    lines = [line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith("|")]
    for row in ROWS:
        answer = f"`{row.answer}`" if isinstance(row.answer, str) else f"{row.answer:g}"
        wanted = [
            f"`{row.report}`",
            f"`{row.feature}` {'unknown (' + answer + ')' if isinstance(row.answer, str) else answer}",
        ]
        assert any(all(text in line for text in wanted) for line in lines), wanted
