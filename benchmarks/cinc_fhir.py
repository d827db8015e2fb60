"""PhysioNet/CinC Challenge 2012 rows to FHIR R4: one ICU stay, its first 48 hours; unknown stays unknown.

The data name no dates: each stay begins at a fictitious 1 January 2012, 00:00 UTC, and the birth date is the first of
January as many years earlier as the patient is old. -1 means unknown. A stay has no end: its length is the outcome's.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ADMISSION = datetime(2012, 1, 1, tzinfo=UTC)
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
# Parameter -> (LOINC, UCUM unit). Non-invasive and invasive pressures keep their own codes.
PARAMETERS = {
    "Albumin": ("1751-7", "g/dL"),
    "ALP": ("6768-6", "U/L"),
    "ALT": ("1742-6", "U/L"),
    "AST": ("1920-8", "U/L"),
    "Bilirubin": ("1975-2", "mg/dL"),
    "BUN": ("3094-0", "mg/dL"),
    "Cholesterol": ("2093-3", "mg/dL"),
    "Creatinine": ("2160-0", "mg/dL"),
    "DiasABP": ("76213-8", "mm[Hg]"),
    "FiO2": ("3150-6", "1"),
    "GCS": ("9269-2", "{score}"),
    "Glucose": ("2345-7", "mg/dL"),
    "HCO3": ("1963-8", "mmol/L"),
    "HCT": ("4544-3", "%"),
    "HR": ("8867-4", "/min"),
    "K": ("2823-3", "mmol/L"),
    "Lactate": ("2524-7", "mmol/L"),
    "Mg": ("2601-3", "mmol/L"),
    "MAP": ("76214-6", "mm[Hg]"),
    "Na": ("2951-2", "mmol/L"),
    "NIDiasABP": ("76535-4", "mm[Hg]"),
    "NIMAP": ("76536-2", "mm[Hg]"),
    "NISysABP": ("76534-7", "mm[Hg]"),
    "PaCO2": ("2019-8", "mm[Hg]"),
    "PaO2": ("2703-7", "mm[Hg]"),
    "pH": ("2744-1", "[pH]"),
    "Platelets": ("777-3", "10*3/uL"),
    "RespRate": ("9279-1", "/min"),
    "SaO2": ("2713-6", "%"),
    "SysABP": ("76215-3", "mm[Hg]"),
    "Temp": ("8310-5", "Cel"),
    "TroponinI": ("10839-9", "ug/L"),
    "TroponinT": ("6598-7", "ug/L"),
    "Urine": ("9187-6", "mL"),
    "WBC": ("6690-2", "10*3/uL"),
    "Weight": ("29463-7", "kg"),
}
STATIC = frozenset({"RecordID", "Age", "Gender", "Height", "ICUType"})


@dataclass(frozen=True, slots=True)
class IcuStay:
    record_id: str
    rows: tuple[tuple[str, str, float], ...]
    """(time `HH:MM` since admission, parameter, value), in file order."""


def read_stays(path: Path) -> Iterator[IcuStay]:
    """The stays of a set, from `(RecordID, Time, Parameter, Value)` rows grouped by RecordID; CSV, plain or gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        record_id, rows = "", []
        for record, time, parameter, value in csv.reader(stream):
            if record == "RecordID":
                continue
            if record != record_id and rows:
                yield IcuStay(record_id, tuple(rows))
                rows = []
            record_id = record
            rows.append((time, parameter, float(value)))
        if rows:
            yield IcuStay(record_id, tuple(rows))


def read_outcomes(path: Path) -> Mapping[str, Mapping[str, float]]:
    """RecordID -> column -> number, of an Outcomes file."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        return {row["RecordID"]: {name: float(v) for name, v in row.items()} for row in csv.DictReader(stream)}


def to_fhir(stay: IcuStay) -> list[dict[str, Any]]:
    """Patient, Encounter and Observations of one stay."""
    patient, encounter = f"cinc-{stay.record_id}", f"icu-{stay.record_id}"
    static = {parameter: value for _, parameter, value in stay.rows if parameter in STATIC}
    resources = [_patient(patient, static), _encounter(patient, encounter)]
    height = static.get("Height", -1)
    if height > 0:
        resources.append(_observation(patient, encounter, 0, ADMISSION, "8302-2", "cm", height))
    for number, (time, parameter, value) in enumerate(stay.rows, start=1):
        if parameter == "MechVent":
            resources.append(_ventilated(patient, encounter, number, _at(time)))
        elif parameter in PARAMETERS and value >= 0:
            code, unit = PARAMETERS[parameter]
            resources.append(_observation(patient, encounter, number, _at(time), code, unit, value))
    return resources


def _at(time: str) -> datetime:
    hours, minutes = time.split(":")
    return ADMISSION + timedelta(hours=int(hours), minutes=int(minutes))


def _patient(identifier: str, static: Mapping[str, float]) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Patient", "id": identifier}
    if static.get("Age", -1) >= 0:
        resource["birthDate"] = f"{ADMISSION.year - int(static['Age'])}-01-01"
    if static.get("Gender", -1) in (0, 1):
        resource["gender"] = "male" if static["Gender"] == 1 else "female"
    return resource


def _encounter(patient: str, identifier: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": identifier,
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}],
        "subject": {"reference": f"Patient/{patient}"},
        "period": {"start": ADMISSION.isoformat()},
    }


def _observation(
    patient: str, encounter: str, number: int, at: datetime, code: str, unit: str, value: float
) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{encounter}-{number}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "encounter": {"reference": f"Encounter/{encounter}"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
    }


def _ventilated(patient: str, encounter: str, number: int, at: datetime) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": f"{encounter}-{number}",
        "status": "in-progress",
        "code": {
            "coding": [{"system": "http://snomed.info/sct", "code": "40617009"}],
            "text": "Artificial respiration",
        },
        "subject": {"reference": f"Patient/{patient}"},
        "encounter": {"reference": f"Encounter/{encounter}"},
        "performedDateTime": at.isoformat(),
    }
