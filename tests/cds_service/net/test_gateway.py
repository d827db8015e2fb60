"""The gateway against a real local server that misbehaves: redirects, foreign pages, slow and huge answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cds_service.application.factory import create_app
from cds_service.hooks.full_chart import fetch_patient_resources
from cds_service.net.gateway import MAX_FETCHED, Gateway, GatewayError, _joined, _Origin
from tests.cds_service.fhir_server import FhirServer, fhir_server
from tests.contract.conftest import whole_request
from tests.contract.rules import assert_outcome, assert_valid_response
from tests.end_to_end.golden import make_app
from tests.patience import PATIENT, patient_settings


@pytest.fixture
def other() -> Iterator[FhirServer]:
    with fhir_server() as state:
        yield state


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://ehr.example/fhir", True),
        ("https://ehr.example/fhir/", True),
        ("https://EHR.example:443/fhir", True),
        ("http://ehr.example/fhir", False),
        ("https://ehr.example:8443/fhir", False),
        ("https://ehr.example/fhir-evil", False),
        ("https://ehr.example.evil.example/fhir", False),
        ("https://ehr.example@evil.example/fhir", False),
        ("https://ehr.example/fhir/../admin", False),
        ("file:///etc/passwd", False),
        ("", False),
        (None, False),
    ],
)
def test_only_servers_on_the_list_are_allowed(url: str | None, allowed: bool) -> None:
    assert Gateway(["https://ehr.example/fhir"]).allows(url) is allowed


def test_pages_of_a_search_come_back_as_one(fhir: FhirServer) -> None:
    entry = {"resource": {"resourceType": "Condition", "id": "1"}}
    following = [{"relation": "next", "url": f"{fhir.url}/page2"}]
    fhir.answer("/fhir/Condition?patient=p", {"resourceType": "Bundle", "entry": [entry], "link": following})
    fhir.answer("/fhir/page2", {"resourceType": "Bundle", "entry": [entry]})
    bundle = Gateway([fhir.url], PATIENT).fetch(fhir.url, "Condition?patient=p", "secret")
    assert len(bundle["entry"]) == 2
    assert [token for _, token in fhir.asked] == ["Bearer secret"] * 2


def test_the_servers_own_total_is_kept(fhir: FhirServer) -> None:
    """It was once replaced by the number of entries: included Locations then counted as missing stays, and a search
    that the server had truncated looked complete.
    """
    stay = {"resource": {"resourceType": "Encounter", "id": "e"}, "search": {"mode": "match"}}
    place = {"resource": {"resourceType": "Location", "id": "l"}, "search": {"mode": "include"}}
    for total in (1, 7):
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": total, "entry": [stay, place]}
        fhir.answer("/fhir/Encounter?patient=p", bundle)
        assert Gateway([fhir.url], PATIENT).fetch(fhir.url, "Encounter?patient=p")["total"] == total


def test_the_token_is_never_sent_to_another_host(fhir: FhirServer, other: FhirServer) -> None:
    following = [{"relation": "next", "url": f"{other.url}/steal"}]
    fhir.answer("/fhir/Condition?patient=p", {"resourceType": "Bundle", "entry": [], "link": following})
    bundle = Gateway([fhir.url], PATIENT).fetch(fhir.url, "Condition?patient=p", "secret")
    assert bundle["link"], "the reader must see that it is incomplete"
    assert other.asked == []
    with pytest.raises(GatewayError, match="server-not-allowed"):
        Gateway([fhir.url], PATIENT).fetch(other.url, "Patient/p", "secret")
    assert other.asked == []


def test_redirects_and_endless_pages_are_not_followed(fhir: FhirServer, other: FhirServer) -> None:
    fhir.answer("/fhir/Patient/p", {}, 302, Location=f"{other.url}/Patient/p")
    with pytest.raises(GatewayError, match="302"):
        Gateway([fhir.url], PATIENT).fetch(fhir.url, "Patient/p", "secret")
    assert other.asked == []
    again = [{"relation": "next", "url": f"{fhir.url}/Condition?patient=p"}]
    fhir.answer("/fhir/Condition?patient=p", {"resourceType": "Bundle", "entry": [], "link": again})
    assert Gateway([fhir.url], PATIENT).fetch(fhir.url, "Condition?patient=p")["link"]
    assert len(fhir.asked) < 30


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(500, {}, "status"), (200, b"<html>", "not-json"), (200, [1], "not-fhir"), (200, b" " * 11_000_000, "too-large")],
)
def test_malformed_answers_are_named(fhir: FhirServer, status: int, body: Any, reason: str) -> None:
    fhir.answer("/fhir/Patient/p", body, status)
    with pytest.raises(GatewayError, match=reason):
        Gateway([fhir.url], PATIENT).fetch(fhir.url, "Patient/p")


def test_missing_prefetch_is_fetched_with_the_given_token_or_412(fhir: FhirServer, tmp_path: Path) -> None:
    env = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/t.db", "RISKCARDS_FHIR_SERVERS": fhir.url}
    app = create_app(patient_settings(env))
    request = whole_request("diabetic-heart-failure-discharge")
    withheld = request["prefetch"].pop("encounters")
    del request["prefetch"]["encounter"]
    request |= {"fhirServer": fhir.url, "fhirAuthorization": {"access_token": "secret"}}
    client, url = app.test_client(), "/cds-services/readmission-30d"
    assert "status" in assert_outcome(client.post(url, json=request), 412)
    fhir.answer("/fhir/Encounter?patient=walter&_sort=-date&_count=1000", withheld)
    answer = client.post(url, json=request)
    assert answer.status_code == 200
    assert_valid_response(answer.get_json())
    assert {token for _, token in fhir.asked} == {"Bearer secret"}
    app.extensions["riskcards"].store.close()


def test_further_pages_and_notes_of_a_prefetch_are_fetched(fhir: FhirServer, other: FhirServer, tmp_path: Path) -> None:
    """The card is then that of a complete prefetch; the token is not sent to other servers."""
    env = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/t.db", "RISKCARDS_FHIR_SERVERS": fhir.url}
    client, url = create_app(patient_settings(env)).test_client(), "/cds-services/readmission-30d"
    whole = client.post(url, json=whole_request("diabetic-heart-failure-discharge")).get_json()["cards"][0]["detail"]
    request = whole_request("diabetic-heart-failure-discharge")
    request |= {"fhirServer": fhir.url, "fhirAuthorization": {"access_token": "secret"}}
    labs, document = request["prefetch"]["labs"], request["prefetch"]["documents"]["entry"][0]["resource"]
    entries, labs["entry"] = labs["entry"], labs["entry"][:2]
    labs["link"] = [{"relation": "next", "url": f"{fhir.url}/labs-2"}]
    attachment = document["content"][0]["attachment"]
    data = attachment.pop("data")
    attachment["url"] = "Binary/n1"
    cut = client.post(url, json=request).get_json()["cards"][0]["detail"]
    assert cut != whole
    assert {path for path, _ in fhir.asked} == {"/fhir/labs-2", "/fhir/Binary/n1"}
    fhir.answer("/fhir/labs-2", {"resourceType": "Bundle", "type": "searchset", "entry": entries[2:]})
    fhir.answer("/fhir/Binary/n1", {"resourceType": "Binary", "contentType": attachment["contentType"], "data": data})
    assert client.post(url, json=request).get_json()["cards"][0]["detail"] == whole
    assert {token for _, token in fhir.asked} == {"Bearer secret"}
    labs["link"][0]["url"], attachment["url"] = f"{other.url}/labs-2", f"{other.url}/Binary/n1"
    assert client.post(url, json=request).get_json()["cards"][0]["detail"] == cut
    assert other.asked == []


def test_all_resources_of_a_patient_are_read_and_missing_types_named(fhir: FhirServer) -> None:
    fhir.answer("/fhir/Patient/p", {"resourceType": "Patient", "id": "p"})
    fhir.answer("/fhir/Encounter?patient=p&_count=500", {"resourceType": "Bundle", "entry": []})
    resources, missing = fetch_patient_resources(fhir.url, "p", seconds=PATIENT)
    assert [resource["id"] for resource in resources] == ["p"]
    assert "Encounter" not in missing
    assert "Observation" in missing
    with pytest.raises(GatewayError, match="not-an-id"):
        fetch_patient_resources(fhir.url, "../admin")


def test_a_store_that_is_down_is_503_and_no_card(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    app.extensions["riskcards"].store.close()
    (tmp_path / "golden.db").unlink()
    (tmp_path / "golden.db").mkdir()
    for name in ("golden.db-wal", "golden.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    request = whole_request("diabetic-heart-failure-discharge")
    answer = app.test_client().post("/cds-services/readmission-30d", json=request)
    assert_outcome(answer, 503)
    assert answer.headers["Retry-After"]


def asking(fhir: FhirServer, *kept: str) -> dict[str, Any]:
    """A discharge with only these prefetch keys; the rest may be fetched."""
    request = whole_request("diabetic-heart-failure-discharge")
    request["prefetch"] = {key: request["prefetch"][key] for key in kept}
    return request | {"fhirServer": fhir.url, "fhirAuthorization": {"access_token": "secret"}}


BUNDLE = b'{"resourceType":"Bundle","type":"searchset","entry":[%s]%s}'
LINK = b',"link":[{"relation":"next","url":"%s"}]'
HOSTILE_PAGES: dict[str, bytes] = {
    "nested 500 levels": BUNDLE
    % (b'{"resource":{"resourceType":"Observation","extension":%s}}', b"")
    % (b"[" * 500 + b"]" * 500),
    "nested without end": BUNDLE % (b"[" * 200_000, b""),
    "NaN": BUNDLE % (b'{"resource":{"resourceType":"Observation","valueQuantity":{"value":NaN}}}', b""),
    "entries that are none": BUNDLE % (b'null, 1, "x", {"resource": null}, {"resource": []}', b""),
    "entry an object": b'{"resourceType":"Bundle","entry":{"a":1}}',
    "a link that is no address": BUNDLE % (b"", LINK % b"http://[::1"),
    "a link that is script": BUNDLE % (b"", LINK % b"javascript:alert(1)"),
    "a link without a scheme": BUNDLE % (b"", LINK % b"//evil.example/fhir/x"),
    "a link upwards": BUNDLE % (b"", LINK % b"../admin"),
    "a link upwards, hidden": BUNDLE % (b"", LINK % b"%2e%2e/admin"),
    "a link upwards, hidden twice": BUNDLE % (b"", LINK % b"%252e%252e/admin"),
    "links an object": b'{"resourceType":"Bundle","entry":[],"link":{"relation":"next"}}',
    "an outcome": b'{"resourceType":"OperationOutcome"}',
    "half a gzip": b"\x1f\x8b",
}


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_malformed_server_answers_are_gateway_errors(fhir: FhirServer, tmp_path: Path, name: str) -> None:
    """A malformed `next` link once caused a 500, and malformed entries a 400."""
    env = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/t.db", "RISKCARDS_FHIR_SERVERS": fhir.url}
    client = create_app(patient_settings(env)).test_client()
    labs = "/fhir/Observation?patient=walter&category=laboratory&_sort=-date&_count=1000"
    fhir.answer(labs, HOSTILE_PAGES[name])
    request = asking(fhir, "patient", "encounter", "encounters", "conditions", "vitals", "medications", "documents")
    answer = client.post("/cds-services/readmission-30d", json=request)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert_valid_response(answer.get_json())
    assert not [path for path, _ in fhir.asked if "admin" in path]
    # The same page in the client's own prefetch.
    if b"link" in HOSTILE_PAGES[name] and b'"link":{' not in HOSTILE_PAGES[name]:
        request["prefetch"]["labs"] = json.loads(HOSTILE_PAGES[name])
        assert client.post("/cds-services/readmission-30d", json=request).status_code == 200
        assert not [path for path, _ in fhir.asked if "admin" in path]


def test_the_bytes_fetched_for_one_hook_are_limited(fhir: FhirServer, tmp_path: Path) -> None:
    """Twenty pages of ten megabytes for each template were each within their limits: 3.5 gigabytes for one request."""
    env = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/t.db", "RISKCARDS_FHIR_SERVERS": fhir.url}
    app = create_app(patient_settings(env))
    filler = b'{"resource":{"resourceType":"Condition","id":"c","text":{"div":"%s"}}}' % (b"x" * 3_000_000)
    for number in range(21):
        fhir.answer(f"/fhir/page{number}", BUNDLE % (filler, LINK % f"{fhir.url}/page{number + 1}".encode()))
    request = asking(fhir, "patient", "encounter", "encounters")
    searches = ("conditions", "vitals", "labs", "medications", "procedures", "documents")
    for key in searches:
        request["prefetch"][key] = {"resourceType": "Bundle", "type": "searchset", "entry": [], "link": [
            {"relation": "next", "url": f"{fhir.url}/page0"}]}  # fmt: skip
    answer = app.test_client().post("/cds-services/readmission-30d", json=request)
    assert answer.status_code in {200, 412}
    sent = sum(len(fhir.answers[path][2]) for path, _ in fhir.asked if "page" in path)
    # Each of four threads may have been in the middle of one more page.
    assert MAX_FETCHED - 3_100_000 < sent < MAX_FETCHED + 10 * 3_100_000


STEPS = ["..", "..;", "..;x=1", "%2e%2e", "%2e%2e;", "..%3b", ".;", "%2e;", "..;/..;", "..%20", "%2e"]


@pytest.mark.parametrize("step", STEPS)
def test_no_path_leaves_the_base_url(step: str) -> None:
    """`/..;/` is `/../` for a server that takes path parameters off after a proxy has checked the path."""
    server = "https://ehr.example.org/fhir/r4"
    with pytest.raises(GatewayError):
        _Origin.of(f"{server}/{step}/admin")
    try:
        assert not _Origin.of(server).holds(_Origin.of(_joined(server, f"{step}/admin?page=2")))
    except GatewayError as error:
        assert error.reason == "not-a-server-url"  # noqa: PT017 - refused in one of two ways


@pytest.mark.parametrize("path", ["Patient?a=..;", "Patient/a..b", "Observation;v=1", "...;/x", "Patient/1?x=%2e%2e"])
def test_other_semicolons_and_dots_are_no_steps(path: str) -> None:
    assert _Origin.of("https://ehr.example.org/fhir").holds(_Origin.of(f"https://ehr.example.org/fhir/{path}"))
