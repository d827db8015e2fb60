"""Diabetes-130 rows to FHIR R4: one inpatient stay of a diabetic adult; what the table lacks stays unknown.

The table names no dates: each stay ends at a fictitious 1 July 2005, 12:00 UTC. Age is a band of ten years: the birth
date is the first of January of the year that makes the patient the middle of the band. The table counts earlier visits,
medications, procedures and diagnoses without naming them all: those become resources that say so in their text.

A patient's rows are in time order by `encounter_id` (of those that another one follows 98 % are marked readmitted, of
the last ones 24 %; ages fall in 13 of 1,130 changes), so a row's earlier rows are its patient's earlier stays. When
they were is known in bands only: `readmitted` of an earlier row says whether the next stay came within 30 days or
later, which is past by the time of the present row. Its fictitious date is 15 days before that next stay, or 60 days,
or (when the table counts fewer inpatient visits in the year before than there are rows) more than a year before. The
`readmitted` of the present row, the outcome, is read by nothing here.

Left out, and why: `payer_code`, `race` (no inputs, for fairness), `weight` (97 % missing), `num_lab_procedures`, dose
changes, `A1Cresult`, `max_glu_serum` and `medical_specialty` (no gain out of fold, see the decision on outcome models).
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
# admission_source_id -> HL7 admit-source; 9, 15, 17, 20 and 21 mean "not known".
ADMITTED_FROM = {
    1: "gp", 2: "outp", 3: "other", 4: "hosp-trans", 5: "nursing", 6: "hosp-trans", 7: "emd", 8: "other",
    10: "hosp-trans", 11: "born", 12: "born", 13: "born", 14: "born", 18: "other", 19: "other", 22: "hosp-trans",
    23: "born", 24: "born", 25: "outp", 26: "other",
}  # fmt: skip
ADMIT_SOURCE = "http://terminology.hl7.org/CodeSystem/admit-source"
DEAD_OR_HOSPICE = frozenset({11, 13, 14, 19, 20, 21})
Row = Mapping[str, str]
_SOON, _LATER, _OVER_A_YEAR = timedelta(days=15), timedelta(days=60), timedelta(days=400)


@dataclass(frozen=True, slots=True)
class DiabetesAdmission:
    """A row and the earlier rows of its patient, oldest first."""

    row: Row
    earlier: tuple[Row, ...] = ()


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of the table, CSV, plain or gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        yield from csv.DictReader(stream)


def read_admissions(path: Path) -> Iterator[DiabetesAdmission]:
    """Every row with its patient's earlier rows, in the order of the table."""
    rows = list(read_rows(path))
    before: dict[str, tuple[Row, ...]] = {}
    earlier: dict[str, tuple[Row, ...]] = {}
    for row in sorted(rows, key=lambda item: int(item["encounter_id"])):
        earlier[row["encounter_id"]] = before.get(row["patient_nbr"], ())
        before[row["patient_nbr"]] = (*earlier[row["encounter_id"]], row)
    for row in rows:
        yield DiabetesAdmission(row, earlier[row["encounter_id"]])


def eligible(row: Row) -> bool:
    """Discharged alive, not to hospice: the others cannot be readmitted."""
    return int(row["discharge_disposition_id"]) not in DEAD_OR_HOSPICE


def to_fhir(row: Row, earlier: Sequence[Row] = ()) -> list[dict[str, Any]]:
    """Patient, the stay, earlier stays and visits, conditions, medications and procedures of one row."""
    patient, stay = f"d130-{row['patient_nbr']}", f"stay-{row['encounter_id']}"
    start = DISCHARGE - timedelta(days=int(row["time_in_hospital"]))
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    here = {"encounter": {"reference": f"Encounter/{stay}"}}
    resources = [_patient(patient, row), _stay(stay, row, start, DISCHARGE, subject)]
    named = list(_earlier_stays(row, earlier, start, subject))
    resources += named
    resources += _earlier_visits(row, start, _within_a_year(named, start), subject)
    if named:
        resources += _before_the_last(earlier[-1], named[0], resources, subject)
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


def _stay(identifier: str, row: Row, start: datetime, end: datetime, subject: Mapping[str, Any]) -> dict[str, Any]:
    resource = _resource("Encounter", identifier, subject, status="finished")
    resource["class"] = _class("IMP")
    resource["period"] = {"start": start.isoformat(), "end": end.isoformat()}
    disposition = DISPOSITIONS.get(int(row["discharge_disposition_id"]))
    resource["hospitalization"] = {}
    if disposition is not None:
        resource["hospitalization"]["dischargeDisposition"] = {"coding": [{"system": NUBC, "code": disposition}]}
    source = ADMITTED_FROM.get(int(row.get("admission_source_id", 0)))
    if source is not None:
        resource["hospitalization"]["admitSource"] = {"coding": [{"system": ADMIT_SOURCE, "code": source}]}
    priority = {1: "EM", 2: "UR", 3: "EL", 7: "EM"}.get(int(row["admission_type_id"]))
    if priority is not None:
        system = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
        resource["priority"] = {"coding": [{"system": system, "code": priority}]}
    if row["diag_1"] != "?":
        resource["reasonCode"] = [{"coding": [{"system": ICD9, "code": icd9(row["diag_1"])}]}]
    return resource


def icd9(code: str) -> str:
    """Returns a code of the table with the leading zeros it lost there.

    >>> icd9("8"), icd9("41.5"), icd9("250.83"), icd9("V58")
    ('008', '041.5', '250.83', 'V58')
    """
    category, dot, detail = code.partition(".")
    return category.zfill(3) + dot + detail


def _earlier_stays(
    row: Row, earlier: Sequence[Row], start: datetime, subject: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The earlier rows as stays, newest first; how long before the next one is a band, not a date."""
    counted, following = int(row["number_inpatient"]), start
    for place, item in enumerate(reversed(earlier), start=1):
        in_the_year = place <= counted and start - following < timedelta(days=300)
        gap = _SOON if item["readmitted"] == "<30" else _LATER if in_the_year else _OVER_A_YEAR
        end = following - gap
        following = end - timedelta(days=int(item["time_in_hospital"]))
        yield _stay(f"stay-{item['encounter_id']}", item, following, end, subject)


def _begin(stay: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(stay["period"]["start"])


def _within_a_year(stays: Sequence[Mapping[str, Any]], start: datetime) -> int:
    return sum(timedelta(0) < start - _begin(stay) <= timedelta(days=365) for stay in stays)


def _before_the_last(
    last: Row, stay: Mapping[str, Any], resources: Sequence[Mapping[str, Any]], subject: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Inpatient visits that the last earlier row counts in its own year before and that are not there yet.

    They lie at the far end of that year, where they are outside the year before the present stay, whose count is known.
    """
    inpatient = [item for item in resources if item["resourceType"] == "Encounter" and item["class"]["code"] == "IMP"]
    missing = int(last["number_inpatient"]) - _within_a_year(inpatient, _begin(stay))
    at = _begin(stay) - timedelta(days=353)
    return [_visit(f"before{number}", "IMP", at - timedelta(hours=number), subject) for number in range(missing)]


def _visit(identifier: str, code: str, at: datetime, subject: Mapping[str, Any]) -> dict[str, Any]:
    """A visit of which only the kind is known: begin and end are one moment."""
    visit = _resource("Encounter", identifier, subject, status="finished")
    visit["class"] = _class(code)
    visit["period"] = {"start": at.isoformat(), "end": at.isoformat()}
    return visit


def _earlier_visits(row: Row, start: datetime, named: int, subject: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Visits the table counts in the year before and that are no row get a fictitious day: only the count is known."""
    found = []
    counts = {"IMP": int(row["number_inpatient"]) - named}
    counts |= {"EMER": int(row["number_emergency"]), "AMB": int(row["number_outpatient"])}
    for code, count in counts.items():
        for number in range(count):
            at = start - timedelta(days=100 + 5 * (number % 50), hours=number // 50)
            found.append(_visit(f"{code.lower()}{number}", code, at, subject))
    return found


def _conditions(row: Row, start: datetime, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = [icd9(row[column]) for column in ("diag_1", "diag_2", "diag_3") if row[column] != "?"]
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
