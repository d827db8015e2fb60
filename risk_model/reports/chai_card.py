"""Renders a model card as a CHAI applied model card (https://mc.chai.org), schema v0.2 or v0.1.

The elements and their order are the schema's; the texts are the card's own 31 attributes, each in the place that asks
for it. Where the schema asks for something the card does not state, the element says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as Xml

Attributes = Mapping[str, Mapping[str, str]]
VERSIONS = ("v0.2", "v0.1")
"""The schema versions, newest first."""
_NOT_STATED = "Not stated."
_GOALS = {
    "UsefulnessUsabilityEfficacy": "To tell apart patients with and without the outcome, with probabilities that agree "
    "with the rates observed.",
    "FairnessEquity": "To do so equally well in the groups that age, sex and recorded race tell apart.",
    "SafetyReliability": "To keep its promises: 90 % prediction sets that hold the truth, and an abstention where it "
    "must not answer.",
}


def chai_xml(attributes: Attributes, *, model_id: str, version: str, title: str, schema: str = VERSIONS[0]) -> str:
    """Returns the XML document. Raises ValueError for an unknown schema version.

    `attributes` is group -> attribute -> text, as `ModelCard.attributes`.
    """
    if schema not in VERSIONS:
        raise ValueError(f"CHAI schema {schema!r}: known are {', '.join(VERSIONS)}")
    namespace = f"https://mc.chai.org/{schema}/schema.xsd"
    Xml.register_namespace("", namespace)
    root = Xml.Element(f"{{{namespace}}}AppliedModelCard")
    _fill(root, namespace, _content(attributes, model_id, version, title, schema))
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _fill(parent: Xml.Element, namespace: str, content: Mapping[str, Any]) -> None:
    for name, value in content.items():
        for item in value if isinstance(value, list) else [value]:
            element = Xml.SubElement(parent, f"{{{namespace}}}{name}")
            if isinstance(item, Mapping):
                _fill(element, namespace, item)
            else:
                element.text = item or _NOT_STATED


def _content(card: Attributes, model_id: str, version: str, title: str, schema: str) -> dict[str, Any]:
    details, purpose, cautions = card["details"], card["purpose"], card["cautions"]
    development, fairness, upkeep = card["development"], card["fairness"], card["maintenance"]
    return {
        "BasicInfo": {
            "ModelName": f"{title} ({model_id})",
            "ModelDeveloper": details["developer"],
            "DeveloperContact": "The organisation that runs this service.",
        },
        "ReleaseInfo": {
            "ReleaseStage": "For evaluation; see the known risks.",
            "ReleaseDate": _NOT_STATED,
            "ReleaseVersion": version,
            "GlobalAvailability": "Where the organisation that runs this service has validated it.",
        },
        "ModelSummary": {
            "Summary": f"{details['output_value']} {purpose['intended_use']}",
            "Keywords": {"Keyword": [title, "risk prediction", "clinical decision support"]},
        },
        "UsesAndDirections": {
            "IntendedUseAndWorkflow": f"{purpose['intended_use']} {purpose['decision_role']}",
            "PrimaryIntendedUsers": purpose["intended_users"],
            "HowToUse": purpose["decision_role"],
            "TargetedPatientPopulation": purpose["intended_population"],
            "CautionedOutOfScopeSettings": cautions["out_of_scope"],
        },
        "Warnings": {
            "KnownRisksAndLimitations": cautions["known_risks"],
            "KnownBiasesOrEthicalConsiderations": f"{fairness['fairness_approach']} {fairness['bias_mitigation']}",
            "ClinicalRiskLevel": purpose["decision_role"],
        },
        "TrustIngredients": {
            "AISystemFacts": {
                "OutcomesAndOutputs": details["output_value"],
                "ModelType": details["output_type"],
                "InputDataSource": development["relevance"],
                "OutputAndInputDataTypes": f"{details['output_type']} {development['demographic_and_social_inputs']}",
                "DevelopmentDataCharacterization": (
                    f"{development['inclusion_exclusion']} {development['representativeness']}"
                ),
                "BiasMitigationApproaches": fairness["bias_mitigation"],
                "OngoingMaintenance": (
                    f"{upkeep['validity_monitoring']} {upkeep['local_validity']} {upkeep['fairness_monitoring']} "
                    f"{upkeep['local_fairness']} {card['updates']['update_process']} "
                    f"{card['updates']['correction_frequency']}"
                ),
            },
            "TransparencyInformation": {"FundingSource": details["funding"], "StakeholdersConsulted": _NOT_STATED},
        },
        "KeyMetrics": {name: _metric(card, name, goal, schema) for name, goal in _GOALS.items()},
        "Resources": {
            "PeerReviewedPublications": "None of this model.",
            "PatientConsentOrDisclosure": "To be settled by the organisation that runs this service.",
        },
        "Bibliography": "Sources of scores and methods are named in the documentation of riskcards.",
    }


def _metric(card: Attributes, name: str, goal: str, schema: str) -> dict[str, Any]:
    performance, external = card["performance"], card["external_validation"]
    internal = "internal_fairness" if name == "FairnessEquity" else "internal_validity"
    outside = "external_fairness" if name == "FairnessEquity" else "external_validity"
    results = [("Internal", performance[internal]), ("External", performance[outside])]
    if name == "SafetyReliability":
        results.append(("Effect on care", performance["outcome_evaluations"]))
    made: dict[str, Any] = {"MetricGoal": goal}
    if schema == "v0.1":
        made["Result"] = " ".join(f"{label}: {text}" for label, text in results)
    else:
        listed = [{"Label": label, "ValueJson": json.dumps(text, ensure_ascii=False)} for label, text in results]
        made["Results"] = {"MetricResult": listed}
    patients = f"{card['development']['representativeness']} {external['tested_representativeness']}"
    return made | {
        "Interpretation": performance["outcome_evaluations"],
        "TestType": f"Internal validation. External: {external['data']}",
        "TestingDataDescription": patients,
        "ValidationProcessAndJustification": f"{external['process']} Tested by: {external['tester']}",
    }
