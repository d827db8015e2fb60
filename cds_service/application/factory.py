"""The app factory: discovery, three services, feedback, model cards, health, metrics; every error an OperationOutcome.

create_app(Settings.from_environment(os.environ)) -> Flask
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Unpack

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cds_hooks import HookError
from cds_hooks.blueprint import cors_headers, error_response
from cds_hooks.errors import quoted
from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.smart_charts import frames_of, smart_charts
from cds_service.app_pages.visible import visible
from cds_service.application.local_control import mark_in_use
from cds_service.application.operators import keep_to_admin_paths
from cds_service.application.parts import HandlerOptions, ServiceParts
from cds_service.application.routes import document_routes, health_routes, hook_routes
from cds_service.background.read_ahead import deferred_asking, deferred_reading
from cds_service.config.settings import Settings
from cds_service.monitoring.metrics import OTHER
from cds_service.protocol.services import SERVICES
from cds_service.runtime.admission import OverloadedError, RateLimitedError
from cds_service.smart.routes import smart_routes
from cds_service.store.errors import StoreError, TooMuchFeedbackError
from cds_service.store.store import Store
from fhir_mapping import FhirMappingError
from knowledge_index import KnowledgeIndexError
from risk_model import Pipeline, RiskModelError

LOG = logging.getLogger("riskcards")


def create_app(
    settings: Settings,
    pipeline: Pipeline | None = None,
    store: Store | None = None,
    *,
    launches_app: bool | None = None,
    **options: Unpack[HandlerOptions],
) -> Flask:
    """The service. Without a `pipeline` the shipped models and starter index are opened (hashes checked first).

    `launches_app`: whether cards link the SMART app; by default, whether SMART clients are configured.
    Raises ArtifactError, ModelArtifactError, SmartSetupError or StoreError if any part cannot be opened.
    """
    store = store or settings.open_store(settings.store_seconds)
    mark_in_use(store, settings)
    if pipeline is None:
        pipeline = Pipeline.shipped(
            Path(settings.index) if settings.index else None,
            Path(settings.models) if settings.models else None,
            deferred_reading(settings, store),
            deferred_asking(settings, store),
        )
    app = Flask("cds_service", static_folder=None)
    app.jinja_options = {"finalize": visible}
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    cds = ServiceParts.open(settings, pipeline, store, launches_app=launches_app, **options)
    app.extensions["riskcards"] = cds
    for routes in (hook_routes, document_routes, health_routes):
        app.register_blueprint(routes(cds))
    app.register_blueprint(smart_routes(cds.smart))
    app.register_blueprint(app_pages("app", "/app", smart_charts(cds), cds.answering, frames_of(cds)))
    app.before_request(lambda: keep_to_admin_paths(request))
    _errors(app, cds)
    app.after_request(cors_headers(settings.allowed_origins))
    return app


def _errors(app: Flask, cds: ServiceParts) -> None:
    """Answers every exception with a status and an OperationOutcome, and never logs request content."""

    def label() -> str:
        found = (request.view_args or {}).get("service_id", "")
        return found if found in SERVICES else OTHER

    @app.errorhandler(HookError)
    def refused(error: HookError) -> Response:
        cds.metrics.answered(label(), f"status-{error.status}")
        client = g.get("riskcards_client")
        LOG.info(
            "refused status=%d code=%s service=%s client=%s why=%s",
            error.status, error.code, label(), client, quoted(error.diagnostics),
        )  # fmt: skip
        return error_response(error)

    @app.errorhandler(OverloadedError)
    def overloaded(error: OverloadedError) -> Response:
        status = 429 if isinstance(error, RateLimitedError) else 503
        return refused(HookError(status, "throttled", str(error), retry_after=error.retry_after))

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

    @app.errorhandler(TooMuchFeedbackError)
    def much_feedback(_: TooMuchFeedbackError) -> Response:
        return refused(HookError(429, "throttled", "a card of this request has enough feedback", retry_after=3600))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        incident = uuid.uuid4().hex[:12]
        known = isinstance(error, FhirMappingError | KnowledgeIndexError | RiskModelError)
        cds.metrics.answered(label(), "status-500")
        # The type and the line of code, never the message, which may quote patient data.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "unknown"
        LOG.error("incident=%s error=%s at=%s known=%s", incident, error.__class__.__name__, place, known)
        return error_response(HookError(500, "exception", f"our fault; incident {incident}"))
