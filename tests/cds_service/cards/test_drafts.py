"""What a card offers: a site's own drafts from a file, and the offer to keep an estimate in the record."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from cds_service.application.factory import create_app
from cds_service.cards.drafts import BUILT_IN, KINDS, Draft, DraftContext, read_drafts
from cds_service.config.settings import SettingsError
from fhir_mapping import Coding, DefinitionError
from risk_model import Pipeline
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_valid_response
from tests.patience import patient_settings
from tests.risk_model.pipeline.test_ai_transparency import check_device, check_model_card, check_provenance

URL = "/cds-services/readmission-30d"
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"
PLACE = DraftContext("Patient/p1", "Encounter/e1", datetime(2026, 3, 1, 9, tzinfo=UTC))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.shipped()


def answered(pipeline: Pipeline, folder: Path, **settings: str) -> dict[str, Any]:
    low = "readmission-30d.readmission_30d=0.001"
    given = {"RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/s.db", "RISKCARDS_THRESHOLDS": low} | settings
    app = create_app(patient_settings(given), pipeline)
    answer = app.test_client().post(URL, json=whole_request("diabetic-heart-failure-discharge"))
    assert_valid_response(answer.get_json())
    card: dict[str, Any] = answer.get_json()["cards"][0]
    return card


def the_guides_example() -> str:
    return GUIDE.read_text("utf-8").split("## Suggestions")[1].split("```yaml\n")[1].split("```")[0]


def test_a_sites_own_drafts_are_offered(pipeline: Pipeline, tmp_path: Path) -> None:
    """The example of the guide is the test."""
    file = tmp_path / "suggestions.yaml"
    file.write_text(the_guides_example(), "utf-8")
    card = answered(pipeline, tmp_path, RISKCARDS_SUGGESTIONS=str(file))
    assert [s["label"] for s in card["suggestions"]] == [
        "Book the transition clinic within a week",
        "Home health nursing referral",
    ]
    visit, nursing = (s["actions"][0]["resource"] for s in card["suggestions"])
    assert (visit["resourceType"], visit["status"], visit["priority"]) == ("Appointment", "proposed", 3)
    assert visit["participant"] == [{"actor": {"reference": "Patient/walter"}, "status": "needs-action"}]
    assert (nursing["status"], nursing["intent"]) == ("draft", "proposal")
    assert nursing["subject"] == {"reference": "Patient/walter"}
    assert nursing["encounter"]["reference"].startswith("Encounter/")
    assert nursing["code"]["coding"][0]["code"] == "HH-RN"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encounter", ["Encounter/e1", None])
@pytest.mark.parametrize("full", [True, False])
def test_every_kind_is_a_valid_resource_with_everything_and_with_nothing(
    kind: str, encounter: str | None, full: bool
) -> None:
    more: dict[str, Any] = (
        {"code": Coding("http://snomed.info/sct", "390906007"), "text": "Soon", "priority": "stat"} if full else {}
    )
    resource = Draft("Visit", kind, 7, **more).resource(DraftContext("Patient/p1", encounter, PLACE.moment))
    get_fhir_model_class(kind).model_validate(resource)
    assert ("Encounter/e1" in json.dumps(resource)) is (encounter is not None)
    assert "2026-03-08" in json.dumps(resource)


def test_a_task_that_is_not_named_keeps_ours_and_an_empty_list_offers_nothing(tmp_path: Path) -> None:
    file = tmp_path / "suggestions.json"
    file.write_text('{"readmission_30d": []}')
    found = read_drafts(file)
    assert found["readmission_30d"] == ()
    assert found["in_hospital_mortality"] == BUILT_IN["in_hospital_mortality"]


FAULTY = [
    ("readmision_30d: []", "readmision_30d: unknown field"),
    ("readmission_30d: {}", "readmission_30d: expected a list"),
    ("readmission_30d: [visit]", r"readmission_30d\[0\]: expected a mapping"),
    ("readmission_30d: [{kind: Task}]", r"readmission_30d\[0\].label: is missing"),
    ("readmission_30d: [{label: a}, {label: ' '}]", r"readmission_30d\[1\].label: is empty"),
    ("readmission_30d: [{label: a, kind: MedicationRequest}]", r"\[0\].kind: .* none of Task, ServiceRequest"),
    ("readmission_30d: [{label: a, days: soon}]", r"\[0\].days: expected a whole number"),
    ("readmission_30d: [{label: a, days: -1}]", r"\[0\].days: expected 0 to 365"),
    ("readmission_30d: [{label: a, priority: high}]", r"\[0\].priority: 'high' is none of routine"),
    ("readmission_30d: [{label: a, code: {code: x}}]", r"\[0\].code.system: is missing"),
    (
        "readmission_30d: [{label: a, code: {system: s, code: 'two  words '}}]",
        r"\[0\]: not a valid FHIR R4 Task: Task.code",
    ),
    ("readmission_30d: [{label: a, owner: me}]", r"\[0\].owner: unknown field"),
    (f"readmission_30d: [{{label: {'a' * 101}}}]", r"\[0\].label: longer than 100"),
    ("readmission_30d: [" + "{label: a}," * 11 + "]", "readmission_30d: 11 drafts"),
    ("a: b: c", "line 1"),
]


@pytest.mark.parametrize(("text", "said"), FAULTY, ids=[said for _, said in FAULTY])
def test_an_invalid_suggestions_file_names_the_field_and_stops_startup(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "suggestions.yaml"
    file.write_text(text)
    with pytest.raises(DefinitionError, match=rf"suggestions.yaml: .*{said}"):
        read_drafts(file)
    with pytest.raises(SettingsError, match="RISKCARDS_SUGGESTIONS"):
        patient_settings({"RISKCARDS_SUGGESTIONS": str(file)})


def test_a_file_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        patient_settings({"RISKCARDS_SUGGESTIONS": "/nowhere/suggestions.yaml"})


def test_an_estimate_is_offered_for_the_record_with_its_provenance(pipeline: Pipeline, tmp_path: Path) -> None:
    card = answered(pipeline, tmp_path, RISKCARDS_OFFER_RISK_ASSESSMENT="yes")
    offer = card["suggestions"][-1]
    assert offer["label"] == "Save this risk assessment in the record"
    assessed, proof = (action["resource"] for action in offer["actions"])
    get_fhir_model_class("RiskAssessment").model_validate(assessed)
    get_fhir_model_class("Provenance").model_validate(proof)
    assert proof["target"] == [{"reference": f"RiskAssessment/{assessed['id']}"}]
    assert proof["entity"][0]["what"]["identifier"]["value"] == f"urn:uuid:{card['uuid']}"
    assert [item["what"] for item in proof["entity"][1:-1]] == assessed["basis"]
    device, model_card = proof["contained"]
    check_device(device)
    check_model_card(model_card)
    check_provenance(proof, device, model_card)
    assert model_card["content"][0]["attachment"]["url"].endswith("/model-cards/readmission_30d?format=chai-xml")
    assert assessed["prediction"][0]["probabilityDecimal"] > 0


def test_every_resource_of_a_card_is_labelled_as_asserted_by_ai(pipeline: Pipeline, tmp_path: Path) -> None:
    card = answered(pipeline, tmp_path, RISKCARDS_OFFER_RISK_ASSESSMENT="yes")
    resources = [action["resource"] for offer in card["suggestions"] for action in offer["actions"]]
    assert len(resources) >= 3
    for resource in resources:
        assert [label["code"] for label in resource["meta"]["security"]] == ["AIAST"]


def test_nothing_is_offered_for_the_record_unless_asked_for(pipeline: Pipeline, tmp_path: Path) -> None:
    card = answered(pipeline, tmp_path)
    assert [s["label"] for s in card["suggestions"]] == [draft.label for draft in BUILT_IN["readmission_30d"]]


def test_an_abstention_is_not_offered_for_the_record(pipeline: Pipeline, tmp_path: Path) -> None:
    app = create_app(
        patient_settings(
            {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/s.db", "RISKCARDS_OFFER_RISK_ASSESSMENT": "yes"}
        ),
        pipeline,
    )
    request = whole_request("diabetic-heart-failure-discharge")
    request["prefetch"]["patient"]["birthDate"] = "2015-01-01"
    card = app.test_client().post(URL, json=request).get_json()["cards"][0]
    assert "suggestions" not in card
