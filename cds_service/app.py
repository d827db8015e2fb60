"""The app factory: discovery, three services, feedback, model cards, health, metrics; every error an OperationOutcome.

create_app(Settings.from_environment(os.environ)) -> Flask
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from cds_service.cards import build_card
from cds_service.cards.card import Thresholds
from cds_service.feedback import receive
from cds_service.gateway import Gateway
from cds_service.hook_request import HookRequest, parse_request
from cds_service.outcome import HookError, error_response, json_response
from cds_service.prediction_time import find_encounter, prediction_time
from cds_service.prefetch import complete
from cds_service.services import SERVICES, Service
from cds_service.settings import Settings
from cds_service.store import Store, StoreError
from fhir_mapping import FhirMappingError, ForeignPatientError, InvalidInputError, PatientNotFoundError, PatientRecord
from knowledge_index import KnowledgeIndexError
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS, Pipeline, RiskModelError, model_card

LOG = logging.getLogger("riskcards")
_CARD_FORMS = {"html": "text/html", "json": "application/json", "chai-xml": "application/xml"}
_JSON_TYPES = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})


def create_app(settings: Settings, pipeline: Pipeline | None = None, store: Store | None = None) -> Flask:
    """The service. Without a `pipeline` the shipped models and starter index are opened (hashes checked first).

    Raises ArtifactError, ModelArtifactError or StoreError rather than start without a part of itself.
    """
    if pipeline is None:
        pipeline = Pipeline.shipped(
            Path(settings.index) if settings.index else None, Path(settings.models) if settings.models else None
        )
    app = Flask("cds_service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    cds = _CdsService(settings, pipeline, store or Store(settings.store_url()))
    app.extensions["riskcards"] = cds
    _routes(app, cds)
    _errors(app, cds)
    app.after_request(_cors(settings))
    return app


class _CdsService:
    """What the routes share: the parts that answer, and counters with a closed set of labels."""

    def __init__(self, settings: Settings, pipeline: Pipeline, store: Store) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.store = store
        self.gateway = Gateway(settings.fhir_servers, settings.fetch_seconds)
        self.thresholds = Thresholds(
            {READMISSION_30D: settings.readmission_threshold, IN_HOSPITAL_MORTALITY: settings.mortality_threshold}
        )
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def count(self, service: str, result: str) -> None:
        with self._lock:
            self._counts[(service, result)] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._counts)

    def preview(self, service: Service, body: bytes) -> None:
        """Read and assess a request without a card: what was read once (encoded notes, opened models) stays warm."""
        asked = parse_request(body, service)
        record = self._record(asked, service, complete(asked, service, self.gateway))
        if record.current_stay is not None:
            for task in service.tasks:
                self.pipeline.assess(record, task)

    def answer(self, service: Service, body: bytes) -> dict[str, Any]:
        """The cards for one request. Raises HookError for everything that is not guidance or its honest absence."""
        asked = parse_request(body, service)
        prefetch = complete(asked, service, self.gateway)
        record = self._record(asked, service, prefetch)
        if record.current_stay is None:
            if asked.encounter_id is not None and service.hook != "patient-view":
                raise HookError(412, "not-found", "context.encounterId: no such inpatient stay in the data")
            self.count(service.id, "no-stay")
            return {"cards": []}
        assessments = [self.pipeline.assess(record, task) for task in service.tasks]
        card = build_card(assessments, record, public_url=self.settings.public_url, thresholds=self.thresholds)
        self.store.record_card(
            card,
            service=service.id,
            hook_instance=asked.hook_instance,
            patient=asked.patient_id,
            assessments=assessments,
        )
        abstained = all(assessment.estimate.abstention for assessment in assessments)
        self.count(service.id, "abstained" if abstained else "card")
        return {"cards": [card]}

    def _record(self, asked: HookRequest, service: Service, prefetch: dict[str, Any]) -> PatientRecord:
        at = prediction_time(service.hook, find_encounter(prefetch, asked.encounter_id), self.clock())
        try:
            return PatientRecord.from_prefetch(
                prefetch,
                patient_id=asked.patient_id,
                prediction_time=at,
                encounter_id=asked.encounter_id,
                expected=service.expected(),
            )
        except ForeignPatientError as error:
            # 409 is not in the specification's list; 412 is true: the data an answer needs are not there.
            raise HookError(412, "conflict", f"another patient's data in prefetch: {error}") from None
        except PatientNotFoundError as error:
            raise HookError(412, "not-found", f"prefetch.patient: {error}") from None
        except InvalidInputError as error:
            raise HookError(400, "structure", str(error)) from None


def _routes(app: Flask, cds: _CdsService) -> None:
    @app.get("/cds-services")
    def discovery() -> Response:
        return json_response({"services": [service.to_json() for service in SERVICES.values()]})

    @app.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        service, started = _service(service_id), time.perf_counter()
        answer = cds.answer(service, _json_body())
        LOG.info("hook service=%s cards=%d ms=%.0f", service.id, len(answer["cards"]), _ms(started))
        return json_response(answer)

    @app.post("/cds-services/<service_id>/feedback")
    def feedback(service_id: str) -> Response:
        service = _service(service_id)
        new = receive(_json_body(), service, cds.store)
        cds.count(service.id, "feedback")
        LOG.info("feedback service=%s new=%d", service.id, new)
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

    @app.get("/health/live")
    def live() -> Response:
        return json_response({"status": "live"})

    @app.get("/health/ready")
    def ready() -> Response:
        try:
            cds.store.check()
        except StoreError as error:
            raise HookError(503, "transient", str(error), retry_after=5) from None
        models = {task: f"{m.manifest['model_id']} {m.manifest['version']}" for task, m in cds.pipeline.models.items()}
        return json_response({"status": "ready", "models": models, "articles": len(cds.pipeline.index)})

    @app.get("/metrics")
    def metrics() -> Response:
        lines = ["# TYPE riskcards_answers_total counter"]
        for (service, result), number in sorted(cds.counts().items()):
            lines.append(f'riskcards_answers_total{{service="{service}",result="{result}"}} {number}')
        return Response("\n".join(lines) + "\n", mimetype="text/plain; version=0.0.4")


def _service(identifier: str) -> Service:
    if identifier not in SERVICES:
        raise HookError(404, "not-found", f"no such service; there are {', '.join(SERVICES)}")
    return SERVICES[identifier]


def _json_body() -> bytes:
    if request.mimetype not in _JSON_TYPES:
        raise HookError(415, "not-supported", "Content-Type must be application/json")
    return request.get_data(cache=False)


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _errors(app: Flask, cds: _CdsService) -> None:
    """Every exception becomes a status with an OperationOutcome; nothing of the request is logged."""

    def label() -> str:
        found = (request.view_args or {}).get("service_id", "")
        return found if found in SERVICES else "other"

    @app.errorhandler(HookError)
    def refused(error: HookError) -> Response:
        cds.count(label(), f"status-{error.status}")
        LOG.info("refused status=%d code=%s", error.status, error.code)
        return error_response(error)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        codes = {404: "not-found", 405: "not-supported", 413: "too-costly", 415: "not-supported"}
        status = error.code or 500
        cds.count(label(), f"status-{status}")
        return error_response(HookError(status, codes.get(status, "processing"), error.name))

    @app.errorhandler(StoreError)
    def store_down(error: StoreError) -> Response:
        cds.count(label(), "status-503")
        LOG.error("store %s", error)
        return error_response(HookError(503, "transient", "the audit store is not available", retry_after=5))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        incident = uuid.uuid4().hex[:12]
        known = isinstance(error, FhirMappingError | KnowledgeIndexError | RiskModelError)
        cds.count(label(), "status-500")
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
