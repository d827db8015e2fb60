"""The EHR simulator under /demo: pages and charts. Hook calls go from the browser to the service."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Flask, Response, redirect, render_template, request, send_from_directory
from markdown_it import MarkdownIt

from artifact_store import MemoryCache
from cds_hooks import HookError, parse_json
from cds_hooks.blueprint import json_response
from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.chart import ChartSource, OpenChart, reader_of
from cds_service.application.factory import create_app
from cds_service.cards.wording import outcome_name
from cds_service.config.settings import Settings
from cds_service.demo.ehr import DemoEhr, ehr_routes
from cds_service.demo.guard import DemoGuard
from cds_service.demo.requests import USER, hook_request
from cds_service.demo.trace_page import times_of, trace_view
from cds_service.demo.view import chart_view, ward_view
from cds_service.demo.ward.patients import DemoPatient, DemoWard
from cds_service.demo.ward_risk import WardRisks
from cds_service.explanations.formatting import format_moment
from cds_service.hooks.hook_handler import HookHandler
from cds_service.hooks.request_trace import RequestTrace
from cds_service.services import SERVICES
from cds_service.store.store import Store
from fhir_mapping import SiteMap
from risk_model import TASKS

MAX_MARKDOWN = 60_000
TRACES = 12
"""The newest traces are kept, by `hookInstance`."""
Traces = MemoryCache[RequestTrace]
_STATIC = Path(__file__).parent / "static"
# What an EHR should render: tables, but no raw HTML and no images.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


def create_demo_app(
    settings: Settings, ward: DemoWard, store: Store | None = None, guard: DemoGuard | None = None
) -> Flask:
    """Returns the service with the simulator. With SMART clients (`demo_settings`) the app is launched as by an EHR;
    without, the simulator opens it on the selected chart. `guard` says who may see its charts; by default requests to
    the host of the public URL.
    """
    traces: Traces = MemoryCache(TRACES)

    def keep(trace: RequestTrace) -> None:
        traces.put(trace.asked.hook_instance, trace)

    app = create_app(settings, store=store, launches_app=True, on_trace=keep)
    app.before_request((guard or DemoGuard(settings.public_url)).check)
    handler: HookHandler = app.extensions["riskcards"].handler
    risks = WardRisks(handler)
    app.extensions["riskcards-ward"] = risks
    app.register_blueprint(app_pages("demo_app", "/demo/app", _charts(ward, handler.site_map), handler, ("'self'",)))
    # The demo is all there is to see here.
    app.add_url_rule("/", "demo_home", lambda: redirect("/demo/"))
    app.register_blueprint(simulator(ward, handler, traces, risks, launches=bool(settings.smart_clients)))
    if settings.smart_clients:
        app.register_blueprint(ehr_routes(DemoEhr(settings.public_url.rstrip("/"), ward)))
    return app


def _charts(ward: DemoWard, site_map: SiteMap | None) -> ChartSource:
    """The ward as chart source of the app; the session id in the URL is the patient's id."""

    def chart_of(patient: str, /) -> OpenChart:
        found = _known(ward, patient)
        read = reader_of(found.chart.resources, found.id, found.stay, datetime.now(UTC), site_map)
        return OpenChart(read, USER, name=lambda: found.name, about="synthetic patient", frame_ancestors=("'self'",))

    return chart_of


def simulator(ward: DemoWard, handler: HookHandler, traces: Traces, risks: WardRisks, *, launches: bool) -> Blueprint:
    """Routes of the simulator for one ward of patients."""
    demo = Blueprint("demo", __name__, url_prefix="/demo", template_folder="templates")
    demo.after_request(_secure)
    demo.add_app_template_filter(format_moment, "moment")

    @demo.get("/")
    def page() -> str:
        known = {patient.id: risks.known(patient) for patient in ward.patients.values()}
        return render_template(
            "demo.html",
            ward=ward_view(ward),
            refused=ward.refused,
            risks=known,
            source=ward.source,
            launches=launches,
            now=format_moment(datetime.now(UTC)),
            sorts=[(task, outcome_name(TASKS[task])) for task in SERVICES["hospital-risk"].tasks],
        )

    @demo.get("/static/<path:name>")
    def static_file(name: str) -> Response:
        return send_from_directory(_STATIC, name)

    @demo.get("/patients/<patient>")
    def chart(patient: str) -> str:
        return render_template("chart.html", chart=chart_view(_known(ward, patient)))

    @demo.get("/api/risk/<patient>")
    def risk(patient: str) -> Response:
        return json_response([item.to_json() for item in risks.of(_known(ward, patient))])

    @demo.post("/api/request/<service_id>/<patient>")
    def prepared(service_id: str, patient: str) -> Response:
        """The body an EHR would POST: context, and the prefetch templates of discovery filled from the chart."""
        found = _known(ward, patient)
        if service_id not in SERVICES:
            raise HookError(404, "not-found", "no such service")
        return json_response(hook_request(found, SERVICES[service_id]))

    @demo.get("/trace/<hook_instance>")
    def trace(hook_instance: str) -> str:
        found = _traced(traces, hook_instance)
        view = trace_view(found, handler.pipeline.models)
        return render_template("trace.html", trace=view, patient=found.asked.patient_id)

    @demo.get("/api/trace/<hook_instance>")
    def times(hook_instance: str) -> Response:
        return json_response(times_of(_traced(traces, hook_instance)))

    @demo.post("/api/markdown")
    def markdown() -> Response:
        text = parse_json(request.get_data()).get("text")
        if not isinstance(text, str) or len(text) > MAX_MARKDOWN:
            raise HookError(400, "value", f"text: a string of at most {MAX_MARKDOWN} characters is required")
        return Response(render_markdown(text), mimetype="text/html")

    return demo


def render_markdown(text: str) -> str:
    """Renders card detail as HTML; raw HTML is escaped, and links open in a new tab without a referrer."""
    html: str = _MARKDOWN.render(text)
    return html.replace("<a href=", '<a target="_blank" rel="noopener noreferrer" href=')


def _known(ward: DemoWard, patient: str) -> DemoPatient:
    if patient not in ward.patients:
        raise HookError(404, "not-found", "no such patient in this demo: choose one from the list")
    return ward.patients[patient]


def _traced(traces: Traces, hook_instance: str) -> RequestTrace:
    found = traces.get(hook_instance)
    if found is None:
        raise HookError(404, "not-found", "this request trace has expired: open the chart again, then its trace")
    return found


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
