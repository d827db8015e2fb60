"""The app factory: discovery, three services, feedback, model cards, health, metrics; every error an OperationOutcome.

create_app(Settings.from_environment(os.environ)) -> Flask
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cds_service.admission import Admission, RateLimit
from cds_service.answering import Answering, Due
from cds_service.app_pages import app_pages
from cds_service.app_pages.smart_charts import frames_of, smart_charts
from cds_service.feedback import receive
from cds_service.metrics import OTHER, Metrics
from cds_service.monitoring.gauges import Gauges
from cds_service.openapi import openapi
from cds_service.outbound import Networks
from cds_service.outcome import HookError, error_response, json_response
from cds_service.read_ahead import reading_ahead
from cds_service.services import SERVICES, Service
from cds_service.settings import Settings
from cds_service.smart.parts import SmartParts
from cds_service.smart.routes import smart_routes
from cds_service.store import Store, StoreError
from cds_service.store.engine import SERVING_SECONDS
from cds_service.trust import ClientsFile, TokenRefusedError, TokenVerifier
from cds_service.trust.tokens import Caller
from fhir_mapping import FhirMappingError
from knowledge_index import KnowledgeIndexError
from risk_model import TASKS, Pipeline, RiskModelError, model_card

LOG = logging.getLogger("riskcards")
_CARD_FORMS = {"html": "text/html", "json": "application/json", "chai-xml": "application/xml"}
_P = ParamSpec("_P")
_T = TypeVar("_T")
_JSON_TYPES = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})


def create_app(settings: Settings, pipeline: Pipeline | None = None, store: Store | None = None) -> Flask:
    """The service. Without a `pipeline` the shipped models and starter index are opened (hashes checked first).

    Raises ArtifactError, ModelArtifactError, SmartSetupError or StoreError rather than start without a part of itself.
    """
    store = store or Store(settings.store_url(), SERVING_SECONDS)
    if pipeline is None:
        pipeline = Pipeline.shipped(
            Path(settings.index) if settings.index else None,
            Path(settings.models) if settings.models else None,
            reading_ahead(settings, store),
        )
    app = Flask("cds_service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    cds = _parts(settings, pipeline, store)
    app.extensions["riskcards"] = cds
    _routes(app, cds)
    app.register_blueprint(smart_routes(cds.smart))
    app.register_blueprint(app_pages("app", "/app", smart_charts(cds), cds.answering, frames_of(cds)))
    cds.answering.launches_app = cds.smart is not None
    _errors(app, cds)
    app.after_request(_cors(settings))
    return app


def _parts(settings: Settings, pipeline: Pipeline, store: Store) -> _Parts:
    metrics = Metrics()
    clients = ClientsFile(Path(settings.cds_clients)) if settings.cds_clients else None
    verifier = None
    if clients is not None:
        verifier = TokenVerifier(lambda: clients.clients, store, Networks.of(settings.private_networks))
    admission = Admission(settings.max_active, settings.max_waiting, settings.deadline_seconds, settings.max_held_bytes)
    return _Parts(
        settings,
        Answering(settings, pipeline, store, metrics, admission),
        store,
        metrics,
        Gauges(store, pipeline.models),
        admission,
        RateLimit(settings.requests_per_minute),
        verifier,
        clients,
        SmartParts.open(settings, store),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the routes share. `demo`, tests and commands reach it as `app.extensions["riskcards"]`."""

    settings: Settings
    answering: Answering
    store: Store
    metrics: Metrics
    gauges: Gauges
    admission: Admission
    rate: RateLimit
    verifier: TokenVerifier | None
    clients: ClientsFile | None
    smart: SmartParts | None

    @property
    def pipeline(self) -> Pipeline:
        return self.answering.pipeline

    def in_time(self, step: Callable[_P, _T], /, *args: _P.args, **more: _P.kwargs) -> _T:
        """A step that asks the store, within the time an answer may take. Raises StoreError past it."""
        return self.answering.steps.run(time.monotonic() + self.settings.deadline_seconds, step, *args, **more)

    def caller(self) -> Caller | None:
        """Who asks, by their token; None where no clients are configured. Raises HookError 401, StoreError.

        The address is our own configured one: a Host header can say anything.
        """
        if self.verifier is None:
            return None
        url = f"{self.settings.public_url.rstrip('/')}{request.path}"
        try:
            caller = self.in_time(self.verifier.verify, request.headers.get("Authorization"), url)
        except TokenRefusedError as error:
            self.metrics.token_refused()
            LOG.info("token refused reason=%s", error.reason)
            raise HookError(401, "login", "authentication is required") from None
        self.rate.take(caller.client.name)
        return caller


def _routes(app: Flask, cds: _Parts) -> None:
    @app.get("/cds-services")
    def discovery() -> Response:
        if not cds.settings.open_discovery:
            cds.caller()
        return json_response({"services": [service.to_json() for service in SERVICES.values()]})

    @app.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        service, started = _service(service_id), time.perf_counter()
        caller = cds.caller()
        spent = time.perf_counter() - started
        with _body(cds) as body:
            # How long the body took is the sender's own time.
            answer = cds.answering.answer(service, body, caller, Due.of(cds.settings, spent))
        cds.metrics.took(service.id, time.perf_counter() - started)
        LOG.info("hook service=%s cards=%d ms=%.0f", service.id, len(answer["cards"]), _ms(started))
        return json_response(answer)

    @app.post("/cds-services/<service_id>/feedback")
    def feedback(service_id: str) -> Response:
        service = _service(service_id)
        caller = cds.caller()
        with _body(cds) as body:
            outcomes = cds.in_time(receive, body, service, cds.store, None if caller is None else caller.asker)
        for outcome in outcomes:
            cds.metrics.feedback(service.id, outcome)
        LOG.info("feedback service=%s entries=%d", service.id, len(outcomes))
        return Response(status=200)

    @app.get("/model-cards/<task>")
    def card(task: str) -> Response:
        form = request.args.get("format", "html")
        if task not in TASKS or form not in _CARD_FORMS:
            raise HookError(404, "not-found", f"model cards: {', '.join(TASKS)}; formats: {', '.join(_CARD_FORMS)}")
        found = model_card(cds.pipeline.models[task].folder)
        if form == "json":
            return json_response(found.to_json())
        text = found.to_html() if form == "html" else found.to_chai_xml()
        response = Response(text, mimetype=_CARD_FORMS[form])
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return response

    @app.get("/openapi.json")
    def description() -> Response:
        return json_response(openapi(cds.settings.public_url))

    @app.get("/health/live")
    def live() -> Response:
        return json_response({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        try:
            cds.in_time(cds.store.check)
        except StoreError as error:
            raise HookError(503, "transient", str(error), retry_after=5) from None
        models = {task: f"{m.manifest['model_id']} {m.manifest['version']}" for task, m in cds.pipeline.models.items()}
        answer = {"status": "ready", "models": models, "articles": len(cds.pipeline.index)}
        if cds.clients is not None and cds.clients.clients and cds.clients.fault:
            # The clients of before go on; whoever watches readiness learns that a change was not taken.
            answer["clients"] = "the clients file was changed and cannot be read; the old clients are still served"
        return json_response(answer)

    @app.get("/metrics")
    def metrics() -> Response:
        try:
            cds.metrics.watched(cds.in_time(cds.gauges.figures))
        except StoreError as error:
            # The counters are still true, and readiness says that the store is down.
            LOG.error("monitoring %s", error)
        return Response(cds.metrics.text(*cds.admission.load), mimetype="text/plain; version=0.0.4")


def _service(identifier: str) -> Service:
    if identifier not in SERVICES:
        raise HookError(404, "not-found", f"no such service; there are {', '.join(SERVICES)}")
    return SERVICES[identifier]


@contextmanager
def _body(cds: _Parts) -> Iterator[bytes]:
    """The body, within the memory all bodies may take together. Raises HookError 413, 415, 503."""
    if request.mimetype not in _JSON_TYPES:
        raise HookError(415, "not-supported", "Content-Type must be application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HookError(415, "not-supported", "the body must not be compressed")
    length, most = request.content_length, cds.settings.max_body_bytes
    # A body in chunks says no length and would be cut at the limit without a word: a byte more tells that it goes on.
    request.max_content_length = most + 1
    with cds.admission.hold(most if length is None else min(length, 2**31)):
        body = request.get_data(cache=False)
        if len(body) > most:
            raise HookError(413, "too-costly", f"a body holds at most {most} bytes")
        yield body


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _errors(app: Flask, cds: _Parts) -> None:
    """Every exception becomes a status with an OperationOutcome; nothing of the request is logged."""

    def label() -> str:
        found = (request.view_args or {}).get("service_id", "")
        return found if found in SERVICES else OTHER

    @app.errorhandler(HookError)
    def refused(error: HookError) -> Response:
        cds.metrics.answered(label(), f"status-{error.status}")
        LOG.info("refused status=%d code=%s", error.status, error.code)
        return error_response(error)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        codes = {404: "not-found", 405: "not-supported", 413: "too-costly", 415: "not-supported"}
        status = error.code or 500
        cds.metrics.answered(label(), f"status-{status}")
        response = error_response(HookError(status, codes.get(status, "processing"), error.name))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(StoreError)
    def store_down(error: StoreError) -> Response:
        cds.metrics.answered(label(), "status-503")
        LOG.error("store %s", error)
        return error_response(HookError(503, "transient", "the audit store is not available", retry_after=5))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        incident = uuid.uuid4().hex[:12]
        known = isinstance(error, FhirMappingError | KnowledgeIndexError | RiskModelError)
        cds.metrics.answered(label(), "status-500")
        # The type and the place, never the message: a message may quote the patient's data.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "unknown"
        LOG.error("incident=%s error=%s at=%s known=%s", incident, error.__class__.__name__, place, known)
        return error_response(HookError(500, "exception", f"our fault; incident {incident}"))


def _cors(settings: Settings) -> Callable[[Response], Response]:
    """CORS for browser-based clients; preflight is answered by Flask's own OPTIONS."""

    def add(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin and ("*" in settings.allowed_origins or origin in settings.allowed_origins):
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in settings.allowed_origins else origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Accept"
            response.headers["Access-Control-Expose-Headers"] = "Origin, Accept, Content-Location, Location"
            response.headers["Vary"] = "Origin"
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return add
