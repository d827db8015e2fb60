"""The rules of CDS Hooks as assertions over JSON, for every test that reads an answer."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import urlsplit

from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.operationoutcome import OperationOutcome

ALLOWED_PARAMETERS = {"patient", "category", "_sort", "_count"}
TOKEN = re.compile(r"\{\{(.+?)\}\}")


def assert_nothing_empty(value: Any, path: str = "$") -> None:
    """No null, "", [] or {} anywhere, except `services` and `cards` (CDS-1)."""
    if isinstance(value, dict):
        assert value, f"{path} is an empty object"
        for name, item in value.items():
            if item == [] and name in {"services", "cards"}:
                continue
            assert_nothing_empty(item, f"{path}.{name}")
    elif isinstance(value, list):
        assert value, f"{path} is an empty array"
        for number, item in enumerate(value):
            assert_nothing_empty(item, f"{path}[{number}]")
    else:
        assert value is not None, f"{path} is null"
        assert value != "", f"{path} is empty"


def assert_valid_discovery(body: Any) -> None:
    assert_nothing_empty(body)
    ids = [service["id"] for service in body["services"]]
    assert len(ids) == len(set(ids))
    for service in body["services"]:
        assert {"hook", "description", "id", "title", "version", "hookVersion"} <= service.keys()
        for template in service["prefetch"].values():
            assert_valid_template(template)


def assert_valid_template(template: str) -> None:
    assert all(token.startswith("context.") for token in TOKEN.findall(template)), template
    _, _, query = template.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&") if pair]
    assert set(names) <= ALLOWED_PARAMETERS, template
    assert len(names) == len(set(names)), template


def assert_valid_response(body: Any) -> None:
    assert set(body) == {"cards"}
    assert_nothing_empty(body)
    for card in body["cards"]:
        assert_valid_card(card)


def assert_valid_card(card: dict[str, Any]) -> None:
    uuid.UUID(card["uuid"])
    assert len(card["summary"]) < 140
    assert "\n" not in card["summary"]
    assert card["indicator"] in {"info", "warning", "critical"}
    assert card["source"]["label"]
    assert urlsplit(card["source"].get("url", "https:")).scheme in {"http", "https"}
    detail = card.get("detail", "")
    assert "<" not in re.sub(r"\\<", "", detail), "raw HTML in the detail"
    assert "![" not in detail, "an image in the detail"
    for link in card.get("links", ()):
        assert link["label"]
        assert link["type"] in {"absolute", "smart"}
        assert "appContext" not in link or link["type"] == "smart"
        assert urlsplit(link["url"]).scheme in {"http", "https"}
    for reason in card.get("overrideReasons", ()):
        assert {"code", "system", "display"} <= reason.keys()
    if card.get("suggestions"):
        assert card["selectionBehavior"] in {"any", "at-most-one"}
    for suggestion in card.get("suggestions", ()):
        uuid.UUID(suggestion["uuid"])
        assert suggestion["label"]
        for action in suggestion["actions"]:
            assert action["type"] in {"create", "update", "delete"}
            assert action["description"]
            get_fhir_model_class(action["resource"]["resourceType"]).model_validate(action["resource"])


def assert_outcome(response: Any, status: int) -> str:
    """The diagnostics of an answer, which must be an OperationOutcome with this status."""
    assert response.status_code == status, response.get_data(as_text=True)[:500]
    body = response.get_json()
    OperationOutcome.model_validate(body)
    return str(body["issue"][0]["diagnostics"])
