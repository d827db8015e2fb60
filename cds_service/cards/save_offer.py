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
from risk_model.pipeline import DEVICE, MODEL_CARD, ai_device, ai_provenance, model_card_document

LABEL = "Save this risk assessment in the record"


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
    made_by = provenance(assessment, resource, card, public_url, recorded)
    return [
        Action.create(f"RiskAssessment: {title}", resource),
        Action.create(f"Provenance of the RiskAssessment: {title}", made_by),
    ]


def provenance(
    assessment: Assessment, assessed: dict[str, Any], card: str, public_url: str, recorded: datetime
) -> dict[str, Any]:
    """FHIR R4 Provenance (https://hl7.org/fhir/R4/provenance.html) of a RiskAssessment that has an id.

    The model and its card are contained: a record that takes the Provenance needs no other resource of ours.
    """
    base, estimate = public_url.rstrip("/"), assessment.estimate
    kept = {"identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{card}"}, "display": "Risk card"}
    assembler = {
        "reference": f"#{DEVICE}",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": base},
        "display": f"riskcards: {assessed['method']['text']}",
    }
    made = ai_provenance(
        assessed,
        device=assembler,
        card=f"#{MODEL_CARD}",
        recorded=recorded.isoformat(),
        entities=({"role": "source", "what": kept},),
    )
    url = f"{base}/model-cards/{estimate.task}?format=chai-xml"
    contained = [
        ai_device(estimate, card=f"#{MODEL_CARD}"),
        model_card_document(title=f"Model card of {estimate.model_id}", url=url),
    ]
    return {**made, "contained": contained}
