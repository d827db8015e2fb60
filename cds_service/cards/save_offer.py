"""The suggestion to save an estimate in the record: a FHIR R4 RiskAssessment and its Provenance.

Both are created together, so the Provenance references the RiskAssessment by the id in this card; a client that
assigns its own ids replaces it in both places.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cds_hooks import Action, Suggestion
from risk_model import TASKS, Assessment, risk_assessment

LABEL = "Save this risk assessment in the record"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def save_offer(assessments: Sequence[Assessment], card: str, public_url: str, recorded: datetime) -> Suggestion | None:
    """Returns one suggestion that creates both resources for every estimate; None without an estimate.

    `card` is the card's uuid, so that `riskcards replay` can recompute a saved estimate.
    """
    actions = [
        action
        for assessment in assessments
        if assessment.estimate.probability is not None
        for action in _actions(assessment, card, public_url, recorded)
    ]
    return Suggestion(LABEL, tuple(actions)) if actions else None


def _actions(assessment: Assessment, card: str, public_url: str, recorded: datetime) -> list[Action]:
    title = TASKS[assessment.estimate.task].title
    resource = {**risk_assessment(assessment), "id": str(uuid.uuid4())}
    made_by = provenance(resource, card, public_url, recorded)
    return [
        Action.create(f"RiskAssessment: {title}", resource),
        Action.create(f"Provenance of the RiskAssessment: {title}", made_by),
    ]


def provenance(assessed: dict[str, Any], card: str, public_url: str, recorded: datetime) -> dict[str, Any]:
    """FHIR R4 Provenance (https://hl7.org/fhir/R4/provenance.html) of a RiskAssessment that has an id."""
    sources = [{"role": "source", "what": basis} for basis in assessed.get("basis", ())]
    kept = {"identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{card}"}, "display": "Risk card"}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": f"RiskAssessment/{assessed['id']}"}],
        "occurredDateTime": assessed["occurrenceDateTime"],
        "recorded": recorded.isoformat(),
        "activity": {"coding": [{"system": _DATA_OPERATION, "code": "CREATE", "display": "create"}]},
        "agent": [
            {
                "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler", "display": "Assembler"}]},
                "who": {
                    "identifier": {"system": "urn:ietf:rfc:3986", "value": public_url.rstrip("/")},
                    "display": f"riskcards: {assessed['method']['text']}",
                },
            }
        ],
        "entity": [{"role": "source", "what": kept}, *sources],
    }
