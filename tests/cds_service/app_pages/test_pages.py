"""The app for every demo patient and for charts that mean harm: whole, valid, quiet, and nothing of the chart runs."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.config.modes import Mode
from cds_service.demo.ward.patients import DemoPatient, DemoWard
from cds_service.explanations.notes import note_key
from cds_service.hooks.estimate_records import replay
from cds_service.hooks.hook_handler import HookHandler
from cds_service.store.store import MOST_FEEDBACK
from fhir_mapping import PatientRecord
from knowledge_index import Evidence, PathStep
from risk_model import Assessment
from risk_model.reports.templating import shared_stylesheet
from tests.cds_service.app_pages.conftest import SEPSIS, resources
from tests.cds_service.app_pages.documents import Document

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="x\' {{7*7}}'


def document(app: Flask, address: str, status: int = 200) -> Document:
    response = app.test_client().get(address)
    assert response.status_code == status
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-anc")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    return Document(response.get_data(as_text=True))


def test_every_demo_patient_has_a_complete_page(app: Flask, patient: str) -> None:
    page = document(app, f"/demo/app/{patient}/")
    assert page.faults == []
    assert len(page.all("h1")) == len(page.all("main")) == 1
    outside = {a["href"] for a in page.all("a") if "//" in a.get("href", "")}
    assert all(re.fullmatch(r"https://pubmed\.ncbi\.nlm\.nih\.gov/\d+/", url) for url in outside)
    assert page.all("link")
    assert all("//" not in a.get("src", "") + a.get("href", "") for a in page.all("script") + page.all("link"))
    text = " ".join(page.text)
    assert text.count("patients like this one") + text.count("No estimate") >= 2
    assert "Unknown values are never treated as normal" in text


def test_the_course_is_a_page_and_a_fragment(app: Flask, patient: str) -> None:
    address = f"/demo/app/{patient}/course"
    page = document(app, address)
    assert page.faults == []
    assert len(page.all("h1")) == 1
    fragment = app.test_client().get(address, headers={"X-Fragment": "1"}).get_data(as_text=True)
    assert "<h1" not in fragment
    assert Document(fragment).faults == []


def test_a_chart_that_means_harm_stays_text(
    app: Flask, handler: HookHandler, opened: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, problems, reasons, notes and the titles of articles are shown as they are written, and nothing runs."""
    note = f"Assessment: septic shock {HOSTILE} and pneumonia."
    chart = resources(SEPSIS)
    stay = next(r for r in chart if r["resourceType"] == "Encounter")
    stay["reasonCode"] = [{"text": HOSTILE}]
    chart += [
        {
            "resourceType": "Condition", "id": "harm", "subject": stay["subject"], "code": {"text": HOSTILE},
            "recordedDate": "2024-02-10T09:00:00Z",
        },
        {
            "resourceType": "DocumentReference", "id": "harm", "status": "current", "subject": stay["subject"],
            "type": {"text": HOSTILE}, "date": "2024-02-10T12:00:00Z",
            "content": [{"attachment": {
                "contentType": "text/plain", "data": base64.b64encode(note.encode()).decode(),
            }}],
        },
    ]  # fmt: skip
    harm = Evidence(
        "123",
        HOSTILE,
        HOSTILE,
        1.0,
        "graph",
        2001,
        "cohort",
        (PathStep(HOSTILE, "heading of", "PMID 123"),),
        (HOSTILE,),
    )
    assess = handler.pipeline.assess

    def with_harm(*args: Any, **more: Any) -> Assessment:
        return replace(assess(*args, **more), evidence=(harm,))

    monkeypatch.setattr(handler.pipeline, "assess", with_harm)
    address = opened(chart, name=lambda: HOSTILE, about=HOSTILE)
    raw = app.test_client().get(address).get_data(as_text=True)
    page = Document(raw)
    assert page.faults == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert raw.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "{{7*7}}" in raw
    key = re.search(r'href="note/([0-9a-f]{16})#text"', raw)
    assert key is not None
    whole = document(app, f"{address}note/{key.group(1)}")
    assert whole.faults == []
    assert whole.all("img") == []
    assert note in "".join(whole.text)
    assert "septic shock" in "".join(whole.marked).casefold()


def test_addresses_hold_nothing_of_the_patient(app: Flask, ward: DemoWard, opened: Callable[..., str]) -> None:
    patient = next(p for p in ward.patients.values() if "Rogers" in p.name)
    address = opened(patient.chart.resources, datetime.now(UTC))
    page = document(app, address)
    ids = {str(r["id"]) for r in patient.chart.resources if "id" in r} | {"Rogers", "Linda", patient.id}
    links = [a[name] for _, a in page.tags for name in ("href", "action", "src", "data-load") if name in a]
    assert len(links) > 20
    assert not [link for link in links if any(one in link for one in ids if len(one) > 3)]


def test_what_a_note_says_is_marked_where_it_stands(app: Flask, handler: HookHandler, ward: DemoWard) -> None:
    """The pieces of a note's page put together are the note, and every mark is a finding's own words."""
    patient = next(p for p in ward.patients.values() if "Rogers" in p.name)
    record = _record(patient)
    findings = handler.pipeline.reader.read(record.notes()).findings
    assert findings
    for note in {f.note_source: n for f in findings for n in record.notes() if n.source == f.note_source}.values():
        page = document(app, f"/demo/app/{patient.id}/note/{note_key(note.source)}")
        assert note.text in "".join(page.text)
        quotes = {f.quote for f in findings if f.note_source == note.source}
        assert page.marked
        assert set(page.marked) <= quotes


def test_what_was_shown_is_kept_and_replays_to_the_same_number(
    app: Flask, any_patient: str, handler: HookHandler
) -> None:
    page = document(app, f"/demo/app/{any_patient}/")
    shown = next(a["value"] for a in page.all("input") if a.get("name") == "view")
    kept = handler.store.card_record(shown)
    assert kept is not None
    assert kept["service"] == "app"
    assert len(kept["estimates"]) == 2
    assert all(replay(estimate, handler.pipeline.models[estimate["task"]]).same for estimate in kept["estimates"])


def test_feedback_reaches_the_store_and_its_comment_not_the_chain(
    app: Flask, any_patient: str, handler: HookHandler
) -> None:
    client, address = app.test_client(), f"/demo/app/{any_patient}/"
    page = Document(client.get(address).get_data(as_text=True))
    shown = next(a["value"] for a in page.all("input") if a.get("name") == "view")
    form = {"view": shown, "opinion": "not-useful", "comment": "canary-comment"}
    assert client.post(f"{address}feedback", data=form).status_code == 200
    last = handler.store.feedback()[-1]
    assert (last["card"], last["outcome"]) == (shown, "not-useful")
    assert last["overrideReason"]["userComment"] == "canary-comment"
    entries = handler.store.audit_entries("feedback")
    assert entries[-1].subject == shown
    assert "canary" not in str(entries[-1].body)
    assert client.post(f"{address}feedback", data=form | {"opinion": "splendid"}).status_code == 400
    assert client.post(f"{address}feedback", data=form | {"view": "somebody-elses"}).status_code == 404
    assert client.get(f"{address}feedback").status_code == 405


def test_nothing_of_a_patient_reaches_the_log(
    app: Flask, opened: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    chart = resources(SEPSIS)
    stay = next(r for r in chart if r["resourceType"] == "Encounter")
    stay["reasonCode"] = [{"text": "canary-reason"}]
    address, client = opened(chart, name=lambda: "canary-name"), app.test_client()
    page = client.get(address).get_data(as_text=True)
    assert "canary-reason" in page
    assert "canary-name" in page
    client.post(f"{address}what-if", data={"lactate": "canary-value"})
    client.post(f"{address}feedback", data={"view": "canary-view", "opinion": "useful", "comment": "canary-comment"})
    client.get(f"{address}note/canary-key")
    assert "canary" not in caplog.text


def test_feedback_is_taken_from_the_session_that_was_shown_the_page_and_not_without_end(
    app: Flask, opened: Callable[..., str], handler: HookHandler
) -> None:
    """A view of another session was accepted, and two thousand rows for one view."""
    client = app.test_client()
    mine, other = opened(resources(SEPSIS)), opened(resources(SEPSIS))
    page = Document(client.get(mine).get_data(as_text=True))
    shown = next(a["value"] for a in page.all("input") if a.get("name") == "view")
    form = {"view": shown, "opinion": "useful"}
    assert client.post(f"{other}feedback", data=form).status_code == 404
    codes = [
        client.post(f"{mine}feedback", data=form | {"comment": str(n)}).status_code for n in range(MOST_FEEDBACK + 3)
    ]
    assert codes == [200] * MOST_FEEDBACK + [429] * 3
    entry = handler.store.audit_entries("feedback")[-1]
    assert (entry.body or {})["user_hash"] == handler.store.user_hash("Practitioner/p")


HIDDEN = {"override": "\u202e", "isolate": "\u2066", "mark": "\u200f", "tag": "\U000e0041", "zero width": "\u200b"}


@pytest.mark.parametrize("name", HIDDEN)
def test_invisible_characters_are_removed_from_pages(app: Flask, opened: Callable[..., str], name: str) -> None:
    hidden, chart = HIDDEN[name], resources(SEPSIS)
    stay = next(r for r in chart if r["resourceType"] == "Encounter")
    stay["reasonCode"] = [{"text": f"septic{hidden} shock"}]
    note = base64.b64encode(f"Assessment: no{hidden} pneumonia.".encode()).decode()
    chart.append(
        {
            "resourceType": "DocumentReference", "id": "hidden", "status": "current", "subject": stay["subject"],
            "type": {"text": f"Ward{hidden} round"}, "date": "2024-02-10T12:00:00Z",
            "content": [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": note}}],
        }
    )  # fmt: skip
    address = opened(chart, name=lambda: f"Doe{hidden}, Ann")
    client = app.test_client()
    text = client.get(address).get_data(as_text=True)
    assert "Doe, Ann" in text
    assert "septic shock" in text
    links = [a["href"].partition("#")[0] for a in Document(text).all("a") if a.get("href", "").startswith("note/")]
    for each in (text, *(client.get(f"{address}{link}").get_data(as_text=True) for link in links)):
        assert hidden not in each
    joined = opened(resources(SEPSIS), name=lambda: "نمی\u200cدانم")
    assert "نمی\u200cدانم" in client.get(joined).get_data(as_text=True), "joiners belong to a name"


def test_a_task_that_is_off_is_on_no_page(
    app: Flask, any_patient: str, handler: HookHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler.modes, "_overrides", {})
    handler.modes.override("task:readmission_30d", "*", "off")
    address = f"/demo/app/{any_patient}"
    for path in ("/", "/course", "/drivers"):
        page = document(app, f"{address}{path}")
        assert "readmission" not in " ".join(page.text).lower(), path
    handler.modes.override("in-hospital-mortality", "*", "off")
    document(app, f"{address}/", 403)


@pytest.mark.parametrize("mode", ["off", "silent", "pilot"])
def test_where_cards_are_not_shown_the_app_shows_nothing_either(
    app: Flask, any_patient: str, handler: HookHandler, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler.modes, "of", lambda service, tenant: Mode(mode))
    for path in ("", "course"):
        page = document(app, f"/demo/app/{any_patient}/{path}", 403)
        assert page.faults == []
        assert "%" not in " ".join(page.text)


def test_only_the_roles_of_the_site_see_it(app: Flask, opened: Callable[..., str]) -> None:
    page = document(app, opened(resources(SEPSIS), user="Patient/p"), 403)
    assert "available to clinicians" in " ".join(page.text)


def test_no_such_session_and_another_patients_data_are_said_in_words(
    app: Flask, any_patient: str, opened: Callable[..., str]
) -> None:
    assert document(app, "/tested/nobody/", 404).faults == []
    assert document(app, f"/demo/app/{any_patient}/note/0000", 404).faults == []
    foreign = {"resourceType": "Condition", "id": "x", "subject": {"reference": "Patient/other"}, "code": {"text": "x"}}
    page = document(app, opened([*resources(SEPSIS), foreign]), 412)
    assert "another patient" in " ".join(page.text)


def test_a_card_links_the_app_only_where_it_can_be_launched(app: Flask, ward: DemoWard, handler: HookHandler) -> None:
    client = app.test_client()
    patient = next(p for p in ward.patients.values() if p.stay)
    body = client.post(f"/demo/api/request/hospital-risk/{patient.id}", json={}).get_json()
    card = client.post("/cds-services/hospital-risk", json=body).get_json()["cards"][0]
    smart = [link for link in card["links"] if link["type"] == "smart"]
    assert smart[0]["appContext"] == card["uuid"]
    assert smart[0]["url"].endswith("/launch")
    without = create_app(handler.settings, handler.pipeline, handler.store)
    again = without.test_client().post("/cds-services/hospital-risk", json=body).get_json()["cards"][0]
    assert again["links"]
    assert all(link["type"] == "absolute" for link in again["links"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_colour_stands_out(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 between each colour of text and what it stands on, in both schemes."""
    blocks = [
        dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root\{([^}]+)\}", shared_stylesheet())
    ]
    colours = blocks[0] if scheme == "light" else blocks[0] | blocks[1]
    pairs = [
        (ink, paper)
        for ink in ("ink", "dim", "accent", "up", "down", "good", "bad", "warn")
        for paper in ("paper", "back")
    ]
    for ink, paper in [*pairs, ("paper", "accent"), ("markink", "mark"), ("ink", "soft"), ("accent", "soft")]:
        assert _contrast(colours[ink], colours[paper]) >= 4.5, f"{ink} on {paper} in {scheme}"


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _record(patient: DemoPatient) -> PatientRecord:
    return PatientRecord.from_resources(
        patient.chart.resources, patient.id, datetime.now(UTC), encounter_id=patient.stay
    )
