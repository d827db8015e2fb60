"""Scores every patient of a folder with the service's pipeline, one RiskAssessment per line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson

from artifact_store import atomic_file
from fhir_mapping import FhirMappingError, SiteMap
from risk_model import Pipeline, risk_assessment
from risk_model.cohorts import FhirFolder
from risk_model.evaluation import Prediction, write_predictions


@dataclass
class Scored:
    """Counts of a run. `refused` is (patient or file, reason), so that nothing is skipped silently."""

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

    An abstention is a RiskAssessment with its reason. An unreadable patient is an OperationOutcome in its place; files
    that cannot be read and patients without a Patient are OperationOutcomes at the end. `predictions` is a parquet
    file to write the answers to as well, in the schema of meds-evaluation.
    """
    found = Scored()
    answers: list[Prediction] = []
    total = source.patient_count
    with atomic_file(out) as stream:

        def refuse(place: str, reason: str) -> None:
            found.refused.append((place, reason))
            stream.write(_line(_refusal(place, reason)))

        for number, patient in enumerate(source.patients(), start=1):
            try:
                record = patient.record(as_of, site_map)
            except FhirMappingError as error:
                refuse(f"Patient/{patient.subject_id}", str(error))
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
        for place, reason in not_read(source):
            refuse(place, reason)
    if predictions is not None:
        write_predictions(predictions, answers)
    return found


def not_read(source: FhirFolder) -> Iterator[tuple[str, str]]:
    """Yields place and reason of what was not read, once all patients were."""
    for fault in source.faults:
        yield fault.place, fault.reason
    for subject, resources in source.without_patient.items():
        yield f"Patient/{subject}", f"no Patient resource with this id; {resources} resources name it"


def _refusal(place: str, reason: str) -> dict[str, object]:
    issue = {"severity": "error", "code": "invalid", "diagnostics": reason, "expression": [place]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _line(resource: dict[str, object]) -> bytes:
    return orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE)
