"""The ward list: who is on it, in which order, under which rules, and who is written down as having looked."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from werkzeug.test import TestResponse

from cds_service.config.modes import TASK
from cds_service.refresh.estimates import FreshEstimate, PatientEstimates
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D
from tests.cds_service.refresh.conftest import NAME, Refreshed
from tests.cds_service.refresh.test_worker import set_mode
from tests.cds_service.refresh.ward_server import DAY, inpatient
from tests.cds_service.smart.browser import BASE, Browser

DEATH = FreshEstimate(
    task=IN_HOSPITAL_MORTALITY, probability=0.2, interval=(0.1, 0.3), baseline=0.11, abstention="",
    why="Raises: lactate 4.2 mmol/L (high).", warns=True, score="NEWS2 7 (high)", score_high=True, cautions=(),
)  # fmt: skip


class Ward:
    """A clinician's browser at the ward list of a server with inpatients."""

    def __init__(self, fresh: Refreshed) -> None:
        self.fresh = fresh
        self.browser = Browser(fresh.app)
        self.now = fresh.handler.clock()

    def admit(self, name: str, unit: str = "", /, **patient: Any) -> None:
        person, stay = inpatient(name, self.now - 2 * DAY, **({"name": [{"family": name, "given": ["A"]}]} | patient))
        if unit:
            place = {"resourceType": "Location", "id": f"unit-{sum(map(ord, unit))}", "name": unit}
            self.fresh.ward.put(place)
            stay["location"] = [{"location": {"reference": f"Location/{place['id']}"}, "status": "active"}]
        self.fresh.ward.put(person, stay)

    def estimate(self, name: str, probability: float | None, *, ago: timedelta = timedelta(), **more: Any) -> None:
        interval = None if probability is None else (probability / 2, min(1.0, 1.5 * probability))
        found = replace(DEATH, probability=probability, interval=interval, **more)
        readmission = replace(found, task=READMISSION_30D, probability=None, abstention="Not a diabetic.")
        tasks = {found.task: found, READMISSION_30D: readmission}
        estimates = PatientEstimates(f"Encounter/stay-{name}", self.now - ago, "card", tasks)
        self.fresh.estimates.put(NAME, f"Patient/{name}", estimates)

    def launch(self) -> TestResponse:
        begun = self.browser.get("/launch/ward", iss=self.fresh.ehr.base, launch="for-the-ward")
        if begun.status_code != 303:
            return begun
        return self.browser.get("/smart/callback", **self.fresh.ehr.authorize(begun.headers["Location"]))

    def page(self, **query: str) -> TestResponse:
        return self.browser.get(self.launch().headers["Location"], **query)

    def names(self, section: str, **query: str) -> list[str]:
        """The names in a section of the list, from the top."""
        found = re.search(rf'aria-labelledby="h-{section}">(.*?)</section>', self.page(**query).text, re.DOTALL)
        return [] if found is None else [unescape(n).partition(",")[0] for n in re.findall('"name">(.*?)<', found[1])]


@pytest.fixture
def ward(fresh: Refreshed) -> Ward:
    return Ward(fresh)


def test_the_highest_risk_stands_first_and_patients_without_one_apart(ward: Ward) -> None:
    for name, probability in (("Low", 0.01), ("High", 0.6), ("Middle", 0.2), ("Abstained", None)):
        ward.admit(name)
        ward.estimate(name, probability, abstention="" if probability else "Few values are known.", score_high=False)
    ward.admit("New")
    assert ward.names("ranked") == ["High", "Middle", "Low"]
    assert ward.names("unranked") == ["Abstained", "New"]
    text = ward.page().text
    assert "Few values are known." in text
    assert "Not estimated yet; queued." in text
    assert '5 inpatients: 3 ranked, <a href="#h-unranked">2 without a current estimate</a>' in text
    assert "risk unknown, not low" in text


def test_an_outcome_is_named_and_another_can_be_chosen(ward: Ward) -> None:
    ward.admit("One")
    ward.estimate("One", 0.3)
    assert "<h1>Ward list by risk: <b>Hospital death</b></h1>" in ward.page().text
    other = ward.page(outcome=READMISSION_30D)
    assert "<h1>Ward list by risk: <b>30-day readmission</b></h1>" in other.text
    assert "Not a diabetic." in other.text
    assert ward.names("ranked", outcome=READMISSION_30D) == []
    assert ward.page(outcome="sepsis").status_code == 404


def test_a_unit_is_chosen_and_one_without_patients_says_so(ward: Ward) -> None:
    for name, unit in (("Ann", "4 West"), ("Bob", "ICU & more"), ("Cid", "")):
        ward.admit(name, unit)
        ward.estimate(name, 0.2)
    assert ward.names("ranked") == ["Ann", "Bob", "Cid"]
    assert ward.names("ranked", unit="ICU & more") == ["Bob"]
    assert ward.names("ranked", unit="unit not recorded") == ["Cid"]
    gone = ward.page(unit="<b>5 East</b>").text
    assert "no inpatient in the unit “&lt;b&gt;5 East&lt;/b&gt;” now" in gone
    assert "<b>5 East" not in gone


AGES: list[tuple[timedelta, str, str]] = [
    (timedelta(minutes=5), "ranked", "5 min ago"),
    (timedelta(hours=7), "ranked", '7 h ago <span class="mark old">old</span>'),
    (timedelta(hours=13), "unranked", "The last estimate is too old (13 h); queued for a new one."),
    (timedelta(hours=49), "unranked", "Not estimated yet; queued."),
]


@pytest.mark.parametrize(("ago", "section", "words"), AGES)
def test_the_age_of_an_estimate_is_shown_and_limits_it(ward: Ward, ago: timedelta, section: str, words: str) -> None:
    """The last one is of an earlier stay."""
    ward.admit("One")
    ward.estimate("One", 0.5, ago=ago)
    assert ward.names(section) == ["One"]
    assert words in ward.page().text
    assert ward.fresh.queued() == (["Patient/One"] if section == "unranked" else [])


def test_a_high_score_without_an_estimate_stands_first_there(ward: Ward) -> None:
    for name, high in (("Aaron", False), ("Zoe", True)):
        ward.admit(name)
        ward.estimate(name, None, abstention="x", score_high=high)
    assert ward.names("unranked") == ["Zoe", "Aaron"]
    assert "1 patient without an estimate and with a high established score" in ward.page().text, "seen from the top"


def test_no_inpatient_and_none_with_an_estimate(ward: Ward) -> None:
    assert "The EHR lists no inpatient whom you may read." in ward.page().text
    ward.admit("One")
    text = ward.page().text
    assert "Nobody has a current estimate." in text
    assert "1 inpatient: 0 ranked, <a" in text


def test_only_patients_the_user_may_read_are_shown(ward: Ward) -> None:
    """An estimate in the store is no way around the EHR's own access rules."""
    ward.admit("Seen")
    ward.estimate("Seen", 0.3)
    ward.estimate("Hidden", 0.9)
    assert ward.names("ranked") == ["Seen"]
    assert "Hidden" not in ward.page().text
    kinds = {query.partition("?")[0].partition("/")[0] for query, _ in ward.fresh.ehr.asked}
    assert kinds == {"Encounter"}, "the list, and no charts"


@pytest.mark.parametrize("mode", ["off", "silent", "pilot"])
def test_the_mode_hides_the_list_as_it_hides_cards(ward: Ward, mode: str) -> None:
    ward.admit("One")
    ward.estimate("One", 0.3)
    set_mode(ward.fresh, mode)
    before = len(ward.fresh.ehr.asked)
    answer = ward.page()
    assert answer.status_code == 403
    assert "One" not in answer.text
    assert len(ward.fresh.ehr.asked) == before, "nothing is read"


def test_a_pilot_user_sees_it(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.admit("One")
    ward.estimate("One", 0.3)
    set_mode(ward.fresh, "pilot")
    parts = ward.fresh.app.extensions["riskcards"]
    piloted = parts.settings.with_changes(pilot_users=("Practitioner/7",))
    monkeypatch.setattr(ward.fresh.app.view_functions["ward.page"].__self__, "parts", _Parts(parts, piloted))  # type: ignore[attr-defined]
    assert ward.names("ranked") == ["One"]


class _Parts:
    def __init__(self, parts: Any, settings: Any) -> None:
        self.smart, self.handler = parts.smart, replace(parts.handler, settings=settings)


def test_an_outcome_that_is_off_is_not_offered(ward: Ward) -> None:
    ward.admit("One")
    ward.estimate("One", 0.3)
    set_mode(ward.fresh, "off", f"{TASK}{IN_HOSPITAL_MORTALITY}")
    assert ward.page(outcome=IN_HOSPITAL_MORTALITY).status_code == 404
    text = ward.page().text
    assert "<b>30-day readmission</b>" in text
    assert "Hospital death" not in text


def test_the_look_of_a_user_is_recorded_before_it_is_shown(ward: Ward) -> None:
    ward.admit("One", "4 West")
    ward.admit("Two")
    ward.page(unit="4 West")
    entry = ward.fresh.store.audit_entries("ward-list")[-1]
    assert entry.body is not None
    assert entry.body["user_hash"] == ward.fresh.store.user_hash("Practitioner/7")
    assert entry.body["patient_hashes"] == [ward.fresh.store.patient_hash("One")]
    assert (entry.body["task"], entry.body["unit"], entry.body["client"]) == (IN_HOSPITAL_MORTALITY, "4 West", NAME)
    assert ward.fresh.store.verify_audit().fault is None


def test_what_cannot_be_recorded_is_not_shown(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    from cds_service.store.errors import StoreError
    from cds_service.store.store import Store

    ward.admit("One")
    place = ward.launch().headers["Location"]

    def broken(*_: Any) -> None:
        raise StoreError("x")

    monkeypatch.setattr(Store, "record_event", broken)
    answer = ward.browser.get(place)
    assert answer.status_code == 503
    assert "One" not in answer.text


HOSTILE = "<script>alert(1)</script>\u202e&\"'{{7*7}}"


def test_hostile_names_are_text(ward: Ward) -> None:
    ward.admit("x1", f"unit {HOSTILE}", name=[{"text": HOSTILE}], identifier=[{"value": HOSTILE}], birthDate=HOSTILE)
    ward.estimate("x1", 0.3, why=f"Raises: {HOSTILE}.", cautions=(HOSTILE,))
    for query in ({}, {"unit": f"unit {HOSTILE}"}):
        text = ward.page(**query).text
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text
        assert "{{7*7}}" in text


BROKEN: list[dict[str, Any]] = [
    {"name": "?"}, {"name": []}, {"name": [7, None]}, {"identifier": "x"}, {"identifier": [None, {"value": 7}]},
    {"birthDate": None}, {"birthDate": "1950"}, {"birthDate": "2999-01-01"}, {"gender": "??"}, {"gender": ["male"]},
]  # fmt: skip


@pytest.mark.parametrize("patient", BROKEN)
def test_malformed_demographics_never_empty_the_list(ward: Ward, patient: dict[str, Any]) -> None:
    ward.admit("One", **patient)
    ward.admit("Two")
    ward.estimate("Two", 0.4)
    assert ward.names("ranked") == ["Two"]
    assert len(ward.names("unranked")) == 1


def test_the_launch_asks_for_user_scopes_and_no_patient(ward: Ward) -> None:
    begun = ward.browser.get("/launch/ward", iss=ward.fresh.ehr.base, launch="for-the-ward")
    assert "user%2FEncounter.rs" in begun.headers["Location"]
    assert "patient%2F" not in begun.headers["Location"]
    assert "fhirUser" in begun.headers["Location"]
    assert ward.launch().headers["Location"].startswith("/ward/")


def test_without_a_user_there_is_no_list(ward: Ward) -> None:
    ward.fresh.ehr.wrong["id_token"] = {"fhirUser": ..., "profile": ...}
    answer = ward.launch()
    assert answer.status_code == 403
    assert "records who looks at it" in answer.text


def test_a_patient_is_no_user(ward: Ward) -> None:
    ward.fresh.ehr.wrong["id_token"] = {"fhirUser": f"{ward.fresh.ehr.base}/Patient/7"}
    ward.admit("One")
    assert ward.page().status_code == 403


def test_a_session_opens_what_it_was_launched_for_and_in_its_own_browser(ward: Ward) -> None:
    place = ward.launch().headers["Location"]
    assert ward.browser.get(place.replace("/ward/", "/app/")).status_code == 404
    assert Browser(ward.fresh.app).get(place).status_code == 401
    assert ward.browser.get("/ward/" + "x" * 43 + "/").status_code == 404


FAULTS = [(401, 401), (403, 403), (429, 502), (500, 502)]


@pytest.mark.parametrize(("status", "shown"), FAULTS)
def test_a_list_that_cannot_be_read_is_an_error_and_never_empty(ward: Ward, status: int, shown: int) -> None:
    ward.admit("One")
    ward.fresh.ward.faults += [("GET Encounter", status, {"Retry-After": "9"})] * 3
    answer = ward.page()
    assert answer.status_code == shown
    assert 'role="alert"' in answer.text


def test_servers_that_include_or_search_less_give_the_same_list(ward: Ward) -> None:
    ward.admit("Ann", "4 West")
    ward.estimate("Ann", 0.2)
    for unknown, includes in (((), False), (("_include",), False), (("in-progress,onleave",), True)):
        ward.fresh.ward.unknown, ward.fresh.ward.includes = unknown, includes
        assert ward.names("ranked", unit="4 West") == ["Ann"]


def test_a_list_that_was_cut_says_so(ward: Ward) -> None:
    for number in range(3):
        ward.admit(f"p{number}")
    ward.fresh.ward.page = 2
    answered = ward.fresh.ward.get

    def cut(query: str) -> tuple[int, Any]:
        return (500, {}) if "_offset" in query else answered(query)

    ward.fresh.ward.get = cut  # type: ignore[method-assign]
    try:
        assert "The EHR's list was cut off" in unescape(ward.page().text)
    finally:
        ward.fresh.ward.get = answered  # type: ignore[method-assign]


def test_beds_are_below_their_ward(ward: Ward) -> None:
    def place(name: str, kind: str, above: str | None = None) -> dict[str, Any]:
        part = {"partOf": {"reference": f"Location/{above}"}} if above else {}
        return {
            "resourceType": "Location", "id": name, "name": f"The {name}",
            "physicalType": {"coding": [{"code": kind}]}, **part,
        }  # fmt: skip

    ward.fresh.ward.put(place("building", "bu"), place("ward", "wa", "building"), place("bed", "bd", "ward"))
    ward.admit("One")
    stay = ward.fresh.ward.resources["Encounter/stay-One"]
    ended = {"location": {"reference": "Location/building"}, "status": "completed"}
    ward.fresh.ward.put(stay | {"location": [{"location": {"reference": "Location/bed"}}, ended]})
    text = ward.page().text
    assert '<td class="place" data-label="Unit">The ward <span class="dim">The bed</span>' in text


def test_the_page_is_private_and_may_be_framed_by_its_ehr(ward: Ward) -> None:
    headers = ward.page().headers
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors https://ehr.example.org https://hospital.example" in headers["Content-Security-Policy"]
    assert ward.browser.client.get("/ward/static/ward.css", base_url=BASE).status_code == 200
