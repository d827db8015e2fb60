"""The EHR simulator under /demo: pages and charts. The hook calls themselves go from the browser to the service."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, Response, render_template, request, send_from_directory
from markdown_it import MarkdownIt

from cds_service.answering import Answering
from cds_service.app import create_app
from cds_service.app_pages import ChartSource, OpenChart, app_pages
from cds_service.app_pages.chart import reader_of
from cds_service.demo.patients import DemoPatient, Ward
from cds_service.demo.view import chart_view, ward_view
from cds_service.outcome import HookError, json_response
from cds_service.services import SERVICES
from cds_service.settings import Settings
from cds_service.store import Store
from cds_service.strict_json import parse_json
from fhir_mapping import SiteMap

USER = "Practitioner/demo-clinician"
MAX_MARKDOWN = 60_000
# As an EHR should: tables, no raw HTML, no images.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


def create_demo_app(settings: Settings, ward: Ward, store: Store | None = None) -> Flask:
    """The service with the simulator beside it."""
    app = create_app(settings, store=store)
    answering: Answering = app.extensions["riskcards"].answering
    # The simulator launches the app itself, as an EHR does with the link on a card.
    answering.launches_app = True
    app.register_blueprint(
        app_pages("demo_app", "/demo/app", _charts(ward, answering.site_map), answering, ("'self'",))
    )
    app.register_blueprint(simulator(ward))
    return app


def _charts(ward: Ward, site_map: SiteMap | None) -> ChartSource:
    """The ward as charts the app can be opened on; here the word in the address is the patient's id."""

    def chart_of(patient: str, /) -> OpenChart:
        found = _known(ward, patient)
        read = reader_of(found.chart.resources, found.id, found.stay, datetime.now(UTC), site_map)
        return OpenChart(read, USER, name=lambda: found.name, about="synthetic patient", frame_ancestors=("'self'",))

    return chart_of


def simulator(ward: Ward) -> Blueprint:
    """Routes of the simulator for one ward of patients."""
    demo = Blueprint("demo", __name__, url_prefix="/demo", template_folder="templates")
    demo.after_request(_secure)

    @demo.get("/")
    def page() -> str:
        return render_template("demo.html", ward=ward_view(ward), refused=ward.refused)

    @demo.get("/static/<path:name>")
    def static_file(name: str) -> Response:
        return send_from_directory(_static(), name)

    @demo.get("/patients/<patient>")
    def chart(patient: str) -> str:
        return render_template("chart.html", chart=chart_view(_known(ward, patient)))

    @demo.post("/api/request/<service_id>/<patient>")
    def hook_request(service_id: str, patient: str) -> Response:
        """The body an EHR would POST: context, and the prefetch templates of discovery filled from the chart."""
        found = _known(ward, patient)
        if service_id not in SERVICES:
            raise HookError(404, "not-found", "no such service")
        return json_response(_request(found, service_id))

    @demo.post("/api/markdown")
    def markdown() -> Response:
        text = parse_json(request.get_data()).get("text")
        if not isinstance(text, str) or len(text) > MAX_MARKDOWN:
            raise HookError(400, "value", f"text: a string of at most {MAX_MARKDOWN} characters is required")
        return Response(render_markdown(text), mimetype="text/html")

    return demo


def render_markdown(text: str) -> str:
    """Card detail to HTML; raw HTML in it is shown, not run; links open elsewhere without a referrer."""
    html: str = _MARKDOWN.render(text)
    return html.replace("<a href=", '<a target="_blank" rel="noopener noreferrer" href=')


def _request(patient: DemoPatient, service_id: str) -> dict[str, Any]:
    service = SERVICES[service_id]
    context: dict[str, str | None] = {"userId": USER, "patientId": patient.id}
    if patient.stay is not None:
        context["encounterId"] = patient.stay
    if "encounterId" in service.required_context and patient.stay is None:
        raise HookError(412, "not-found", "this patient has no inpatient stay to admit or discharge")
    return {
        "hook": service.hook,
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        "prefetch": patient.chart.fill(service.prefetch, context),
    }


def _known(ward: Ward, patient: str) -> DemoPatient:
    if patient not in ward.patients:
        raise HookError(404, "not-found", "no such patient in this demo")
    return ward.patients[patient]


def _static() -> str:
    return str(__file__).rpartition("blueprint.py")[0] + "static"


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
