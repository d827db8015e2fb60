"""A gateway with several allowed servers: each of them, and nothing between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cds_service.net.gateway import Gateway, GatewayError
from tests.cds_service.fhir_server import FhirServer, fhir_server
from tests.patience import PATIENT

PATIENT_P = {"resourceType": "Patient", "id": "p"}


@pytest.fixture
def servers() -> Iterator[tuple[FhirServer, FhirServer, FhirServer]]:
    with fhir_server() as one, fhir_server() as two, fhir_server() as three:
        yield one, two, three


def test_each_of_two_allowed_servers_is_read_and_no_third(
    servers: tuple[FhirServer, FhirServer, FhirServer],
) -> None:
    one, two, three = servers
    gateway = Gateway([one.url, two.url], PATIENT)
    for allowed in (one, two):
        allowed.answer("/fhir/Patient/p", PATIENT_P)
        assert gateway.allows(allowed.url)
        assert gateway.fetch(allowed.url, "Patient/p", "secret") == PATIENT_P
        assert allowed.asked == [("/fhir/Patient/p", "Bearer secret")]
    assert not gateway.allows(three.url)
    with pytest.raises(GatewayError, match="server-not-allowed"):
        gateway.fetch(three.url, "Patient/p", "secret")
    assert three.asked == []


def test_a_page_at_the_other_allowed_server_gets_no_token(
    servers: tuple[FhirServer, FhirServer, FhirServer],
) -> None:
    """A token is for the server of the request, not for all that are allowed."""
    one, two, _ = servers
    page = {"resourceType": "Bundle", "entry": [], "link": [{"relation": "next", "url": f"{two.url}/next"}]}
    one.answer("/fhir/Condition?patient=p", page)
    found = Gateway([one.url, two.url], PATIENT).fetch(one.url, "Condition?patient=p", "secret")
    assert found["link"]
    assert two.asked == []


@pytest.mark.parametrize(
    "allowed", [(), ("https://a.example/fhir",), ("https://a.example/fhir", "https://b.example/fhir")]
)
def test_nothing_is_allowed_that_is_not_listed(allowed: tuple[str, ...]) -> None:
    gateway = Gateway(allowed)
    for url in (
        "https://a.example/fhir",
        "https://b.example/fhir",
        "https://c.example/fhir",
        "https://a.example",
        "",
        None,
    ):
        assert gateway.allows(url) is (url in allowed)
