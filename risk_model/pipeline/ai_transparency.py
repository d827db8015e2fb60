"""Marks what we write as made by AI, by HL7's guide AI Transparency on FHIR.

hl7.fhir.uv.aitransparency, R4, ballot of January 2026; https://hl7.org/fhir/uv/aitransparency.

| of the guide | here |
|---|---|
| security label `AIAST` | `meta.security` of every resource a card or command offers |
| AI Device | `ai_device`: model, version, kinds of AI; contained where nothing else would hold it |
| AI Model-Card DocumentReference | `model_card_document`: the CHAI model card, attached or by its URL |
| AI Provenance | `ai_provenance`: model as agent, the resources used and the model card as entities |
| AI Confidence as a range | `confidence` of the prediction: the 90 % interval of the probability |
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from risk_model.core.values import RiskEstimate

GUIDE = "http://hl7.org/fhir/uv/aitransparency"
ASSERTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
AI_LABEL: Mapping[str, Any] = {"security": [ASSERTED]}
"""`meta` of a resource that AI made."""
DEVICE, MODEL_CARD = "risk-model", "model-card"
"""Ids of contained resources."""
_DEVICE_TYPES = f"{GUIDE}/CodeSystem/AIdeviceTypeCS"
_INPUT_TYPES = f"{GUIDE}/CodeSystem/AIinputsCS"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_AI = {"system": _DEVICE_TYPES, "code": "Artificial-Intelligence", "display": "All kinds of Artificial Intelligence"}
_KINDS = {
    "Machine-Learning-Models": "Machine Learning Models",
    "Hybrid-Models": "Hybrid Models",
    "Large-Language-Models": "Large Language Models",
    "Clinical-Monitoring-and-Early-Warning": "Clinical Monitoring and Early Warning",
    "AI-for-Structured-Clinical-Data": "Structured Clinical Data",
    "AI-for-Medical-Text-Data": "AI for Medical Text Data",
}


def ai_device(estimate: RiskEstimate, *, card: str | None = None) -> dict[str, Any]:
    """Returns the model as Device of profile AI-Device; `card` is the reference to its model card."""
    extensions: list[dict[str, Any]] = [
        {
            "url": f"{GUIDE}/StructureDefinition/aitransparency.AIKind",
            "valueCodeableConcept": {"coding": [{"system": _DEVICE_TYPES, "code": kind, "display": _KINDS[kind]}]},
        }
        for kind in _kinds(estimate)
    ]
    if card is not None:
        url = f"{GUIDE}/StructureDefinition/aitransparency.modelCardDescription"
        extensions.append({"url": url, "valueReference": {"reference": card}})
    return {
        "resourceType": "Device",
        "id": DEVICE,
        "extension": extensions,
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:riskcards:model:{estimate.model_id}"}],
        "status": "active",
        "deviceName": [{"name": estimate.model_id, "type": "model-name"}],
        "type": {"coding": [_AI]},
        "version": [{"value": estimate.model_version}],
    }


def _kinds(estimate: RiskEstimate) -> tuple[str, ...]:
    common = ("Clinical-Monitoring-and-Early-Warning", "AI-for-Structured-Clinical-Data")
    if estimate.voice is None:
        return ("Machine-Learning-Models", *common)
    return ("Hybrid-Models", "Large-Language-Models", *common, "AI-for-Medical-Text-Data")


def model_card_document(*, title: str, url: str | None = None, chai_xml: str | None = None) -> dict[str, Any]:
    """Returns the model card as DocumentReference of profile AI-ModelCard, by its URL or with the CHAI XML attached."""
    attachment: dict[str, Any] = {"contentType": "application/xml", "title": title}
    if url is not None:
        attachment["url"] = url
    if chai_xml is not None:
        attachment["data"] = base64.b64encode(chai_xml.encode()).decode()
    coded = {"system": _INPUT_TYPES, "code": "AIModelCard", "display": "AI Model-Card"}
    form = {"system": _INPUT_TYPES, "code": "AImodelCardCHAIformat", "display": "CHAI Format"}
    return {
        "resourceType": "DocumentReference",
        "id": MODEL_CARD,
        "status": "current",
        "type": {"coding": [coded]},
        "category": [{"coding": [form]}],
        "content": [{"attachment": attachment}],
    }


def confidence(estimate: RiskEstimate) -> dict[str, Any] | None:
    """Returns the extension AI Confidence with the 90 % interval of the probability; None without one."""
    if estimate.interval is None:
        return None
    low, high = (
        {"value": round(value, 4), "unit": "probability", "system": "http://unitsofmeasure.org", "code": "1"}
        for value in estimate.interval
    )
    return {"url": f"{GUIDE}/StructureDefinition/AIconfidence", "valueRange": {"low": low, "high": high}}


def ai_provenance(
    assessed: Mapping[str, Any],
    *,
    device: Mapping[str, Any],
    card: str,
    recorded: str,
    entities: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """Returns the Provenance, of profile AI-Provenance, of a RiskAssessment that has an id.

    `device` is the reference to the AI Device, `card` that to the model card. The entities are those given, then the
    resources that the estimate rests on, then the model card.
    """
    sources = [{"role": "source", "what": basis} for basis in assessed.get("basis", ())]
    return {
        "resourceType": "Provenance",
        "meta": dict(AI_LABEL),
        "target": [{"reference": f"RiskAssessment/{assessed['id']}"}],
        "occurredDateTime": assessed["occurrenceDateTime"],
        "recorded": recorded,
        "reason": [{"coding": [ASSERTED]}],
        "activity": {"coding": [{"system": _DATA_OPERATION, "code": "CREATE", "display": "create"}]},
        "agent": [
            {
                "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler", "display": "Assembler"}]},
                "role": [{"coding": [_AI]}],
                "who": dict(device),
            }
        ],
        "entity": [*map(dict, entities), *sources, {"role": "derivation", "what": {"reference": card}}],
    }
