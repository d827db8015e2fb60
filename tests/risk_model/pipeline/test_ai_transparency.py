"""What we write as FHIR is marked as made by AI, as the guide AI Transparency on FHIR asks (hl7.fhir.uv.aitransparency).

The checks state the constraints of its profiles AI-Device, AI-ModelCard and AI-Provenance and of its extensions.
"""

from __future__ import annotations

import base64
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from click.testing import CliRunner
from fhir.resources.R4B import get_fhir_model_class

from cds_service.commands.patients.score import command
from tests.cds_service.commands.test_command_score import DISCHARGE, HOME

CHART = (str(HOME), "--encounter", "stay", *DISCHARGE)

GUIDE = "http://hl7.org/fhir/uv/aitransparency"
AIAST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST",
         "display": "Artificial Intelligence asserted"}  # fmt: skip


def codes(concepts: Any) -> set[tuple[str, str]]:
    listed = concepts if isinstance(concepts, list) else [concepts]
    return {(coding["system"], coding["code"]) for concept in listed for coding in concept["coding"]}


def check_device(device: dict[str, Any]) -> None:
    """AI-Device: `type` is exactly Artificial-Intelligence; kinds and model card are extensions."""
    get_fhir_model_class("Device").model_validate(device)
    assert codes(device["type"]) == {(f"{GUIDE}/CodeSystem/AIdeviceTypeCS", "Artificial-Intelligence")}
    kinds = [e for e in device["extension"] if e["url"] == f"{GUIDE}/StructureDefinition/aitransparency.AIKind"]
    assert kinds
    assert all(e["valueCodeableConcept"]["coding"][0]["code"] != "Artificial-Intelligence" for e in kinds)
    assert device["version"][0]["value"]
    assert device["identifier"]


def check_model_card(document: dict[str, Any]) -> None:
    """AI-ModelCard: `type` AIModelCard, one category a format, content of that format."""
    get_fhir_model_class("DocumentReference").model_validate(document)
    inputs = f"{GUIDE}/CodeSystem/AIinputsCS"
    assert codes(document["type"]) == {(inputs, "AIModelCard")}
    assert codes(document["category"]) == {(inputs, "AImodelCardCHAIformat")}
    (content,) = document["content"]
    assert content["attachment"]["contentType"] == "application/xml"
    assert ("url" in content["attachment"]) != ("data" in content["attachment"])


def check_provenance(made: dict[str, Any], device: dict[str, Any], card: dict[str, Any]) -> None:
    """AI-Provenance: reason AIAST, an agent with the role Artificial-Intelligence, the model card a derivation."""
    get_fhir_model_class("Provenance").model_validate(made)
    assert made["target"]
    assert made["reason"] == [{"coding": [AIAST]}]
    (agent,) = [a for a in made["agent"] if "role" in a]
    assert codes(agent["role"]) == {(f"{GUIDE}/CodeSystem/AIdeviceTypeCS", "Artificial-Intelligence")}
    assert agent["type"]
    assert agent["who"]["reference"] in {f"#{device['id']}", f"Device/{device['id']}"}
    cards = [e for e in made["entity"] if e["role"] == "derivation"]
    assert [e["what"]["reference"] for e in cards] in ([f"#{card['id']}"], [f"DocumentReference/{card['id']}"])
    (described,) = [e for e in device["extension"] if e["url"].endswith("modelCardDescription")]
    assert described["valueReference"] == cards[0]["what"]


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    result = CliRunner().invoke(command, [*CHART, "--provenance"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


def test_a_bundle_has_the_estimate_and_what_it_was_made_by_and_from(bundle: dict[str, Any]) -> None:
    get_fhir_model_class("Bundle").model_validate(bundle)
    assessed, made, device, card = (entry["resource"] for entry in bundle["entry"])
    check_device(device)
    check_model_card(card)
    check_provenance(made, device, card)
    assert made["target"] == [{"reference": f"RiskAssessment/{assessed['id']}"}]
    assert assessed["performer"]["reference"] == f"Device/{device['id']}"
    assert [e["what"] for e in made["entity"] if e["role"] == "source"] == assessed["basis"]
    content = ElementTree.fromstring(base64.b64decode(card["content"][0]["attachment"]["data"]))
    assert content.tag.endswith("AppliedModelCard")
    assert all(entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}" for entry in bundle["entry"])


def test_an_estimate_is_labelled_names_its_model_and_its_range() -> None:
    result = CliRunner().invoke(command, [*CHART, "--json"])
    assessed = orjson.loads(result.stdout)
    get_fhir_model_class("RiskAssessment").model_validate(assessed)
    assert assessed["meta"]["security"] == [AIAST]
    (device,) = assessed["contained"]
    check_device(device)
    assert assessed["performer"]["reference"] == f"#{device['id']}"
    (prediction,) = assessed["prediction"]
    (extension,) = prediction["extension"]
    assert extension["url"] == f"{GUIDE}/StructureDefinition/AIconfidence"
    low, high = (extension["valueRange"][end]["value"] for end in ("low", "high"))
    assert 0 <= low <= prediction["probabilityDecimal"] <= high <= 1


def test_a_folder_has_no_bundle(tmp_path: Any) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), "--out", str(tmp_path / "o.ndjson"), "--provenance"])
    assert (result.exit_code, "one patient" in result.output) == (2, True)
