"""Inputs rebuilt from public bug reports about stays, status and time; `docs/real-world-inputs.md` lists them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.parsing import ParsedInput, read_bytes
from tests.fhir_mapping.record.test_cases import PATIENT
from tests.fhir_mapping.record.test_status_then import ACT, SUBJECT, answer, order, problem

Resource = dict[str, Any]
AT = datetime(2025, 3, 12, 10, tzinfo=UTC)
STAY: Resource = {
    "resourceType": "Encounter", "id": "s", "status": "in-progress", "class": {"system": ACT, "code": "IMP"}, **SUBJECT,
    "period": {"start": "2025-03-10T06:00:00Z"},
}  # fmt: skip
ENDED = {"status": "finished", "period": {"start": "2025-03-10T06:00:00Z", "end": "2025-03-12T09:00:00Z"}}
ABSENT = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "not-applicable"}
HL7_VALUE_SET = "http://terminology.hl7.org/ValueSet/encounter-discharge-disposition"


def read(*parts: Any, current: bool = False) -> FeatureVector:
    found = [read_bytes(orjson.dumps(part)) for part in (PATIENT, *parts)]
    record = PatientRecord.from_parsed(ParsedInput.merged(found), "p", AT, encounter_id="s", undated_known=current)
    return record.features()


def stay(**more: Any) -> Resource:
    return STAY | more


def searched(*entries: Resource, **more: Any) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": list(entries), **more}


EPIC_4119 = {
    "resource": {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "warning", "code": "processing",
                "details": {"coding": [{"system": "urn:oid:1.2.840.114350.1.13.5325.1.7.2.657369", "code": "4119"}]},
            }
        ],
    },
    "search": {"mode": "outcome"},
}  # fmt: skip
IGNORED = {"severity": "warning", "code": "not-supported"}
PNEUMONIA = problem("active")
LENGTH, HOURS, WENT, PROBLEMS = (
    "length_of_stay.last",
    "hours_since_admission.last",
    "discharge_disposition.last",
    "condition.count",
)
MEDICATIONS, STAYS = "medication.count", "inpatient_stay.count_365d"
EARLIER = {"id": "e", **ENDED, "period": {"start": "2024-12-01T08:00:00Z", "end": "2024-12-04T08:00:00Z"}}
WARDS = [
    stay(id="w1", **ENDED | {"period": {"start": "2025-03-10T06:00:00Z", "end": "2025-03-11T06:00:00Z"}}, partOf={"reference": "Encounter/gone"}),
    stay(id="w2", period={"start": "2025-03-11T06:00:00Z"}, partOf={"reference": "Encounter/gone"}),
]  # fmt: skip

# The report, what it shows, the input, the feature asked, and the answer.
INPUTS: list[tuple[str, str, list[Any], str, Any]] = [
    ("smart-on-fhir/cumulus-etl#122", "a class written `?` for unknown", [stay(**{"class": {"system": ACT, "code": "?"}})], LENGTH, "class-not-understood"),
    ("synthetichealth/synthea#579", "an Encounter without a class", [{k: v for k, v in STAY.items() if k != "class"}], LENGTH, "no-class"),
    ("hl7ch/ch-core#58", "a class misspelt `INP` in a profile", [STAY, stay(**EARLIER | {"class": {"system": ACT, "code": "INP"}})], STAYS, "class-not-understood"),
    ("smart-on-fhir/patient-browser#10", "a class as a CodeableConcept in R4", [stay(**{"class": {"coding": [{"system": ACT, "code": "IMP"}]}})], HOURS, 52.0),
    ("onc-healthit/inferno-program#229", "a vendor's warning 4119 beside every set of matches", [STAY, searched({"resource": PNEUMONIA}, EPIC_4119)], PROBLEMS, 1.0),
    ("microsoft/fhir-server#612", "a warning about an ignored parameter", [STAY, searched({"resource": PNEUMONIA}, {"resource": {"resourceType": "OperationOutcome", "issue": [IGNORED]}})], PROBLEMS, 1.0),
    ("hapifhir/hapi-fhir#1328", "matches that carry a batch response of 200", [STAY, searched({"resource": PNEUMONIA, "response": {"status": "200 OK"}})], PROBLEMS, 1.0),
    ("openemr/openemr#6885", "a search answered as a collection, with more pages", [STAY, searched({"resource": PNEUMONIA}, type="collection", link=[{"relation": "next", "url": "https://x/2"}])], PROBLEMS, "not-fetched"),
    ("openemr/openemr#6885", "a search answered as a collection, with a larger total", [STAY, searched({"resource": PNEUMONIA}, type="collection", total=3)], PROBLEMS, "not-fetched"),
    ("onc-healthit/onc-certification-g10-test-kit#182", "a disposition that is only a data absent reason", [stay(**ENDED, hospitalization={"dischargeDisposition": {"extension": [ABSENT]}})], WENT, "not-coded"),
    ("onc-healthit/onc-certification-g10-test-kit#92", "a value set given as the code system", [stay(**ENDED, hospitalization={"dischargeDisposition": {"coding": [{"system": HL7_VALUE_SET, "code": "snf"}]}})], WENT, "facility"),
    ("synthetichealth/synthea#354", "a disposition in words instead of the codes of the standard", [stay(**ENDED, hospitalization={"dischargeDisposition": {"text": "Discharged to home"}})], WENT, "code-not-understood"),
    ("nhsconnect/careconnect-reference-implementation#53", "a start to the second and a date as its end", [stay(status="finished", period={"start": "2025-03-10T09:47:10Z", "end": "2025-03-11"})], LENGTH, "imprecise"),
    ("beda-software/fhir-emr#133", "times without a zone", [stay(status="finished", period={"start": "2025-03-10T06:00:00", "end": "2025-03-11T06:00:00"})], LENGTH, 1.0),
    ("synthetichealth/synthea#1572", "an order read as stopped because its course ended", [STAY, order(status="stopped", dispenseRequest={"validityPeriod": {"end": "2025-03-15"}})], MEDICATIONS, 1.0),
    ("AHRQ-CDS/AHRQ-CDS-Connect-PAIN-MANAGEMENT-SUMMARY#4", "completed orders without any end", [STAY, order()], MEDICATIONS, "status-of-later"),
    ("nhsconnect/gpconnect#517", "an acute drug completed at once, effective for a week", [STAY, {"resourceType": "MedicationStatement", "id": "t", "status": "completed", **SUBJECT, "medicationCodeableConcept": {"text": "x"}, "effectivePeriod": {"start": "2025-03-10", "end": "2025-03-17"}}], MEDICATIONS, 1.0),
    ("hapifhir/hapi-fhir#933", "clinicalStatus as a plain string, with an abatement", [STAY, PNEUMONIA | {"clinicalStatus": "remission", "abatementDateTime": "2025-03-11T02:00:00+02:00"}], PROBLEMS, 0.0),
    ("drajer-health/eCRNow#459", "diagnoses without a clinicalStatus", [STAY, {k: v for k, v in PNEUMONIA.items() if k != "clinicalStatus"}], PROBLEMS, 1.0),
    ("HDCbc/queries#2", "conditions without an end, inactive today", [STAY, problem("inactive")], PROBLEMS, "status-of-later"),
    ("gematik/spec-ISiK-Basismodul#265", "an account of two persons", [STAY, {"resourceType": "Account", "id": "a", "subject": [{"reference": "Patient/q"}, {"reference": "Patient/p"}]}], HOURS, 52.0),
    ("medizininformatik-initiative/INTERPOLAR#1055", "ward contacts whose department contact is missing", [stay(id="s", **ENDED), *WARDS], STAYS, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("report", "what", "parts", "name", "expected"), INPUTS, ids=[f"{row[0]}: {row[1]}" for row in INPUTS]
)
def test_an_input_of_a_public_report(report: str, what: str, parts: list[Any], name: str, expected: Any) -> None:
    assert answer(read(*parts), name) == expected


def test_the_page_lists_every_report() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "real-world-inputs.md").read_text("utf-8")
    assert [report for report, *_ in INPUTS if f"`{report}`" not in page] == []
