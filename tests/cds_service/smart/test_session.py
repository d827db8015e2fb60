"""What a session can do: read its patient's chart, renew its access, and end."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from cds_hooks import HookError
from cds_service.demo.ward.chart import Chart
from cds_service.smart.session import chart_of
from fhir_mapping import PatientRecord
from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import Browser
from tests.cds_service.smart.conftest import EXAMPLE_OF
from tests.end_to_end.golden import EXAMPLES

SHORT_LIVED = {"token": {"expires_in": 1}, "refresh_token": True}


@pytest.fixture
def chart(ehr: Realm) -> Iterator[dict[str, Chart]]:
    """The charts of the EHR, for a test that changes them."""
    kept, changed = ehr.charts, dict(ehr.charts)
    ehr.charts = changed
    yield changed
    ehr.charts = kept


def refused(browser: Browser, answer: Any) -> int:
    with pytest.raises(HookError) as caught:
        browser.chart(answer)
    return caught.value.status


def renewals(ehr: Realm) -> int:
    return sum(form["grant_type"] == "refresh_token" for form in ehr.token_requests)


def test_the_chart_is_what_a_card_is_made_from(browser: Browser, ehr: Realm) -> None:
    """The record read with the session's token has the features of the same bundle read from a file."""
    bundle = (EXAMPLES / EXAMPLE_OF["walter"] / "bundle.json").read_text("utf-8").replace('-view"', '"').encode()
    read = browser.chart(browser.launch(ehr))
    direct = PatientRecord.from_json(bundle, prediction_time=read.prediction_time, encounter_id="stay")
    assert {name: value.value for name, value in read.features().values.items()} == {
        name: value.value for name, value in direct.features().values.items()
    }
    assert [note.text for note in read.notes()] == [note.text for note in direct.notes()]
    assert read.current_stay is not None


def test_access_is_renewed_before_it_ends(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = dict(SHORT_LIVED)
    answer = browser.launch(ehr)
    old = set(ehr.tokens)
    assert browser.chart(answer).subject_id == "walter"
    assert renewals(ehr) == 1
    assert not {token for _, token in ehr.asked} & old
    browser.chart(answer)
    assert renewals(ehr) == 1, "the new token is good for a while"


def test_of_many_requests_one_renews(app: Flask, browser: Browser, ehr: Realm) -> None:
    """A refresh token is used up by its first use: a second use at the same moment would end the session."""
    ehr.wrong = dict(SHORT_LIVED)
    session, parts = browser.session(browser.launch(ehr)), app.extensions["riskcards"]
    with ThreadPoolExecutor(4) as pool:
        charts = list(pool.map(lambda _: chart_of(parts, session), range(4)))
    assert {record.subject_id for record in charts} == {"walter"}
    assert renewals(ehr) == 1


def test_a_server_may_keep_its_refresh_token(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = SHORT_LIVED | {"refresh": {"refresh_token": ..., "expires_in": 1}}
    answer = browser.launch(ehr)
    (token,) = ehr.refreshes
    browser.chart(answer)
    ehr.refreshes[token] = "walter"
    assert browser.chart(answer).subject_id == "walter"
    assert renewals(ehr) == 2


def test_access_that_is_not_renewed_ends_the_session(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = dict(SHORT_LIVED)
    answer = browser.launch(ehr)
    ehr.refreshes.clear()
    assert refused(browser, answer) == 401
    assert refused(browser, answer) == 404


def test_a_renewal_for_another_patient_ends_the_session(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = SHORT_LIVED | {"refresh": {"patient": "ines"}}
    answer = browser.launch(ehr)
    assert refused(browser, answer) == 401
    assert refused(browser, answer) == 404
    assert not ehr.asked


def test_a_server_in_trouble_keeps_the_session(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = SHORT_LIVED | {"token_status": 200}
    answer = browser.launch(ehr)
    ehr.wrong["refresh"] = {"token_type": "mac"}
    assert refused(browser, answer) == 503


def test_without_renewal_a_session_ends_with_its_token(browser: Browser, ehr: Realm) -> None:
    ehr.wrong = {"token": {"expires_in": 0, "refresh_token": ...}}
    assert refused(browser, browser.launch(ehr)) == 404


def test_a_revoked_token_asks_for_a_new_launch(browser: Browser, ehr: Realm) -> None:
    answer = browser.launch(ehr)
    ehr.wrong = {"revoked": tuple(ehr.tokens)}
    assert refused(browser, answer) == 401


def test_an_unreadable_patient_is_an_error_and_not_an_empty_chart(browser: Browser, ehr: Realm) -> None:
    answer = browser.launch(ehr)
    ehr.wrong = {"forbidden": ("Patient",)}
    assert refused(browser, answer) == 502


def test_another_patients_data_stop_the_chart(app: Flask, browser: Browser, ehr: Realm) -> None:
    stray = next(each for each in ehr.charts["ines"].resources if each["resourceType"] == "Condition")
    ehr.wrong = {"slipped_in": stray}
    assert refused(browser, browser.launch(ehr)) == 412
    assert app.extensions["riskcards"].store.audit_entries("foreign-patient")


def test_notes_that_lie_in_a_binary_are_fetched_from_this_server_only(
    browser: Browser, ehr: Realm, chart: dict[str, Chart]
) -> None:
    resources = [dict(each) for each in chart["walter"].resources]
    stem = {"resourceType": "DocumentReference", "status": "current", "subject": {"reference": "Patient/walter"}}
    urls = {
        "here": f"{ehr.base}/Binary/b1",
        "relative": "Binary/b2",
        "elsewhere": "https://evil.example/Binary/b1",
        "above": f"{ehr.base}/Binary/../Patient/ines",
        "beside": f"{ehr.base}-evil/Binary/b1",
        "other type": f"{ehr.base}/Patient/ines",
    }
    for name, url in urls.items():
        content = [{"attachment": {"contentType": "text/plain", "url": url}}]
        resources.append(stem | {"id": name.replace(" ", "-"), "date": "2024-01-01", "content": content})
    for name in ("b1", "b2"):
        data = base64.b64encode(f"Progress note {name}: stable overnight.".encode()).decode()
        resources.append({"resourceType": "Binary", "id": name, "contentType": "text/plain", "data": data})
    chart["walter"] = Chart(resources)
    record = browser.chart(browser.launch(ehr))
    texts = " ".join(note.text for note in record.notes())
    assert "note b1" in texts
    assert "note b2" in texts
    asked = [query for query, _ in ehr.asked]
    assert sorted(query for query in asked if query.startswith("Binary")) == ["Binary/b1", "Binary/b2"]
    assert not any("ines" in query for query in asked)


def test_a_session_shows_no_token(browser: Browser, ehr: Realm) -> None:
    session = browser.session(browser.launch(ehr))
    assert not any(token in repr(session) for token in (*ehr.tokens, *ehr.refreshes))


@pytest.mark.parametrize("readable", [True, False])
def test_where_the_stay_is_comes_from_its_places(
    browser: Browser, ehr: Realm, chart: dict[str, Chart], readable: bool
) -> None:
    """A server that includes nothing unasked: the app reads the Location with its token, as a card does."""
    resources = [dict(each) for each in chart["ines"].resources]
    for stay in (each for each in resources if each["resourceType"] == "Encounter"):
        stay.pop("type")
        stay["location"] = [{"location": {"reference": "Location/bed"}}]
    unit = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}]}
    resources += [{"resourceType": "Location", "id": "bed", "type": [unit]}]
    chart["ines"] = Chart(resources)
    encounter = {"encounter": next(each["id"] for each in resources if each["resourceType"] == "Encounter")}
    ehr.wrong = {"includes_nothing": True, "token": encounter} | ({} if readable else {"forbidden": ("Location",)})
    stay = browser.chart(browser.launch(ehr, "for-ines")).current_stay
    assert stay is not None
    assert stay.intensive_care is (True if readable else None)
    assert [query for query, _ in ehr.asked if "Location" in query] == ["Location/bed"]
