"""The app's pages on a launched session: the chart the EHR gave, for this browser, inside this EHR, and no longer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.oauth.clients import read_smart_clients
from cds_service.oauth.errors import SmartSetupError
from cds_service.smart.session import KIND
from tests.cds_service.app_pages.documents import Document
from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import Browser
from tests.cds_service.smart.conftest import configuration
from tests.patience import patient_settings


def test_a_launch_ends_on_the_whole_page(browser: Browser, ehr: Realm) -> None:
    home = browser.launch(ehr).headers["Location"]
    response = browser.get(home)
    assert response.status_code == 200
    assert "frame-ancestors https://ehr.example.org" in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"
    page = Document(response.get_data(as_text=True))
    assert page.faults == []
    assert "30-day readmission" in " ".join(page.text)
    assert "patients like this one" in " ".join(page.text)
    for address in (f"{home}course", *[f"{home}{a['href'].partition('#')[0]}" for a in notes(page)][:1]):
        assert browser.get(address).status_code == 200
    links = [a[name] for _, a in page.tags for name in ("href", "action", "src") if name in a]
    assert links
    assert not [link for link in links if "walter" in link or "stay" in link.partition("#")[0]]


def notes(page: Document) -> list[dict[str, str]]:
    return [a for a in page.all("a") if a.get("href", "").startswith("note/")]


def test_what_if_and_feedback_work_in_a_session(browser: Browser, ehr: Realm, app: Flask) -> None:
    home = browser.launch(ehr).headers["Location"]
    page = Document(browser.get(home).get_data(as_text=True))
    shown = next(a["value"] for a in page.all("input") if a.get("name") == "view")
    base = "https://cds.example.org"
    asked = browser.client.post(f"{home}what-if", data={"discharged_to": "03"}, base_url=base)
    assert asked.status_code == 200
    assert Document(asked.get_data(as_text=True)).faults == []
    sent = browser.client.post(f"{home}feedback", data={"view": shown, "opinion": "useful"}, base_url=base)
    assert sent.status_code == 200
    assert app.extensions["riskcards"].store.feedback()[-1]["card"] == shown


def test_another_browser_is_refused_with_a_message(browser: Browser, ehr: Realm, app: Flask) -> None:
    home = browser.launch(ehr).headers["Location"]
    other = Browser(app)
    for address in (home, f"{home}course", f"{home}note/0123456789abcdef"):
        answer = other.get(address)
        assert answer.status_code == 401
        assert "launch the app again" in answer.get_data(as_text=True)
        assert "frame-ancestors https://ehr.example.org" in answer.headers["Content-Security-Policy"]
    form = {"view": "x", "opinion": "useful"}
    assert other.client.post(f"{home}feedback", data=form, base_url="https://cds.example.org").status_code == 401
    assert browser.get("/app/" + "A" * 43 + "/").status_code == 404


def test_two_patients_open_at_once_never_mix(browser: Browser, ehr: Realm) -> None:
    homes = {launch: browser.launch(ehr, launch).headers["Location"] for launch in ("for-walter", "for-ines")}
    reported = {launch: browser.get(home).get_data(as_text=True) for launch, home in homes.items()}
    assert _identity(reported["for-walter"]) != _identity(reported["for-ines"])
    for _ in range(2):
        assert {launch: _identity(browser.get(home).get_data(as_text=True)) for launch, home in homes.items()} == {
            launch: _identity(text) for launch, text in reported.items()
        }


def _identity(page: str) -> str:
    found = re.search(r'<header class="banner">.*?<b>(.*?)</b>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_after_the_session_ends_the_page_is_gone(browser: Browser, ehr: Realm, app: Flask) -> None:
    answer = browser.launch(ehr)
    app.extensions["riskcards"].smart.vault.drop(KIND, browser.session(answer).id)
    assert browser.get(answer.headers["Location"]).status_code == 404


def test_cards_of_a_service_with_smart_clients_link_the_app(app: Flask) -> None:
    assert app.extensions["riskcards"].handler.launches_app is True


def test_the_modes_of_a_tenant_reach_the_app(realms: dict[str, Realm], tmp_path: Path) -> None:
    """`riskcards mode off --tenant north` changed cards and never the app."""
    env = configuration(tmp_path, realms)
    file = tmp_path / "smart.json"
    clients = json.loads(file.read_text())["clients"]
    file.write_text(json.dumps({"clients": [client | {"tenant": "north"} for client in clients]}))
    app = create_app(patient_settings(env))
    store, modes = app.extensions["riskcards"].store, app.extensions["riskcards"].handler.modes
    realm, browser = realms["public"], Browser(app)
    realm.reset()
    home = browser.launch(realm).headers["Location"]
    for service, tenant, mode, status in (
        ("*", "south", "off", 200),
        ("*", "north", "off", 403),
        ("*", "north", "live", 200),
        ("hospital-risk", "north", "silent", 403),
    ):
        store.set_mode(service, tenant, mode, "")
        modes.override(service, tenant, None)
        assert browser.get(home).status_code == status, (service, tenant, mode)
    store.close()


def test_a_tenant_must_be_a_name(tmp_path: Path, realms: dict[str, Realm]) -> None:
    configuration(tmp_path, realms)
    clients = json.loads((tmp_path / "smart.json").read_text())["clients"]
    for wrong in ("", 7, ["north"], None):
        (tmp_path / "smart.json").write_text(json.dumps({"clients": [clients[0] | {"tenant": wrong}]}))
        with pytest.raises(SmartSetupError, match="tenant"):
            read_smart_clients(tmp_path / "smart.json")
