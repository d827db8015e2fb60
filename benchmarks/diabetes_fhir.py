"""Diabetes-130 rows to FHIR R4: one inpatient stay of a diabetic adult, honest about what the table does not say.

The table names no dates: each stay ends at a fictitious 1 July 2005, 12:00 UTC. Age is a band of ten years: the birth
date is the first of January of the year that makes the patient the middle of the band. The table counts earlier visits,
medications, procedures and diagnoses without naming them all: those become resources that say so in their text.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

DISCHARGE = datetime(2005, 7, 1, 12, tzinfo=UTC)
ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"
NUBC = "http://www.nubc.org/patient-discharge"
DRUGS = (
    "metformin", "repaglinide", "nateglinide", "chlorpropamide", "glimepiride", "acetohexamide", "glipizide",
    "glyburide", "tolbutamide", "pioglitazone", "rosiglitazone", "acarbose", "miglitol", "troglitazone", "tolazamide",
    "examide", "citoglipton", "insulin", "glyburide-metformin", "glipizide-metformin", "glimepiride-pioglitazone",
    "metformin-rosiglitazone", "metformin-pioglitazone",
)  # fmt: skip
# discharge_disposition_id -> NUBC patient discharge status; 18, 25 and 26 mean "not known".
DISPOSITIONS = {
    1: "01", 2: "02", 3: "03", 4: "04", 5: "05", 6: "06", 7: "07", 8: "06", 9: "09", 10: "02", 11: "20", 12: "30",
    13: "50", 14: "51", 15: "61", 16: "01", 17: "01", 19: "40", 20: "41", 21: "42", 22: "62", 23: "63", 24: "64",
    27: "43", 28: "65", 29: "66",
}  # fmt: skip
DEAD_OR_HOSPICE = frozenset({11, 13, 14, 19, 20, 21})
Row = Mapping[str, str]


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of the table, CSV, plain or gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        yield from csv.DictReader(stream)


def eligible(row: Row) -> bool:
    """Discharged alive, not to hospice: the others cannot be readmitted."""
    return int(row["discharge_disposition_id"]) not in DEAD_OR_HOSPICE


def to_fhir(row: Row) -> list[dict[str, Any]]:
    """Patient, the stay, earlier visits, conditions, medications and procedures of one row."""
    patient, stay = f"d130-{row['patient_nbr']}", f"stay-{row['encounter_id']}"
    start = DISCHARGE - timedelta(days=int(row["time_in_hospital"]))
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    here = {"encounter": {"reference": f"Encounter/{stay}"}}
    resources = [_patient(patient, row), _stay(stay, row, start, subject)]
    resources += _earlier_visits(row, start, subject)
    resources += _conditions(row, start, subject | here)
    resources += _medications(row, start, subject | here)
    for number in range(int(row["num_procedures"])):
        text = "Procedure not named in the source"
        when = {"performedDateTime": start.isoformat()}
        resources.append(
            _resource("Procedure", f"p{number}", subject | here | when, status="completed", code={"text": text})
        )
    return resources


def _resource(kind: str, identifier: str, parts: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": identifier, **parts, **more}


def _patient(identifier: str, row: Row) -> dict[str, Any]:
    low = int(row["age"].strip("[)").split("-")[0])
    resource: dict[str, Any] = {"resourceType": "Patient", "id": identifier}
    resource["birthDate"] = f"{DISCHARGE.year - low - 5}-01-01"
    if row["gender"] in {"Male", "Female"}:
        resource["gender"] = row["gender"].lower()
    return resource


def _class(code: str) -> dict[str, Any]:
    return {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}


def _stay(identifier: str, row: Row, start: datetime, subject: Mapping[str, Any]) -> dict[str, Any]:
    resource = _resource("Encounter", identifier, subject, status="finished")
    resource["class"] = _class("IMP")
    resource["period"] = {"start": start.isoformat(), "end": DISCHARGE.isoformat()}
    disposition = DISPOSITIONS.get(int(row["discharge_disposition_id"]))
    if disposition is not None:
        resource["hospitalization"] = {"dischargeDisposition": {"coding": [{"system": NUBC, "code": disposition}]}}
    priority = {1: "EM", 2: "UR", 3: "EL", 7: "EM"}.get(int(row["admission_type_id"]))
    if priority is not None:
        system = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
        resource["priority"] = {"coding": [{"system": system, "code": priority}]}
    if row["diag_1"] != "?":
        resource["reasonCode"] = [{"coding": [{"system": ICD9, "code": row["diag_1"]}]}]
    return resource


def _earlier_visits(row: Row, start: datetime, subject: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table counts visits in the year before; each gets its own fictitious day, all but the count is unknown."""
    found = []
    for column, code in (("number_inpatient", "IMP"), ("number_emergency", "EMER"), ("number_outpatient", "AMB")):
        for number in range(int(row[column])):
            at = start - timedelta(days=30 + 7 * (number % 46), hours=number // 46)
            visit = _resource("Encounter", f"{code.lower()}{number}", subject, status="finished")
            visit["class"] = _class(code)
            visit["period"] = {"start": at.isoformat(), "end": (at + timedelta(hours=1)).isoformat()}
            found.append(visit)
    return found


def _conditions(row: Row, start: datetime, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = [row[column] for column in ("diag_1", "diag_2", "diag_3") if row[column] != "?"]
    codes: list[dict[str, Any]] = [
        {"coding": [{"system": ICD9, "code": code}], "text": f"ICD-9-CM {code}"} for code in named
    ]
    # Every patient of the table is diabetic by its inclusion rule, whether or not a coded diagnosis says so.
    codes.append({"coding": [{"system": ICD9, "code": "250.00"}], "text": "Diabetes mellitus (inclusion criterion)"})
    unnamed = int(row["number_diagnoses"]) - len(named)
    codes += [{"text": f"Diagnosis {n + 1} not named in the source"} for n in range(max(0, unnamed))]
    recorded = {"recordedDate": start.isoformat()}
    return [_resource("Condition", f"c{n}", parts | recorded, code=code) for n, code in enumerate(codes)]


def _medications(row: Row, start: datetime, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = [drug for drug in DRUGS if row[drug] != "No"]
    unnamed = max(0, int(row["num_medications"]) - len(named))
    texts = [*named, *(f"Medication {n + 1} not named in the source" for n in range(unnamed))]
    ordered = {"authoredOn": start.isoformat(), "intent": "order", "status": "active"}
    return [
        _resource("MedicationRequest", f"m{n}", parts | ordered, medicationCodeableConcept={"text": text})
        for n, text in enumerate(texts)
    ]
