"""Comorbidity groups, drug classes, admission source and disposition: 1, 0, or unknown with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.terminology.diagnosis_tables import Scheme, scheme_groups
from fhir_mapping.terminology.drug_classes import drug_class_table
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY

Resource = dict[str, Any]
SUBJECT = {"subject": {"reference": "Patient/p"}}
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
NDC = "http://hl7.org/fhir/sid/ndc"


def vector(*resources: Resource, not_fetched: frozenset[str] = frozenset(), stay: Resource = STAY) -> FeatureVector:
    return PatientRecord.from_resources([PATIENT, stay, *resources], "p", AT, not_fetched=not_fetched).features()


def problem(system: str | None, code: str, **more: Any) -> Resource:
    coding = {"code": code, "display": "x"} | ({"system": system} if system else {})
    return {"resourceType": "Condition", "id": f"c{code}", "code": {"coding": [coding]}, **SUBJECT, **more}


def order(coding: Resource | None = None, **more: Any) -> Resource:
    drug = {} if coding is None else {"medicationCodeableConcept": {"coding": [coding]}}
    return (
        {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", **SUBJECT} | drug | more
    )


@pytest.mark.parametrize(
    ("condition", "features"),
    [
        (problem(ICD10, "I50.9"), {"comorbidity_charlson_heart_failure", "comorbidity_elixhauser_congestive_heart_failure"}),
        (problem(ICD9, "585.4"), {"comorbidity_charlson_renal_disease", "comorbidity_elixhauser_renal_failure"}),
        (problem(ICD10, "E66.9"), {"comorbidity_elixhauser_obesity"}),
        (problem(SNOMED, "84114007"),
         {"comorbidity_charlson_heart_failure", "comorbidity_elixhauser_congestive_heart_failure"}),
        (problem(SNOMED, "59621000"), {"comorbidity_elixhauser_hypertension"}),
        (problem(SNOMED, "195967001"),
         {"comorbidity_charlson_chronic_pulmonary_disease", "comorbidity_elixhauser_chronic_pulmonary_disease"}),
        (problem(SNOMED, "49436004"), {"comorbidity_elixhauser_cardiac_arrhythmias"}),
        (problem("http://snomed.info/sct/11000172109", "40930008"), {"comorbidity_elixhauser_hypothyroidism"}),
        (problem("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "E66.00"), {"comorbidity_elixhauser_obesity"}),
        (problem("http://hl7.org/fhir/sid/icd-10-nl", "E66.9"), {"comorbidity_elixhauser_obesity"}),
        (problem("http://hl7.org/fhir/sid/icd-10-am", "E66.90"), {"comorbidity_elixhauser_obesity"}),
        (problem("urn:oid:1.2.208.176.2.4", "DE669"), {"comorbidity_elixhauser_obesity"}),  # SKS
        (problem("1.2.246.537.6.1.1999", "E66"), {"comorbidity_elixhauser_obesity"}),  # Finland
        (problem("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "E03.9+", id="dagger"), {"comorbidity_elixhauser_hypothyroidism"}),
        (problem(ICD10, "C78.0"), {"comorbidity_charlson_metastatic_solid_tumour", "comorbidity_elixhauser_metastatic_cancer"}),
    ],
)  # fmt: skip
def test_a_condition_puts_the_patient_into_its_groups(condition: Resource, features: set[str]) -> None:
    found = vector(condition)
    ones = {name for name, value in found.values.items() if name.startswith("comorbidity_") and value.value == 1.0}
    assert ones == {f"{name}.last" for name in features}
    assert all(found.values[name].sources == (f"Condition/{condition['id']}",) for name in ones)


@pytest.mark.parametrize("code", ["41.02", "42", "UNK", "I50.9", "4", "V4.5", "410.234", "000", "000.00"])
def test_what_is_no_icd_9_code_is_not_understood(code: str) -> None:
    """41.02 had lost its zero and scored as an infarction; UNK made every group absent."""
    found = vector(problem(ICD9, code))
    names = [name for name in found.unknown if name.startswith("comorbidity_")]
    assert {found.unknown[name] for name in names} == {"code-not-understood"}
    assert found.values
    assert not [name for name in found.values if name.startswith("comorbidity_")]


@pytest.mark.parametrize("code", ["UNK", "I5", "I5O.9", "428.0", "I20-I25", "?", "Heart failure"])
def test_what_is_no_icd_10_code_is_not_understood(code: str) -> None:
    assert vector(problem(ICD10, code, id="x")).unknown["comorbidity_charlson_dementia.last"] == "code-not-understood"


def test_absent_groups_are_known_only_with_readable_conditions() -> None:
    name = "comorbidity_charlson_dementia.last"
    assert vector().number(name) == 0.0
    assert vector(problem(ICD10, "E66.9")).number(name) == 0.0
    assert vector(problem(SNOMED, "84114007")).number(name) == 0.0
    for unread in (problem(SNOMED, "314529007"), problem(None, "F03"), problem("urn:local", "F03")):
        assert vector(unread).unknown[name] == "code-not-mapped"
    assert vector(not_fetched=frozenset({"Condition"})).unknown[name] == "not-fetched"
    assert vector(problem(ICD10, "F03"), not_fetched=frozenset({"Condition"})).number(name) == 1.0
    abated = problem(ICD10, "F03", abatementDateTime="2020-01-01")
    assert vector(abated).number(name) == 0.0


@pytest.mark.parametrize(
    ("coding", "expected", "basis"),
    [
        ({"system": ATC, "code": "C07AB02"}, {"beta_blocker"}, None),
        ({"system": RXNORM, "code": "4603"}, {"loop_diuretic"}, None),
        ({"system": RXNORM, "code": "314076", "display": "lisinopril 10 MG Oral Tablet"}, {"ace_inhibitor"}, "name"),
        ({"system": NDC, "code": "00093-0734-01", "display": "Metoprolol Tartrate 50 mg"}, {"beta_blocker"}, "name"),
        ({"system": RXNORM, "code": "1", "display": "lisinopril 20 MG / hydrochlorothiazide 12.5 MG Oral Tablet"},
         {"ace_inhibitor", "thiazide"}, "name"),
        ({"system": RXNORM, "code": "2", "display": "hydrocortisone 10 MG/ML Topical Cream"}, set(), None),
        ({"system": RXNORM, "code": "161", "display": "acetaminophen"}, set(), None),
        ({"system": "urn:local", "code": "LISIN", "display": "Lisinopril"}, {"ace_inhibitor"}, "name"),
        ({"system": "http://fhir.de/CodeSystem/ifa/pzn", "code": "1", "display": "Bisoprolol-ratiopharm 5 mg"},
         {"beta_blocker"}, "name"),
        ({"system": "https://dmd.nhs.uk", "code": "1", "display": "Furosemide 40mg tablets"}, {"loop_diuretic"}, "name"),
        ({"system": SNOMED, "code": "1", "display": "Product containing warfarin (medicinal product)"},
         {"anticoagulant"}, "name"),
        ({"system": SNOMED, "code": "1", "display": "Product containing zinc (medicinal product)"}, set(), None),
        ({"system": "urn:local", "code": "1", "display": "Acetylsalicylsäure 100 mg"}, {"antiplatelet"}, "name"),
        ({"system": "urn:local", "code": "1", "display": "Hydrocortison Salbe"}, set(), None),
        ({"system": "http://fhir.de/CodeSystem/bfarm/atc", "code": "C07AB07"}, {"beta_blocker"}, None),
        ({"system": "urn:oid:2.16.840.1.113883.6.73", "code": "C07AB07"}, {"beta_blocker"}, None),
    ],
)  # fmt: skip
def test_a_drug_has_its_classes(coding: Resource, expected: set[str], basis: str | None) -> None:
    found = vector(order(coding))
    values = {name: value for name, value in found.values.items() if name.startswith("medication_")}
    assert len(values) == len(drug_class_table())
    ones = {name: value for name, value in values.items() if value.value == 1.0}
    assert ones.keys() == {f"medication_{name}.last" for name in expected}
    assert {value.basis for value in ones.values()} <= {basis}
    shown = found.to_json()["features"]
    assert all(shown[name].get("basis") == basis for name in ones)


@pytest.mark.parametrize(
    ("coding", "not_fetched", "reason"),
    [
        ({"system": "urn:local", "code": "ZEST", "display": "Zestril"}, frozenset[str](), "code-not-mapped"),
        ({"code": "4603"}, frozenset[str](), "code-not-mapped"),
        ({"system": NDC, "code": "00093073401"}, frozenset[str](), "code-not-mapped"),
        ({"system": RXNORM, "code": "4603"}, frozenset({"MedicationStatement"}), "not-fetched"),
    ],
)
def test_the_class_of_an_unreadable_drug_is_unknown(coding: Resource, not_fetched: frozenset[str], reason: str) -> None:
    assert vector(order(coding), not_fetched=not_fetched).unknown["medication_statin.last"] == reason


@pytest.mark.parametrize("version", ["R4", "R5"])
@pytest.mark.parametrize("place", ["bundle", "contained"])
def test_a_mixture_has_the_classes_of_its_ingredients(version: str, place: str) -> None:
    """A Medication without a code, such as an infusion, was refused as `no-code`: 2,843 orders of the MIMIC-IV demo."""
    drug = {"resourceType": "Medication", "id": "a", "code": {"coding": [{"system": ATC, "code": "J01DH02"}]}}
    salt = {"coding": [{"system": RXNORM, "code": "9863", "display": "sodium chloride"}]}
    pointer = {"reference": ("#" if place == "contained" else "Medication/") + "a"}
    listed = (
        [{"itemReference": pointer}, {"itemCodeableConcept": salt}]
        if version == "R4"
        else [{"item": {"reference": pointer}}, {"item": {"concept": salt}}]
    )
    mixture = {"resourceType": "Medication", "id": "mix", "ingredient": listed}
    if place == "contained":
        mixture["contained"] = [drug]
    reference = {"reference": "Medication/mix"}
    asked = {"medicationReference": reference} if version == "R4" else {"medication": {"reference": reference}}
    resources = [PATIENT, STAY, order(**asked), mixture, *([drug] if place == "bundle" else [])]
    record = PatientRecord.from_resources(resources, "p", AT)
    assert [item.text for item in record.medications] == ["J01DH02 / sodium chloride"]
    assert record.features().number("medication_antibiotic.last") == 1.0


def test_circular_mixtures_end_and_missing_drugs_are_refused() -> None:
    loop = {"resourceType": "Medication", "id": "l", "ingredient": [{"itemReference": {"reference": "Medication/l"}}]}
    asked = order(medicationReference={"reference": "Medication/l"})
    assert PatientRecord.from_resources([PATIENT, loop, asked], "p", AT).refused[0].reason == "no-code"
    assert PatientRecord.from_resources([PATIENT, asked], "p", AT).refused[0].reason == "medication-not-found"


def test_admission_source_and_discharge_disposition() -> None:
    def moved(**hospitalization: Any) -> Resource:
        coded = {name: {"coding": [{"code": code}]} for name, code in hospitalization.items()}
        return STAY | {"hospitalization": coded}

    over = {"status": "finished", "period": STAY["period"] | {"end": AT.isoformat()}}
    came = vector(stay=moved(admitSource="emd"))
    assert came.word("admission_source.last") == "emergency"
    assert came.unknown["discharge_disposition.last"] == "not-yet"
    assert vector(stay=moved(dischargeDisposition="snf") | over).word("discharge_disposition.last") == "facility"
    assert vector(stay=moved(dischargeDisposition="mars") | over).unknown["discharge_disposition.last"] == "code-not-understood"  # fmt: skip
    assert vector().unknown["admission_source.last"] == "not-coded"
    running = vector(stay=moved(dischargeDisposition="exp"))
    assert "discharge_disposition.last" not in running.values


def test_every_group_and_class_has_a_feature() -> None:
    found = vector()
    named = {f"comorbidity_{s}_{g.slug}.last" for s in (Scheme.CHARLSON, Scheme.ELIXHAUSER) for g in scheme_groups(s)}
    named |= {f"medication_{name}.last" for name in drug_class_table()}
    assert len(named) == 17 + 30 + len(drug_class_table())
    assert named <= found.values.keys()


@pytest.mark.parametrize(("cuff", "line"), [("o1", "o2"), ("o2", "o1")])
def test_an_arterial_line_is_preferred_to_a_cuff(cuff: str, line: str) -> None:
    def pressure(identifier: str, code: str, value: int) -> Resource:
        return {
            "resourceType": "Observation", "id": identifier, "status": "final", **SUBJECT,
            "effectiveDateTime": "2024-05-02T06:00:00Z",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "unit": "mm[Hg]"},
        }  # fmt: skip

    found = vector(pressure(cuff, "76534-7", 131), pressure(line, "76215-3", 118))
    assert found.number("systolic_bp.last") == 118.0
    assert [(r.source, r.reason) for r in found.refused] == [(f"Observation/{cuff}", "other-method-used")]


def test_the_page_names_every_feature() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "features.md").read_text("utf-8")
    missing = []
    for name in (*vector().values, *vector().unknown):
        concept = name.partition(".")[0]
        for family in ("comorbidity_charlson_", "comorbidity_elixhauser_", "medication_"):
            concept = concept.removeprefix(family)
        if f"`{name}`" not in page and f"`{concept}`" not in page:
            missing.append(name)
    assert not missing
