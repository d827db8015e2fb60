"""The Locations of a stay are read with the hook's token at its server only; malformed encounters are no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.application.factory import create_app
from cds_service.hooks.locations import lacks_locations, newest_first
from fhir_mapping.parsing import FhirPrefetch
from tests.cds_service.fhir_server import FhirServer
from tests.contract.conftest import whole_request
from tests.patience import patient_settings

PLACE = [{"location": {"reference": "Location/icu"}}]
WARD = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}
HOOK = "/cds-services/in-hospital-mortality"


@pytest.fixture
def client(fhir: FhirServer, tmp_path: Path) -> Iterator[FlaskClient]:
    env = {
        "RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/places.db",
        "RISKCARDS_FHIR_SERVERS": fhir.url,
        "RISKCARDS_PRIVATE_NETWORKS": "127.0.0.0/8",
        "RISKCARDS_DEADLINE_SECONDS": "60",
    }
    app = create_app(patient_settings(env))
    yield app.test_client()
    app.extensions["riskcards"].store.close()


@pytest.fixture
def request_body() -> dict[str, Any]:
    """The stay of the example, in a bed of an intensive care unit, which only the Location says."""
    body = whole_request("sepsis-icu-first-day")
    for stay in stays(body):
        stay.pop("type", None)
        stay["location"] = [{"location": {"reference": "Location/bed"}, "period": {"start": stay["period"]["start"]}}]
    return body


def stays(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every copy of the encounter in a request."""
    return [*(entry["resource"] for entry in body["prefetch"]["encounters"]["entry"]), body["prefetch"]["encounter"]]


def summary(client: FlaskClient, body: dict[str, Any]) -> str:
    answer = client.post(HOOK, json=body)
    assert answer.status_code == 200
    return str(answer.get_json()["cards"][0]["summary"])


def places(fhir: FhirServer) -> None:
    bed = {"resourceType": "Location", "id": "bed", "partOf": {"reference": f"{fhir.url}/Location/unit"}}
    fhir.answer("/fhir/Location/bed", bed)
    fhir.answer("/fhir/Location/unit", {"resourceType": "Location", "id": "unit", "type": [{"coding": [WARD]}]})


def test_the_locations_of_a_stay_are_read_with_the_hooks_token(
    client: FlaskClient, fhir: FhirServer, request_body: dict[str, Any]
) -> None:
    places(fhir)
    assert "%" not in summary(client, request_body), "no token, so no Location may be read"
    assert fhir.asked == []
    grant = {"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "scope": "user/*.rs", "subject": "s"}
    allowed = request_body | {"fhirServer": fhir.url, "fhirAuthorization": grant}
    assert "%" in summary(client, allowed), "the same prefetch, less than a minute later, with a token"
    asked = [path for path, _ in fhir.asked]
    assert asked == ["/fhir/Location/bed", "/fhir/Location/unit"]
    assert {token for _, token in fhir.asked} == {"Bearer secret"}
    assert "%" in summary(client, allowed)
    assert [path for path, _ in fhir.asked] == asked, "cached: not fetched again within the minute"


def test_an_unreadable_location_stays_unknown(
    client: FlaskClient, fhir: FhirServer, request_body: dict[str, Any]
) -> None:
    grant = {"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "scope": "user/*.rs", "subject": "s"}
    allowed = request_body | {"fhirServer": fhir.url, "fhirAuthorization": grant}
    assert "%" not in summary(client, allowed)
    places(fhir)
    assert "%" in summary(client, allowed), "what may still come is asked for anew"


def test_location_loops_and_foreign_references_are_not_followed(
    client: FlaskClient, fhir: FhirServer, request_body: dict[str, Any]
) -> None:
    for stay in [
        *(e["resource"] for e in request_body["prefetch"]["encounters"]["entry"]),
        request_body["prefetch"]["encounter"],
    ]:
        stay["location"] = [
            {"location": {"reference": reference}}
            for reference in ("Location/bed", "Location/../Patient/x", "https://evil.example/x", "Group/g", None)
        ]
    fhir.answer(
        "/fhir/Location/bed", {"resourceType": "Location", "id": "bed", "partOf": {"reference": "Location/bed"}}
    )
    grant = {"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "scope": "user/*.rs", "subject": "s"}
    assert "%" not in summary(client, request_body | {"fhirServer": fhir.url, "fhirAuthorization": grant})
    assert [path for path, _ in fhir.asked if path != "/fhir/Location/x"] == ["/fhir/Location/bed"]


@pytest.mark.parametrize(
    ("changed", "lacks"),
    [
        ({}, True),
        ({"period": []}, True),
        ({"period": "2026"}, True),
        ({"period": {"start": ["2026"]}}, True),
        ({"id": {"a": None}}, True),
        ({"id": []}, True),
        ({"partOf": ["Encounter/e"]}, True),
        ({"partOf": {"reference": 5}}, True),
        ({"location": {"location": {"reference": "Location/icu"}}}, False),
        ({"location": [None, 1, "Location/icu"]}, False),
        ({"location": [{"location": "Location/icu"}]}, False),
        ({"location": [{"location": {"reference": "Location/.."}}]}, False),
        ({"location": [{"location": {"reference": "Location/a/b?x"}}]}, False),
    ],
)
def test_malformed_encounters_may_lack_a_location(changed: dict[str, Any], lacks: bool) -> None:
    """A period that was a list once caused a 500."""
    encounter = {"resourceType": "Encounter", "id": "e", "location": PLACE, "period": {"start": "2026-01-01"}} | changed
    bundle = {"resourceType": "Bundle", "entry": [{"resource": encounter}]}
    assert lacks_locations(FhirPrefetch({"encounters": bundle}, {"encounters": "Encounter"}), "e") is lacks


def test_stays_without_a_start_come_last() -> None:
    stays: list[dict[str, Any]] = [{"id": "a"}, {"id": "b", "period": {"start": "2025"}}, {"id": "c", "period": {}}]
    stays.append({"id": "d", "period": {"start": "2026"}})
    assert [stay["id"] for stay in newest_first(stays)] == ["d", "b", "a", "c"]
