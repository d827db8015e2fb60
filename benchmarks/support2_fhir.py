"""SUPPORT rows to FHIR R4: one seriously ill adult on the third day of the study; what the table lacks stays unknown.

The table names no dates: each patient enters the study at a fictitious 1 January 1992, 00:00 UTC, after `hday` - 1
days in hospital, and is measured 60 hours later, on the third day, which is when the prediction is made. The stay ends
`slos` days after entry (3 at least), discharged or dead (`hospdead`): the cohort's label, unknown to the record then.

Read are age, sex, the disease group, cancer, diabetes, dementia, the number of comorbidities and the physiology of day
3. Left out: everything that is a score, an estimate, an outcome or later than day 3 (`aps`, `sps`, `surv2m`, `surv6m`,
`prg2m`, `prg6m`, `dnr`, `dnrday`, `charges`, `totcst`, `totmcst`, `avtisst`, `sfdm2`, `d.time`, `death`); race, income
and education, for fairness; and `adlp`, `adls`, `adlsc`: whom one could interview on day 3 tells who is intubated, and
that alone is worth .02 of AUROC.

`scoma` is a transformed Glasgow Coma Scale. Its table is not public, so its eleven values become eleven points in the
same order: the order is right and the points are approximate.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ENTRY = datetime(1992, 1, 1, tzinfo=UTC)
MEASURED = ENTRY + timedelta(hours=60)
LOINC, UCUM, ICD9 = "http://loinc.org", "http://unitsofmeasure.org", "http://hl7.org/fhir/sid/icd-9-cm"
Row = Mapping[str, str]
# column -> (LOINC, UCUM unit)
PHYSIOLOGY = {
    "meanbp": ("8478-0", "mm[Hg]"),
    "wblc": ("6690-2", "10*3/uL"),
    "hrt": ("8867-4", "/min"),
    "resp": ("9279-1", "/min"),
    "temp": ("8310-5", "Cel"),
    "pafi": ("50984-4", "mm[Hg]"),
    "alb": ("1751-7", "g/dL"),
    "bili": ("1975-2", "mg/dL"),
    "crea": ("2160-0", "mg/dL"),
    "sod": ("2951-2", "mmol/L"),
    "ph": ("2744-1", "[pH]"),
    "glucose": ("2345-7", "mg/dL"),
    "bun": ("3094-0", "mg/dL"),
    "urine": ("9192-6", "mL"),
}
COMA = {"0": 15, "9": 14, "26": 13, "37": 12, "41": 11, "44": 10, "55": 8, "61": 7, "89": 5, "94": 4, "100": 3}
# Disease group -> ICD-9-CM codes, the reason of the stay first.
GROUPS = {
    "ARF/MOSF w/Sepsis": ("038.9", "518.81"),
    "MOSF w/Malig": ("199.1", "518.81"),
    "COPD": ("496",),
    "CHF": ("428.0",),
    "Cirrhosis": ("571.5",),
    "Coma": ("780.01",),
    "Colon Cancer": ("153.9",),
    "Lung Cancer": ("162.9",),
}
CANCER = {"metastatic": "199.0", "yes": "199.1"}


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a table, CSV, plain or gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        yield from csv.DictReader(stream)


def to_fhir(row: Row) -> list[dict[str, Any]]:
    """Patient, the stay with its end, diagnoses and the physiology of day 3."""
    patient, stay = f"support-{row['sno']}", f"stay-{row['sno']}"
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    here = subject | {"encounter": {"reference": f"Encounter/{stay}"}}
    begin = ENTRY - timedelta(days=float(row["hday"]) - 1)
    resources = [_patient(patient, row), _stay(stay, row, begin, subject)]
    resources += [
        {
            "resourceType": "Condition", "id": f"{stay}-c{number}", **here, "code": code,
            "recordedDate": begin.isoformat(),
        }
        for number, code in enumerate(_diagnoses(row))
    ]  # fmt: skip
    found = [(*PHYSIOLOGY[column], float(row[column])) for column in PHYSIOLOGY if row[column]]
    if row["scoma"] in COMA:
        found.append(("9269-2", "{score}", COMA[row["scoma"]]))
    for code, unit, value in found:
        resources.append(
            {
                "resourceType": "Observation",
                "id": f"{stay}-{code}",
                "status": "final",
                "code": {"coding": [{"system": LOINC, "code": code}]},
                **here,
                "effectiveDateTime": MEASURED.isoformat(),
                "valueQuantity": {"value": round(value, 4), "unit": unit, "system": UCUM, "code": unit},
            }
        )
    return resources


def _patient(identifier: str, row: Row) -> dict[str, Any]:
    born = MEASURED - timedelta(days=365.25 * float(row["age"]))
    return {"resourceType": "Patient", "id": identifier, "gender": row["sex"], "birthDate": born.date().isoformat()}


def _stay(identifier: str, row: Row, begin: datetime, subject: Mapping[str, Any]) -> dict[str, Any]:
    end = ENTRY + timedelta(days=float(row["slos"]))
    disposition = "exp" if row["hospdead"] == "1" else "oth"
    system = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
    return {
        "resourceType": "Encounter",
        "id": identifier,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        **subject,
        "period": {"start": begin.isoformat(), "end": end.isoformat()},
        "reasonCode": [{"coding": [{"system": ICD9, "code": GROUPS[row["dzgroup"]][0]}]}],
        "hospitalization": {"dischargeDisposition": {"coding": [{"system": system, "code": disposition}]}},
    }


def _diagnoses(row: Row) -> list[dict[str, Any]]:
    others = [CANCER[row["ca"]]] if row["ca"] in CANCER else []
    others += ["250.00"] if row["diabetes"] == "1" else []
    others += ["290.0"] if row["dementia"] == "1" else []
    named = list(dict.fromkeys((*GROUPS[row["dzgroup"]], *others)))
    found: list[dict[str, Any]] = [
        {"coding": [{"system": ICD9, "code": code}], "text": f"ICD-9-CM {code}"} for code in named
    ]
    unnamed = max(0, int(float(row["num.co"])) - len(others))
    return found + [{"text": f"Comorbidity {number + 1} not named in the source"} for number in range(unnamed)]
