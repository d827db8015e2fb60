"""Scores every patient of a folder with the service's pipeline, one RiskAssessment per line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson

from artifact_store import atomic_file
from fhir_mapping import FhirMappingError, PatientRecord, SiteMap
from risk_model import Pipeline, risk_assessment
from risk_model.cohorts import FhirFolder
from risk_model.evaluation import Prediction, write_predictions


@dataclass
class Scored:
    """Counts of a run. `refused` is (patient, reason), so that no patient is skipped silently."""

    answered: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)


def score_folder(
    pipeline: Pipeline,
    source: FhirFolder,
    task: str,
    out: Path,
    *,
    as_of: datetime | None = None,
    site_map: SiteMap | None = None,
    predictions: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Scored:
    """Writes `out` atomically (NDJSON, in the order of patient ids within the folder's shards).

    An abstention is a RiskAssessment with its reason. An unreadable patient is an
    OperationOutcome in its place. `predictions` is a parquet file to write the answers to as well, in the schema of
    meds-evaluation.
    """
    found = Scored()
    answers: list[Prediction] = []
    total = source.patient_count
    with atomic_file(out) as stream:
        for number, patient in enumerate(source.patients(), start=1):
            try:
                record = PatientRecord.from_resources(
                    patient.resources, patient.subject_id, as_of, not_fetched=source.not_fetched, site_map=site_map
                )
            except FhirMappingError as error:
                found.refused.append((patient.subject_id, str(error)))
                stream.write(_line(_refusal(patient.subject_id, str(error))))
            else:
                assessment = pipeline.assess(record, task)
                abstention = assessment.estimate.abstention
                if abstention is None and assessment.estimate.probability is not None:
                    found.answered += 1
                    answers.append(
                        Prediction(patient.subject_id, record.prediction_time, assessment.estimate.probability)
                    )
                elif abstention is not None:
                    found.abstained[abstention.code] += 1
                stream.write(_line(risk_assessment(assessment)))
            progress(number, total)
    if predictions is not None:
        write_predictions(predictions, answers)
    return found


def _refusal(subject: str, reason: str) -> dict[str, object]:
    issue = {"severity": "error", "code": "invalid", "diagnostics": reason, "expression": [f"Patient/{subject}"]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _line(resource: dict[str, object]) -> bytes:
    return orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE)
