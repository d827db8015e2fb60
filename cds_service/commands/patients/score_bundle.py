"""`riskcards score --provenance`: an estimate with all it was made by and from, as one Bundle."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from risk_model import Assessment, ModelCard, risk_assessment
from risk_model.pipeline import ai_device, ai_provenance, model_card_document


def assessment_bundle(assessment: Assessment, card: ModelCard, recorded: datetime) -> dict[str, Any]:
    """Returns a collection of RiskAssessment, Provenance, Device and the CHAI model card, which reference each other.

    `recorded` is the time at which the Provenance is made.
    """
    estimate = assessment.estimate
    names = {kind: str(uuid.uuid4()) for kind in ("RiskAssessment", "Provenance", "Device", "DocumentReference")}
    at = {kind: f"{kind}/{name}" for kind, name in names.items()}
    made_by = {"reference": at["Device"], "display": f"riskcards: {estimate.model_id}"}
    assessed = {**risk_assessment(assessment), "id": names["RiskAssessment"], "performer": made_by}
    del assessed["contained"]
    resources = [
        assessed,
        ai_provenance(assessed, device=made_by, card=at["DocumentReference"], recorded=recorded.isoformat()),
        ai_device(estimate, card=at["DocumentReference"]),
        model_card_document(title=f"Model card of {estimate.model_id}", chai_xml=card.to_chai_xml()),
    ]
    entries = [
        {"fullUrl": f"urn:uuid:{names[kind]}", "resource": {**resource, "id": names[kind]}}
        for resource in resources
        for kind in (resource["resourceType"],)
    ]
    return {"resourceType": "Bundle", "type": "collection", "timestamp": recorded.isoformat(), "entry": entries}
