"""The ward list of sixty inpatients in a real browser, over a FHIR server of another hand (sekmet-fhir).

TEST_WARD_FULL=1 gives each a whole chart, on a server in memory, and has `riskcards refresh` estimate them, which takes
minutes; otherwise the charts are small and estimates are put where it puts them. TEST_WARD_PICTURES names a folder for
pictures of the list.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.background.leases import Leases
from cds_service.commands.service.refresh import opened_rounds, run
from cds_service.demo.ward.patients import shipped
from cds_service.refresh.estimates import FreshEstimate, PatientEstimates
from cds_service.refresh.parts import fresh_estimates
from cds_service.refresh.servers import refresh_servers
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D
from tests.cds_service.refresh.ward_server import inpatient, ward_server
from tests.cds_service.smart.authority import Realm, start
from tests.cds_service.smart.conftest import configuration
from tests.cds_service.smart.sites import APP, two_sites
from tests.chromium import patient_page
from tests.patience import patient_settings
from tests.sekmet import sekmet

pytestmark = pytest.mark.browser
FULL = os.environ.get("TEST_WARD_FULL") == "1"
PICTURES = os.environ.get("TEST_WARD_PICTURES")
NAME, MANY = "asymmetric", 60
INTENSIVE = 2
CRITICAL = ("Rogers", "Griffin", "Johnson")
"""Patients of the demo with an estimate of hospital death."""
UNITS = ("4 West, internal medicine", "5 East, surgery", "Intensive care", "Stroke unit")
FAMILIES = (
    "Adler", "Brandt", "Costa", "Diallo", "Eriksen", "Fuchs", "Garcia", "Haddad", "Ito", "Jensen", "Kowalski",
    "Lindqvist", "Moreau", "Nguyen", "O'Neill",
)  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>\u202eevil"
WHY = (
    "Raises: lactate 4.2 mmol/L (high), BUN 44 mg/dL (high), GCS 11 (low). Lowers: age 41.",
    "Raises: age 88, urine output 310 mL (low), sodium 128 mmol/L (low).",
    "No abnormal value raises the risk. Lowers: GCS 15, creatinine 0.7 mg/dL.",
)


@dataclass
class Site:
    """The service with its ward, and a browser for which both sites are where they are served."""

    app: Flask
    realm: Realm
    context: Any
    fhir: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ward")
    realms, server = start({})
    env = configuration(folder, realms) | {"RISKCARDS_REFRESH_CLIENTS": NAME}
    settings = patient_settings(env | {"RISKCARDS_REFRESH_SETTLE_SECONDS": "0", "RISKCARDS_TIME_ZONE": "Europe/Berlin"})
    app = create_app(settings)
    keys = app.test_client()
    realm = realms[NAME]
    realm.client_keys = lambda: keys.get("/.well-known/jwks.json").get_json()
    now = datetime.now(UTC)
    charts = [units(), *(resources for _, resources in ward(now))]
    with in_memory(charts) if FULL else sekmet(folder, charts) as fhir:
        realm.wrong = {"ward_behind": fhir}
        if FULL:
            refresh(app, settings)
        else:
            estimate(app, now)
        with two_sites(app, realms, folder) as context:
            yield Site(app, realm, context, fhir)
    server.shutdown()
    server.server_close()
    app.extensions["riskcards"].store.close()


@contextmanager
def in_memory(charts: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    """The base URL of a server that searches thousands of observations at once."""
    with ward_server() as server:
        server.now = datetime.now(UTC)
        for resources in charts:
            server.put(*resources, at=server.now - timedelta(hours=3))
        yield server.url


def units() -> list[dict[str, Any]]:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/location-physical-type", "code": "wa"}]}
    found = [
        {"resourceType": "Location", "id": f"unit-{n}", "name": name, "physicalType": kind}
        for n, name in enumerate(UNITS)
    ]
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}
    found[INTENSIVE]["type"] = [{"coding": [coding]}]
    return found


def ward(now: datetime) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(id, resources) of each inpatient; the last one has a hostile name."""
    drawn = random.Random(23)
    bases = [one for one in shipped(now).patients.values() if one.stay is not None] if FULL else []
    for number in range(MANY):
        name = f"w{number}"
        family = HOSTILE if number == MANY - 1 else FAMILIES[number % len(FAMILIES)]
        if FULL:
            base = bases[number % len(bases)]
            found = renamed(base.chart.resources, base.id, name)
            stay = next(r for r in found if r["resourceType"] == "Encounter" and r["id"] == f"{name}-{base.stay}")
            person = next(r for r in found if r["resourceType"] == "Patient")
        else:
            person, stay = found = inpatient(name, now - timedelta(hours=drawn.randint(3, 400)))
            person["birthDate"] = f"{drawn.randint(1932, 2003)}-{drawn.randint(1, 12):02d}-17"
            person["gender"] = drawn.choice(["female", "male"])
        person["name"] = [{"family": family, "given": [drawn.choice("ABCDEFGHKLMNRST") + "."]}]
        coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}
        person["identifier"] = [{"type": {"coding": [coding]}, "value": f"{700_000 + 137 * number}"}]
        # A whole chart of intensive care stays there: elsewhere the model of hospital death abstains.
        unit = INTENSIVE if FULL and base.name.startswith(CRITICAL) else number % len(UNITS)
        stay["location"] = [{"location": {"reference": f"Location/unit-{unit}"}, "status": "active"}]
        yield name, found


def renamed(resources: list[dict[str, Any]], patient: str, name: str) -> list[dict[str, Any]]:
    """The chart of another patient, ids and all."""
    text = json.dumps(resources)
    for resource in resources:
        kind, old = resource["resourceType"], resource["id"]
        new = name if kind == "Patient" else f"{name}-{old}"[:64]
        text = text.replace(f'"{kind}/{old}"', f'"{kind}/{new}"').replace(f'"id": "{old}"', f'"id": "{new}"')
    found: list[dict[str, Any]] = json.loads(text)
    return found


def refresh(app: Flask, settings: Any) -> None:
    store = app.extensions["riskcards"].store
    with Leases(store.sealed, "refresh-poll", 60) as leases:
        rounds = opened_rounds(settings, store, refresh_servers(settings), leases, True)
        run(rounds, once=True)
    assert rounds[0].worker.tally.estimated == MANY


def estimate(app: Flask, now: datetime) -> None:
    """Estimates of all but six: four abstain, one is too old, one has never been estimated."""
    parts, drawn = app.extensions["riskcards"], random.Random(7)
    estimates = fresh_estimates(parts.settings, parts.store)
    for number in range(MANY - 1 if MANY > 1 else MANY):
        p = min(0.97, drawn.betavariate(1.1, 6))
        ago = timedelta(hours=14) if number == 7 else timedelta(minutes=drawn.choice([2, 9, 31, 75, 200, 430]))
        base = FreshEstimate(
            IN_HOSPITAL_MORTALITY, p, (p / 2, min(1.0, 1.6 * p + 0.01)), 0.11, "", drawn.choice(WHY), p >= 0.15,
            "NEWS2 3 (low)", False, (),
        )  # fmt: skip
        if number % 15 == 3:
            reason = "Too few values of the first day are known: none of GCS, urine output, BUN."
            base = replace(base, probability=None, interval=None, abstention=reason, why="", warns=False)
            base = replace(base, score="NEWS2 9 (high)", score_high=True) if number == 3 else base
        other = replace(base, task=READMISSION_30D, probability=None, interval=None, abstention="Not diabetic.", why="")
        found = PatientEstimates(
            f"Encounter/stay-w{number}", now - ago, "card", {IN_HOSPITAL_MORTALITY: base, READMISSION_30D: other}
        )
        estimates.put(NAME, f"Patient/w{number}", found)


def opened(site: Site, **more: Any) -> Any:
    """The list after a launch, in a window of its own."""
    page = patient_page(site.context, **more)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))
    page.set_viewport_size({"width": 1280, "height": 900})
    query = urlencode({"iss": site.realm.base, "launch": "for-the-ward"})
    page.goto(f"https://{APP}/launch/ward?{query}")
    page.wait_for_selector("#h-ranked")
    return page


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def figures(page: Any) -> list[float]:
    words = page.locator("td.risk b").all_inner_texts()
    edges = {"less than 1 %": 0.0, "more than 99 %": 100.0}
    return [edges[one] if one in edges else float(one.removesuffix(" %")) for one in words]


def test_sixty_inpatients_by_risk(site: Site) -> None:
    page = opened(site)
    shown = figures(page)
    assert shown == sorted(shown, reverse=True)
    apart = page.locator("section[aria-labelledby=h-unranked] tbody tr").count()
    assert len(shown) + apart == MANY
    assert apart >= 1
    assert page.locator("h1").inner_text() == "Ward list by risk: Hospital death"
    assert f"{MANY} inpatients" in page.inner_text("header")
    assert page.faults == []
    picture(page, "ward")
    page.click("header a[href='#h-unranked']")
    picture(page, "ward-unranked")
    page.close()


def test_a_hostile_name_is_text(site: Site) -> None:
    page = opened(site)
    assert page.locator("text=<img src=x onerror=alert(1)>").count() == 1
    assert page.locator("main img").count() == 0
    assert page.faults == []
    page.close()


def test_outcome_and_unit_are_chosen_by_keyboard(site: Site) -> None:
    page = opened(site)
    page.focus("input[name=outcome]:checked")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.type("Int")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**outcome=readmission_30d**")
    assert page.locator("h1").inner_text() == "Ward list by risk: 30-day readmission"
    places = page.locator("td.place").all_inner_texts()
    assert len(places) == MANY // len(UNITS)
    assert all("Intensive care" in place for place in places)
    picture(page, "ward-unit")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_has_no_sideways_scroll(site: Site, scheme: str) -> None:
    page = opened(site)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert page.locator("td.risk b").first.is_visible()
    picture(page, f"ward-narrow-{scheme}")
    page.close()


def test_it_prints_every_patient_on_few_pages(site: Site) -> None:
    page = opened(site)
    sheet = page.pdf(prefer_css_page_size=True, format="A4")
    pages = sheet.count(b"/Type /Page\n") or sheet.count(b"/Type /Page ")
    assert 2 <= pages <= 8
    page.emulate_media(media="print")
    picture(page, "ward-print")
    page.close()


def test_its_text_can_be_read_and_everything_has_a_name(site: Site) -> None:
    from tests.end_to_end.test_accessibility import faults_of

    page = opened(site)
    assert faults_of(page) == []
    page.close()


def test_a_list_that_cannot_be_read(site: Site) -> None:
    kept, site.realm.wrong = site.realm.wrong, {"ward_behind": site.fhir.replace("/fhir", "/empty")}
    page = patient_page(site.context)
    query = urlencode({"iss": site.realm.base, "launch": "for-the-ward"})
    page.goto(f"https://{APP}/launch/ward?{query}")
    assert "could not be read" in page.inner_text("[role=alert]")
    site.realm.wrong = kept
    page.close()
