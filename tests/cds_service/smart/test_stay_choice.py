"""Where the EHR gives a patient but no stay: the stays are listed, one is chosen, and only that one is estimated."""

from __future__ import annotations

import pytest
from flask import Flask

from cds_service.oauth.discovery import AuthorizationServer
from cds_service.oauth.scopes import launch_scopes
from tests.cds_service.app_pages.documents import Document
from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import BASE, Browser


@pytest.mark.parametrize(
    ("capabilities", "scopes", "from_ehr", "asked"),
    [
        ({"context-standalone-encounter"}, set(), False, True),
        (set(), {"launch/encounter", "patient/*.rs"}, False, True),
        (set(), set(), False, False),
        ({"context-standalone-patient"}, {"launch/patient"}, False, False),
        ({"context-standalone-encounter"}, {"launch/encounter"}, True, False),
    ],
)
def test_an_encounter_is_asked_for_where_one_can_be_given(
    capabilities: set[str], scopes: set[str], from_ehr: bool, asked: bool
) -> None:
    server = AuthorizationServer("", "", "", "", frozenset(capabilities), frozenset(scopes))
    assert ("launch/encounter" in launch_scopes(server, from_ehr=from_ehr)) == asked


@pytest.mark.parametrize(("from_ehr", "times"), [(False, 1), (True, 0)])
def test_a_sites_own_scopes_ask_for_an_encounter_in_a_standalone_launch_only(from_ehr: bool, times: int) -> None:
    server = AuthorizationServer("", "", "", "", frozenset({"context-standalone-encounter"}))
    asked = launch_scopes(server, from_ehr=from_ehr, configured=("launch/encounter", "patient/*.rs"))
    assert asked.count("launch/encounter") == times
    assert asked[0] == ("launch" if from_ehr else "launch/patient")


def opened(browser: Browser, ehr: Realm) -> tuple[str, Document]:
    ehr.wrong = {"token": {"encounter": ...}}
    home = browser.launch(ehr, None).headers["Location"]
    return home, Document(browser.get(home).get_data(as_text=True))


def choices(page: Document) -> list[str]:
    return [a["value"] for a in page.all("button") if a.get("name") == "stay"]


def test_past_stays_are_offered_and_nothing_is_estimated_before_one_is_chosen(browser: Browser, ehr: Realm) -> None:
    home, page = opened(browser, ehr)
    words = " ".join(page.text)
    assert page.faults == []
    assert "Which stay?" in words
    assert "no inpatient stay" in words
    assert "patients like this one" not in words
    offered = choices(page)
    assert offered
    answer = browser.client.post(f"{home}stay", data={"stay": offered[0]}, base_url=BASE)
    assert (answer.status_code, answer.headers["Location"]) == (303, "./")
    after = Document(browser.get(home).get_data(as_text=True))
    words = " ".join(after.text)
    assert after.faults == []
    assert "Which stay?" not in words
    assert "of the stay" in words
    assert "patients like this one" in words
    assert len(choices(after)) == len(offered) - 1


def test_a_stay_of_nobodys_choice_is_refused(browser: Browser, ehr: Realm, app: Flask) -> None:
    home, page = opened(browser, ehr)
    for value in ("", "0" * 16, "stay", "Encounter/stay"):
        assert browser.client.post(f"{home}stay", data={"stay": value}, base_url=BASE).status_code == 404
    other = Browser(app)
    assert other.client.post(f"{home}stay", data={"stay": choices(page)[0]}, base_url=BASE).status_code == 401


def test_the_stay_of_the_ehr_cannot_be_changed(browser: Browser, ehr: Realm) -> None:
    _, page = opened(browser, ehr)
    ehr.wrong = {}
    home = browser.launch(ehr).headers["Location"]
    assert choices(Document(browser.get(home).get_data(as_text=True))) == []
    answer = browser.client.post(f"{home}stay", data={"stay": choices(page)[0]}, base_url=BASE)
    assert answer.status_code == 404
    assert browser.session(browser.launch(ehr)).encounter_id == "stay"
