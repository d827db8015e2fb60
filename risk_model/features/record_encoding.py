"""A whole record as a vector: serialised, then encoded in chunks (Hegselmann et al., arXiv 2502.17403).

Encoders that take an instruction get the one for the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fhir_mapping import PatientRecord

PREFIX = "Given a patient's electronic healthcare record, find what answers the question"
QUESTION = f"{PREFIX}: how ill is the patient, and what will happen next?"
"""The instruction if there is no single task."""

QUESTIONS: Mapping[str, str] = {
    "long_stay": "will the patient stay in hospital for at least 7 days?",
    "readmission_30d": "will the patient be admitted to hospital again within 30 days?",
    "icu_transfer": "will the patient be moved to intensive care?",
    "in_hospital_mortality": "will the patient die in hospital?",
    "thrombocytopenia": "has the patient a low platelet count?",
    "hyperkalemia": "has the patient a high potassium?",
    "hypoglycemia": "has the patient a low blood glucose?",
    "hyponatremia": "has the patient a low sodium?",
    "anemia": "has the patient a low haemoglobin?",
    "new_hypertension": "will the patient be diagnosed with hypertension within a year?",
    "new_hyperlipidemia": "will the patient be diagnosed with hyperlipidaemia within a year?",
    "new_pancreatic_cancer": "will the patient be diagnosed with pancreatic cancer within a year?",
    "new_celiac": "will the patient be diagnosed with coeliac disease within a year?",
    "new_lupus": "will the patient be diagnosed with lupus within a year?",
    "new_acute_mi": "will the patient have a heart attack within a year?",
    "chest_xray": "what will the patient's next chest X-ray show?",
}

SERIALISERS: Mapping[str, Callable[[PatientRecord, int], str]] = {
    "codes": PatientRecord.to_codes,
    "markdown": PatientRecord.to_markdown,
}


def instruction_for(task: str) -> str:
    """Returns the instruction for a task.

    >>> instruction_for("hyponatremia").endswith("has the patient a low sodium?")
    True
    """
    return f"{PREFIX}: {QUESTIONS[task]}" if task in QUESTIONS else QUESTION
