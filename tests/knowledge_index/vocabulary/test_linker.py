"""Words and codes to concepts: what is found, what is negated, and what must never be found."""

from __future__ import annotations

import pytest

from knowledge_index import Concept
from knowledge_index.vocabulary.linker import SYSTEMS, Linker

ICD10, ICD9 = "http://hl7.org/fhir/sid/icd-10-cm", "http://hl7.org/fhir/sid/icd-9-cm"
SNOMED, RXNORM = "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm"


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker()


def found(linker: Linker, text: str) -> list[tuple[str, bool]]:
    return [(item.concept.name, item.negated) for item in linker.link_text(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CHF exacerbation", "Heart Failure"),
        ("congestive heart failure", "Heart Failure"),
        ("HFrEF on GDMT", "Heart Failure, Systolic"),
        ("Type 2 diabetes mellitus", "Diabetes Mellitus, Type 2"),
        ("diabetes mellitus, type 2", "Diabetes Mellitus, Type 2"),
        ("pulmonary hypertension", "Hypertension, Pulmonary"),
        ("two strokes", "Stroke"),
        ("low\nsodium", "Hyponatremia"),
        ("chronic obstructive pulmonary disease", "Pulmonary Disease, Chronic Obstructive"),
        ("non-small-cell lung cancer", "Lung Neoplasms"),
        ("Alzheimer's disease", "Alzheimer Disease"),
        ("taking Lasix", "Furosemide"),
    ],
)
def test_clinical_terms_are_linked(linker: Linker, text: str, expected: str) -> None:
    assert expected in [name for name, _ in found(linker, text)]


def test_the_longest_mention_wins_and_mentions_do_not_overlap(linker: Linker) -> None:
    text = "systolic heart failure and end stage renal disease"
    assert [name for name, _ in found(linker, text)] == ["Heart Failure, Systolic", "Kidney Failure, Chronic"]


def test_abbreviations_defined_in_the_text_are_linked(linker: Linker) -> None:
    text = "Acute respiratory distress (ZRD) and hyponatremia (HN). The HN was mild, HNX and hn were not meant. No ZRD."
    mentions = [(item.mention, item.concept.name) for item in linker.link_text(text)]
    assert mentions.count(("HN", "Hyponatremia")) == 2
    assert not [name for mention, name in mentions if mention in {"HNX", "hn", "ZRD"}]


def test_offsets_quote_the_text(linker: Linker) -> None:
    text = "Known COPD; no fever.\nLow albumin, A1c 9."
    mentions = linker.link_text(text)
    assert len(mentions) >= 2
    for item in mentions:
        assert text[item.start : item.end] == item.mention


@pytest.mark.parametrize(
    "text",
    [
        "she was fit for pe class",
        "the patient af ebrile",
        "chest. Pain in the knee",
        "PE: lungs clear, abdomen soft",
        "mi casa",
        "undiabetical",
        "",
    ],
)
def test_unrelated_words_are_not_linked(linker: Linker, text: str) -> None:
    names = {name for name, _ in found(linker, text)}
    assert not names & {"Pulmonary Embolism", "Atrial Fibrillation", "Chest Pain", "Myocardial Infarction", "Seizures"}
    assert "Diabetes Mellitus" not in names


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("no fever", True),
        ("Denies fever, cough and dyspnea", True),
        ("without edema", True),
        ("negative for pneumonia", True),
        ("Pneumonia was ruled out", True),
        ("ruled out for MI", True),
        ("no evidence of pulmonary embolism", True),
        ("no history of diabetes", True),
        ("no known heart failure", True),
        ("Diabetes: no", True),
        ("No past medical history of stroke", True),
        ("no increase in edema", False),
        ("heart failure, not only fluid", False),
        ("No cough. Fever since Monday", False),
        ("no cough but fever", False),
        ("No acute distress\nPneumonia of the left lobe", False),
        ("history of heart failure", False),
        ("Sepsis, no longer on vasopressors", False),
    ],
)
def test_negation_stays_in_its_clause(linker: Linker, text: str, negated: bool) -> None:
    wanted = {"Fever", "Edema", "Pneumonia", "Myocardial Infarction", "Pulmonary Embolism", "Diabetes Mellitus"}
    wanted |= {"Heart Failure", "Stroke", "Sepsis", "Dyspnea"}
    states = [state for name, state in found(linker, text) if name in wanted]
    assert states
    assert set(states) == {negated}


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        ((ICD10, "I50.23", None), ["Heart Failure, Systolic", "Heart Failure"]),
        ((ICD10, "N18.6", None), ["Kidney Failure, Chronic", "Renal Insufficiency, Chronic", "Renal Insufficiency"]),
        (("urn:oid:2.16.840.1.113883.6.90", "j44.1", None), ["Pulmonary Disease, Chronic Obstructive"]),
        ((ICD10, "Z79.4", None), ["Insulin"]),
        ((ICD9, "428.0", None), ["Heart Failure"]),
        (("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd9", "25002", None),
         ["Diabetes Mellitus, Type 2", "Diabetes Mellitus"]),
        (("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-procedure-icd9", "9671", None),
         ["Respiration, Artificial"]),
        ((SNOMED, "88805009", None), ["Heart Failure"]),
        ((RXNORM, "856987", "Acetaminophen 300 MG / HYDROcodone Bitartrate 5 MG Oral Tablet"),
         ["Acetaminophen", "Analgesics, Opioid"]),
        ((None, "x", "Chronic congestive heart failure (disorder)"), ["Heart Failure"]),
        ((SNOMED, "1", "Pneumonia (disorder)"), ["Pneumonia"]),
        # The same figures are a ventilation among procedures.
        (("http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd9", "9671", None), ["Poisoning"]),
    ],
)  # fmt: skip
def test_codes_of_every_system(linker: Linker, coding: tuple[str | None, str, str | None], expected: list[str]) -> None:
    assert [item.concept.name for item in linker.link_codes([coding])] == expected


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        ((ICD10, "K57.30", None), ["Diverticulum"]),
        ((ICD10, "B18.2", None), ["Hepatitis C, Chronic"]),
        ((ICD10, "b182", "words that do not matter: sepsis"), ["Hepatitis C, Chronic"]),
        ((ICD10, "S01.00", None), []),
        ((ICD9, "562.10", None), ["Diverticulum"]),
        ((ICD9, "E885.9", "Fall from other slipping, tripping, or stumbling"), ["Accidental Falls"]),
        ((SNOMED, "66383009", "Gingivitis (disorder)"), ["Gingivitis"]),
        ((SNOMED, "1", "No gingivitis"), []),
        ((SNOMED, "1", "Gingivitis screening"), []),
        ((SNOMED, "1", "Loratadine therapy"), []),
        ((RXNORM, "1", "Loratadine 5 MG Chewable Tablet"), ["Loratadine"]),
        ((RXNORM, "1", "Mestranol / Norethynodrel"), ["Mestranol", "Norethynodrel"]),
        ((RXNORM, "1", "Gingivitis 5 MG"), []),
        (("http://example.org/formulary", "77", "Bisacodyl (Rectal)"), ["Bisacodyl"]),
        (("http://example.org/formulary", "Bisacodyl 10 mg", None), ["Bisacodyl"]),
        (("http://example.org/formulary", "BISA10", None), []),
    ],
)
def test_unknown_codes_are_found_in_the_additional_tables(
    linker: Linker, coding: tuple[str | None, str, str | None], expected: list[str]
) -> None:
    assert [item.concept.name for item in linker.link_codes([coding])] == expected


@pytest.mark.parametrize(
    "coding",
    [
        ("http://loinc.org", "I50.9", None),
        (None, "I50.9", None),
        (SNOMED, "8880500", None),
        (SNOMED, "888050091", None),
        (ICD9, "I50.9", None),
        (ICD10, "428.0", None),
        (ICD10, "", None),
        (SNOMED, "x", "Suspected lung cancer (situation)"),
        (SNOMED, "x", "Family history of stroke"),
        (SNOMED, "x", "Depression screening (procedure)"),
        (SNOMED, "x", "No evidence of sepsis"),
    ],
)
def test_codes_are_matched_within_their_system(linker: Linker, coding: tuple[str | None, str, str | None]) -> None:
    assert linker.link_codes([coding]) == ()


def test_short_codings_are_cached() -> None:
    linker = Linker()
    again = [linker.link_codes([(ICD10, "I50.9", "Heart failure")]) for _ in range(2)]
    long = [linker.link_codes([("urn:local", "X1", "Heart failure, " + 60 * "very ")])[0].concept for _ in range(2)]
    assert again[0][0] is again[1][0]
    assert long[0] == long[1] == again[0][0].concept
    assert linker._cached.cache_info().currsize == 1


def test_each_concept_is_linked_once_and_names_its_source(linker: Linker) -> None:
    linked = linker.link_codes([(ICD10, "I50.9", "Heart failure"), (SNOMED, "84114007", None)])
    assert [(item.concept.ui, item.source) for item in linked] == [("D006333", "icd10cm:I50.9")]


def test_negation_has_a_bounded_reach(linker: Linker) -> None:
    complaints = ", ".join(["fever", "cough", "nausea", "headache"] * 200)
    negated = [item.negated for item in linker.link_text(f"Denies {complaints}")]
    reached = negated.index(False)
    assert 60 < reached < 100
    assert all(negated[:reached])
    assert not any(negated[reached:])


def test_an_index_s_own_headings_are_known_by_name() -> None:
    linker = Linker([Concept("name:sweat", "Sweat")])
    assert [item.concept.ui for item in linker.link_text("sodium in sweat")] == ["name:sweat"]
    assert linker.concepts["name:sweat"].name == "Sweat"


def test_every_code_system_is_supported() -> None:
    assert set(SYSTEMS.values()) == {"icd10cm", "icd9cm", "icd9cm_procedure", "snomed", "rxnorm", "mesh"}
