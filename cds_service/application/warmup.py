"""Loads what the first request needs before a worker reports ready.

The encoder, the models' libraries and the vocabulary are loaded at first use. On a busy machine that takes seconds, and
the first request of a new worker would end in a 503.
"""

from __future__ import annotations

import base64
import logging

import orjson

from fhir_mapping import PatientRecord
from risk_model import Pipeline, RiskModelError

_LOG = logging.getLogger(__name__)
_NOTE = b"Assessment: heart failure with acute kidney injury. No pneumonia. Creatinine 2.1 mg/dL."
_SUBJECT = {"reference": "Patient/made-up"}
_BUNDLE = orjson.dumps(
    {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": resource}
            for resource in (
                {"resourceType": "Patient", "id": "made-up", "birthDate": "1950-01-01", "gender": "female"},
                {
                    "resourceType": "Encounter",
                    "id": "stay",
                    "status": "finished",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                    "subject": _SUBJECT,
                    "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-03T08:00:00Z"},
                },
                {
                    "resourceType": "DocumentReference",
                    "id": "note",
                    "status": "current",
                    "subject": _SUBJECT,
                    "date": "2020-01-02T08:00:00Z",
                    "content": [
                        {"attachment": {"contentType": "text/plain", "data": base64.b64encode(_NOTE).decode()}}
                    ],
                },
            )
        ],
    }
)


def warm(pipeline: Pipeline) -> None:
    """Assesses a made-up patient for each task. A failure is only logged: readiness reports it.

    No language model reads the made-up note: it would wait in the queue of patients' notes.
    """
    record, by_rules = PatientRecord.from_json(_BUNDLE), pipeline.by_rules()
    try:
        for task in by_rules.models:
            by_rules.assess(record, task)
    except (RiskModelError, OSError) as error:
        _LOG.warning("not warmed before the first request: %s", error.__class__.__name__)
    pipeline.index.encoder.encode([_NOTE.decode()])
