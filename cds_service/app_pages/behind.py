"""The literature behind a driver: papers on what was measured or counted, beside those on the patient's problems."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from cds_service.app_pages.evidence import Reading, reading
from risk_model import TASKS, Driver, Pipeline

SECONDS = 1.0
"""For all drivers of a page together: what is not asked by then is said to be so."""
MAX_PAPERS = 2

# A model's input to the MeSH headings a clinician would look it up under; diagnoses are asked for by their own names.
_HEADINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "age": ("Age Factors", "Aged, 80 and over"),
        "sex": ("Sex Factors",),
        "heart_rate": ("Heart Rate", "Tachycardia"),
        "respiratory_rate": ("Respiratory Rate", "Respiratory Insufficiency"),
        "systolic_bp": ("Blood Pressure", "Hypotension"),
        "diastolic_bp": ("Blood Pressure", "Hypotension"),
        "mean_bp": ("Blood Pressure", "Hypotension"),
        "pulse_pressure": ("Blood Pressure",),
        "shock_index": ("Blood Pressure", "Shock"),
        "temperature": ("Fever", "Hypothermia"),
        "spo2": ("Anoxia", "Respiratory Insufficiency"),
        "pao2": ("Anoxia", "Respiratory Insufficiency"),
        "paco2": ("Hypercapnia", "Respiratory Insufficiency"),
        "fio2": ("Respiration, Artificial", "Respiratory Insufficiency"),
        "gcs": ("Glasgow Coma Scale", "Coma"),
        "weight": ("Body Weight", "Body Mass Index"),
        "height": ("Body Height",),
        "urine_output": ("Oliguria", "Acute Kidney Injury"),
        "sodium": ("Hyponatremia", "Hypernatremia"),
        "potassium": ("Potassium", "Hyperkalemia"),
        "bicarbonate": ("Acidosis",),
        "ph": ("Acidosis",),
        "bun": ("Blood Urea Nitrogen", "Renal Insufficiency"),
        "creatinine": ("Creatinine", "Renal Insufficiency"),
        "bun_creatinine": ("Blood Urea Nitrogen", "Creatinine"),
        "glucose": ("Blood Glucose", "Hyperglycemia"),
        "hba1c": ("Hemoglobin A, Glycosylated", "Blood Glucose"),
        "albumin": ("Serum Albumin", "Hypoalbuminemia"),
        "bilirubin": ("Bilirubin", "Hyperbilirubinemia"),
        "alt": ("Alanine Transaminase",),
        "ast": ("Aspartate Aminotransferases",),
        "lactate": ("Lactic Acid", "Acidosis, Lactic"),
        "troponin": ("Troponin",),
        "bnp": ("Natriuretic Peptide, Brain",),
        "hemoglobin": ("Anemia", "Hemoglobins"),
        "hematocrit": ("Anemia", "Hematocrit"),
        "wbc": ("Leukocyte Count", "Leukocytosis"),
        "platelets": ("Platelet Count", "Thrombocytopenia"),
        "inr": ("International Normalized Ratio",),
        "medication": ("Polypharmacy",),
        "condition": ("Comorbidity",),
        "procedure": ("Surgical Procedures, Operative",),
        "length_of_stay": ("Length of Stay",),
        "earlier_stay": ("Patient Readmission", "Hospitalization"),
        "inpatient_stay": ("Patient Readmission", "Hospitalization"),
        "emergency_visit": ("Emergency Service, Hospital",),
        "outpatient_visit": ("Ambulatory Care",),
        "discharged_to": ("Patient Discharge", "Skilled Nursing Facilities"),
    }
)


def papers_behind(driver: Driver, task: str, pipeline: Pipeline, until: float) -> tuple[Reading, ...] | None:
    """At most two papers whose heading is this driver's; None where time (of `time.monotonic()`) was up before."""
    if time.monotonic() > until:
        return None
    words = _HEADINGS.get(driver.concept) or (driver.label,)
    found = pipeline.evidence_on(words, task)[:MAX_PAPERS]
    return tuple(reading(item, [TASKS[task].title]) for item in found)
