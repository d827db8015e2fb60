"""A chart and literature that mean harm, in a real browser: everywhere they are shown, as written, and nothing runs.

A policy that blocks a script would hide that its markup got through: a complaint of the browser fails the test too.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.setup import demo_settings
from cds_service.demo.ward.folder import from_folder
from knowledge_index import Evidence, PathStep
from tests.end_to_end.conftest import free_port, tab
from tests.end_to_end.golden import EXAMPLES
from tests.patience import patient

pytestmark = pytest.mark.browser
HARM = '"><img src=x onerror="window.ran=1"><script>window.ran=1</script><a href="javascript:window.ran=1">x</a>{{7*7}}'


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sepsis stay with harm in every text a person could have typed."""
    folder = tmp_path_factory.mktemp("harm")
    bundle = json.loads((EXAMPLES / "sepsis-icu-first-day" / "bundle.json").read_text("utf-8"))
    resources = [entry["resource"] for entry in bundle["entry"]]
    stay = next(r for r in resources if r["resourceType"] == "Encounter")
    stay["reasonCode"] = [{"text": HARM}]
    next(r for r in resources if r["resourceType"] == "Patient")["name"] = [{"family": HARM, "given": [HARM]}]
    subject, text = stay["subject"], f"Assessment: septic shock {HARM} and pneumonia."
    data = base64.b64encode(text.encode()).decode()
    bundle["entry"] += [
        {"resource": {"id": f"harm-{number}", "subject": subject, **resource}}
        for number, resource in enumerate(
            (
                {"resourceType": "Condition", "code": {"text": HARM}, "recordedDate": "2024-02-10T09:00:00Z"},
                {
                    "resourceType": "DocumentReference", "status": "current", "type": {"text": HARM},
                    "date": "2024-02-10T12:00:00Z",
                    "content": [{"attachment": {"contentType": "text/plain", "data": data}}],
                },
                {
                    "resourceType": "MedicationRequest", "status": "active", "intent": "order",
                    "medicationCodeableConcept": {"text": HARM}, "authoredOn": "2024-02-10T09:00:00Z",
                },
                {
                    "resourceType": "Procedure", "status": "completed", "code": {"text": HARM},
                    "performedDateTime": "2024-02-10T10:00:00Z",
                },
            )
        )
    ]  # fmt: skip
    (folder / "harm.json").write_text(json.dumps(bundle))
    (folder / f"{'<img src=x onerror=alert(1)>'}.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def served(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The demo over that ward, whose literature means harm too: its address, and the patient."""
    address = f"http://127.0.0.1:{free_port()}"
    app = create_demo_app(patient(demo_settings(address, tmp_path_factory.mktemp("demo"))), charts := from_folder(ward))
    _poisoned(app)
    server = make_server("127.0.0.1", int(address.rpartition(":")[2]), app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield address, next(iter(charts.patients))
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["riskcards"].store.close()


def _poisoned(app: Flask) -> None:
    path = (PathStep(HARM, "heading of", "PMID 123"),)
    harm = Evidence("123", HARM, HARM, 1.0, "graph", 2001, HARM, path, (HARM,), references=("124",))
    pipeline = app.extensions["riskcards"].handler.pipeline
    assess = pipeline.assess
    pipeline.assess = lambda *args, **more: replace(assess(*args, **more), evidence=(harm,))
    pipeline.evidence_on = lambda *_: (harm,)


def untouched(page: Any) -> None:
    for frame in page.frames:
        assert frame.evaluate("window.ran") is None
        assert frame.locator("img, a[href^='javascript:']").count() == 0
    assert page.faults == [], "the browser had something to block"


def test_harm_is_shown_and_does_nothing(browser: Any, served: tuple[str, str]) -> None:
    address, patient = served
    page = tab(browser)
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))
    page.goto(f"{address}/demo/")
    page.wait_for_selector("#cards[data-answered]", state="attached")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.inner_text("#chart").count("<script>window.ran=1</script>") >= 5
    untouched(page)
    trace = str(page.locator("a[href^='/demo/trace/']").first.get_attribute("href"))
    page.click(".launch")
    page.frame_locator("#app-frame").locator("[data-load=course][data-loaded]").wait_for()
    untouched(page)
    page.goto(f"{address}/demo/app/{patient}/")
    page.wait_for_selector("[data-load=course][data-loaded]")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    shown = page.inner_text("body")
    assert shown.count("<script>window.ran=1</script>") >= 6
    assert "{{7*7}}" in shown
    page.locator(".node").first.focus()
    untouched(page)
    for place in (f"{address}/demo/app/{patient}/{page.get_attribute('a[href^=note]', 'href')}", address + trace):
        page.goto(place)
        assert "<script>" in page.inner_text("body")
        untouched(page)
    page.close()
