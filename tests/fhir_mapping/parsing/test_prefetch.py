"""The resources of a prefetch, whether its Bundles came parsed or as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from fhir_mapping import InvalidInputError
from fhir_mapping.parsing import FhirPrefetch, unread

ENCOUNTER = {"resourceType": "Encounter", "id": "e", "status": "in-progress"}
LOCATION = {"resourceType": "Location", "id": "e"}
EXPECTED = {"encounter": "Encounter", "encounters": "Encounter"}


def as_parsed(bundle: dict[str, Any]) -> Any:
    return bundle


def as_bytes(bundle: dict[str, Any]) -> Any:
    return unread(orjson.dumps(bundle))


def searchset(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": each} for each in resources]}


@pytest.mark.parametrize("form", [as_parsed, as_bytes])
def test_an_encounter_is_found_alone_or_in_a_bundle(form: Callable[[dict[str, Any]], Any]) -> None:
    assert FhirPrefetch({"encounter": ENCOUNTER}, EXPECTED).encounter("e") == ENCOUNTER
    found = FhirPrefetch({"encounters": form(searchset(LOCATION, ENCOUNTER))}, EXPECTED)
    assert found.encounter("e") == ENCOUNTER, "and not the Location of the same id"
    assert found.encounter("other") is None
    assert found.encounter(None) is None


def test_each_encounter_is_decoded_once() -> None:
    prefetch = FhirPrefetch({"encounters": as_bytes(searchset(ENCOUNTER))}, EXPECTED)
    assert prefetch.encounter("e") is next(prefetch.encounters())
    assert prefetch.read("encounters").entries[0].elements is prefetch.encounter("e")
    assert prefetch.replace({"encounter": None}).encounter("e") is prefetch.encounter("e")


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        (None, True),
        ({}, True),
        ({"resourceType": "OperationOutcome"}, True),
        (LOCATION, True),
        ("text", True),
        (ENCOUNTER, False),
        (searchset(), False),
        (as_bytes(searchset()), False),
    ],
)
def test_a_value_is_missing_unless_it_is_a_bundle_or_of_the_expected_type(value: Any, missing: bool) -> None:
    assert FhirPrefetch({"encounters": value}, EXPECTED).is_missing("encounters") is missing


@pytest.mark.parametrize("value", ["x", 3, {"entry": "x"}, {"resourceType": "Bundle", "entry": "x"}])
def test_invalid_values_have_no_resources_and_are_refused_when_read(value: Any) -> None:
    prefetch = FhirPrefetch({"encounters": value}, EXPECTED)
    assert list(prefetch.resources("encounters")) == []
    with pytest.raises(InvalidInputError):
        prefetch.read("encounters")
