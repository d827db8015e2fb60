"""An Assessment as a FHIR R4 RiskAssessment (https://hl7.org/fhir/R4/riskassessment.html).

An abstention is a RiskAssessment too: its prediction names the outcome and carries the reason instead of a probability.
"""

from __future__ import annotations

from typing import Any

from risk_model.core.values import Assessment, RiskEstimate
from risk_model.models.conformal import describe_prediction_set
from risk_model.pipeline.ai_transparency import AI_LABEL, DEVICE, ai_device, confidence

ABSTENTION_URL = "https://riskcards.example/fhir/StructureDefinition/abstention"


def risk_assessment(assessment: Assessment) -> dict[str, Any]:
    """Returns the resource as JSON-ready values; probabilities are decimals between 0 and 1.

    It is labelled as made by AI and contains the model as a Device (`ai_transparency`).
    """
    estimate = assessment.estimate
    task = estimate.asked
    resource: dict[str, Any] = {
        "resourceType": "RiskAssessment",
        "meta": dict(AI_LABEL),
        "contained": [ai_device(estimate)],
        "status": "final",
        "subject": {"reference": f"Patient/{estimate.subject_id}"},
        "occurrenceDateTime": estimate.prediction_time.isoformat(),
        "performer": {"reference": f"#{DEVICE}", "display": f"riskcards: {estimate.model_id}"},
        "method": {"text": f"{estimate.model_id} version {estimate.model_version}"},
        "code": {"text": f"{task.title} (label {task.label})"},
        "prediction": [_prediction(estimate)],
        "note": [{"text": line} for line in _notes(assessment)],
    }
    if estimate.stay and "#" not in estimate.stay:
        resource["encounter"] = {"reference": estimate.stay}
    basis = dict.fromkeys(s for driver in estimate.drivers for s in driver.sources if "#" not in s and "/" in s)
    if basis:
        resource["basis"] = [{"reference": source} for source in basis]
    return resource


def _prediction(estimate: RiskEstimate) -> dict[str, Any]:
    task = estimate.asked
    outcome: dict[str, Any] = {"text": task.title}
    if task.snomed is not None:
        code, display = task.snomed
        outcome["coding"] = [{"system": "http://snomed.info/sct", "code": code, "display": display}]
    if estimate.probability is None:
        reason = estimate.abstention
        said = f"{reason.code}: {reason.reason}" if reason else ""
        return {
            "outcome": outcome,
            "qualitativeRisk": {"text": "No estimate"},
            "rationale": said,
            "extension": [{"url": ABSTENTION_URL, "valueCode": reason.code if reason else "unknown"}],
        }
    answer: dict[str, Any] = {
        "outcome": outcome,
        "probabilityDecimal": round(estimate.probability, 4),
        "rationale": "; ".join(f"{d.label}: {d.value} ({d.contribution:+.2f} log-odds)" for d in estimate.drivers),
        "whenPeriod": {"start": estimate.prediction_time.isoformat()},
    }
    certainty = confidence(estimate)
    if certainty is not None:
        answer["extension"] = [certainty]
    if not answer["rationale"]:
        del answer["rationale"]
    if estimate.baseline:
        answer["relativeRisk"] = round(estimate.probability / estimate.baseline, 3)
    return answer


def _notes(assessment: Assessment) -> list[str]:
    estimate = assessment.estimate
    lines = []
    if estimate.interval is not None:
        lines.append(f"90 % interval {estimate.interval[0]:.3f} to {estimate.interval[1]:.3f}.")
    if estimate.prediction_set is not None:
        lines.append(describe_prediction_set(estimate.prediction_set))
    lines += estimate.cautions
    said = "" if estimate.voice is None else estimate.voice.in_words(estimate.reasons)
    lines += [said] if said else []
    lines += [counterfactual.in_words() for counterfactual in estimate.counterfactuals]
    if estimate.baseline is not None:
        lines.append(f"Rate in the population the model was fitted on: {estimate.baseline:.3f}.")
    for score in estimate.comparators:
        missing = f"; missing {', '.join(score.missing)}" if score.missing else ""
        risk = f"; published risk {score.expected_risk:.3f}" if score.expected_risk is not None else ""
        lines.append(f"{score.name} {score.in_words()}{risk}{missing} ({score.source}).")
    if estimate.gaps:
        lines.append("Not known: " + ", ".join(f"{gap.name} ({gap.reason})" for gap in estimate.gaps) + ".")
    lines += [f"PMID {item.pmid}: {item.title} ({item.citation})" for item in assessment.evidence]
    return lines
