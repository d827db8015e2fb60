"""A record as the row of numbers stage 2 reads: named inputs, NaN where unknown (never a default)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.definitions import definitions
from risk_model.tables import active_groups, diagnosis_table
from risk_model.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D

Row = NDArray[np.float32]

# The whole 48 hours and how they moved. Counts are left out on purpose: how often a laboratory value is taken is a
# habit of one hospital, and a model that leans on it does not travel.
_AGGREGATES = ("last", "first", "min", "max", "mean", "slope")
_MORTALITY_CONCEPTS = (
    "heart_rate", "respiratory_rate", "systolic_bp", "diastolic_bp", "mean_bp", "temperature", "spo2", "fio2", "gcs",
    "urine_output", "weight", "sodium", "potassium", "bicarbonate", "bun", "creatinine",
    "glucose", "magnesium", "albumin", "bilirubin", "alt", "ast", "alp", "lactate", "troponin", "troponin_t", "ph",
    "pao2", "paco2", "sao2", "hematocrit", "wbc", "platelets",
)  # fmt: skip
_READMISSION_PLAIN = (
    "length_of_stay.last", "acute_admission.last", "inpatient_stay.count_365d", "emergency_visit.count_365d",
    "outpatient_visit.count_365d", "condition.count", "medication.count", "procedure.count",
)  # fmt: skip
# NUBC patient discharge status and HL7 discharge-disposition codes, by where the patient went.
_DISCHARGED_TO = {
    "home": frozenset({"01", "home"}),
    "home_care": frozenset({"06", "alt-home"}),
    "facility": frozenset({"03", "04", "62", "63", "64", "snf", "rehab", "long"}),
    "hospital": frozenset({"02", "05", "65", "66", "other-hcf", "psy"}),
    "against_advice": frozenset({"07", "aadvice"}),
}


@cache
def input_names(task: str) -> tuple[str, ...]:
    """Names of a task's inputs, in the order of the row."""
    if task == IN_HOSPITAL_MORTALITY:
        series = [f"{concept}.{aggregate}" for concept in _MORTALITY_CONCEPTS for aggregate in _AGGREGATES]
        return ("age.last", "sex.female", "hours_since_admission.last", "mechanical_ventilation.last", *series)
    if task == READMISSION_30D:
        groups = [f"group.{name}" for name in diagnosis_table().groups]
        went = [f"discharged_to.{name}" for name in _DISCHARGED_TO]
        return ("age.last", "sex.female", *_READMISSION_PLAIN, *groups, *went)
    raise KeyError(task)


def row(record: PatientRecord, names: Sequence[str], vector: FeatureVector | None = None) -> Row:
    """Shape (len(names),) float32; NaN marks an unknown input. `vector` spares computing the features twice."""
    known = vector or record.features()
    values = {**_words(known), **_groups(record), **_disposition(record)}
    numbers = [values[name] if name in values else known.number(name) for name in names]
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float32)


def _words(vector: FeatureVector) -> dict[str, float | None]:
    sex = vector.word("sex.last")
    return {"sex.female": None if sex not in {"female", "male"} else float(sex == "female")}


def _groups(record: PatientRecord) -> dict[str, float | None]:
    names = diagnosis_table().groups
    found = active_groups(record)
    fetched = "Condition" not in record.not_fetched
    return {f"group.{name}": float(name in found) if fetched or name in found else None for name in names}


def _disposition(record: PatientRecord) -> dict[str, float | None]:
    code = record.current_stay.discharge_disposition if record.current_stay else None
    return {f"discharged_to.{name}": None if code is None else float(code in c) for name, c in _DISCHARGED_TO.items()}


def sources(record: PatientRecord, name: str, vector: FeatureVector) -> tuple[str, ...]:
    """The resources an input came from."""
    if name in vector.values:
        return vector.values[name].sources
    if name.startswith("group."):
        return active_groups(record).get(name.partition(".")[2], ())
    return (record.current_stay.source,) if name.startswith("discharged_to.") and record.current_stay else ()


def concept_of(name: str) -> str:
    """The clinical concept an input belongs to: `sodium.slope` and `sodium.min` are both sodium."""
    kind, _, rest = name.partition(".")
    return rest if kind == "group" else kind


def label_of(concept: str) -> str:
    """A concept in the words of a clinician."""
    measured = definitions().concepts.get(concept)
    if measured is not None:
        return measured.label
    group = diagnosis_table().groups.get(concept)
    return group.label if group is not None else _LABELS.get(concept, concept.replace("_", " ").capitalize())


_LABELS = {
    "age": "Age",
    "sex": "Sex",
    "length_of_stay": "Length of stay",
    "hours_since_admission": "Hours since admission",
    "acute_admission": "Emergency admission",
    "inpatient_stay": "Hospital stays in the year before",
    "emergency_visit": "Emergency visits in the year before",
    "outpatient_visit": "Outpatient visits in the year before",
    "condition": "Number of active problems",
    "medication": "Number of medications",
    "procedure": "Procedures in this stay",
    "discharged_to": "Where the patient goes",
}
MODIFIABLE = frozenset(
    {
        "heart_rate", "respiratory_rate", "systolic_bp", "diastolic_bp", "mean_bp", "temperature", "spo2", "fio2",
        "urine_output", "sodium", "potassium", "bicarbonate", "glucose", "magnesium", "lactate", "ph", "pao2", "paco2",
        "sao2", "hematocrit", "platelets", "medication", "discharged_to", "anaemia", "creatinine", "bun", "albumin",
    }
)  # fmt: skip
