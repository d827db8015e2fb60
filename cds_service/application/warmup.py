"""What a worker opens with its first request, opened before it says that it is ready.

The encoder, the models' libraries and the vocabulary are opened by whoever needs them first. On a busy machine that
takes seconds, and the first clinician of a fresh worker would be told to come again.
"""

from __future__ import annotations

import base64
import logging

import orjson

from fhir_mapping import PatientRecord
from risk_model import Pipeline, RiskModelError

_LOG = logging.getLogger(__name__)
_NOTE = b"Assessment: heart failure with acute kidney injury. No pneumonia. Creatinine 2.1 mg/dL."
_NOBODY = {"reference": "Patient/nobody"}
_BUNDLE = orjson.dumps(
    {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": resource}
            for resource in (
                {"resourceType": "Patient", "id": "nobody", "birthDate": "1950-01-01", "gender": "female"},
                {
                    "resourceType": "Encounter",
                    "id": "stay",
                    "status": "finished",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                    "subject": _NOBODY,
                    "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-03T08:00:00Z"},
                },
                {
                    "resourceType": "DocumentReference",
                    "id": "note",
                    "status": "current",
                    "subject": _NOBODY,
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
    """A made-up patient goes the whole way, once for each task. What goes wrong here is for readiness to tell.

    No language model is asked about nobody: the note would wait to be read among those of patients.
    """
    record, by_rules = PatientRecord.from_json(_BUNDLE), pipeline.by_rules()
    try:
        for task in by_rules.models:
            by_rules.assess(record, task)
    except (RiskModelError, OSError) as error:
        _LOG.warning("not warmed before the first request: %s", error.__class__.__name__)
    pipeline.index.encoder.encode([_NOTE.decode()])
