"""HTTP routes: hooks and feedback, model cards and OpenAPI, health and metrics."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import orjson
from flask import Blueprint, Response, request

from cds_hooks import HookError
from cds_hooks.blueprint import json_response
from cds_service.application.operators import check_operator
from cds_service.application.parts import ServiceParts
from cds_service.auth.tokens import Caller
from cds_service.hooks.feedback import receive
from cds_service.hooks.hook_handler import Due
from cds_service.protocol.openapi import openapi
from cds_service.protocol.services import SERVICES, Service
from cds_service.store.errors import StoreError
from risk_model import TASKS, Pipeline, model_card

LOG = logging.getLogger("riskcards")
_CARD_FORMS = {"html": "text/html", "json": "application/json", "chai-xml": "application/xml"}
_JSON_TYPES = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})


def hook_routes(cds: ServiceParts) -> Blueprint:
    """Discovery, the three services, and feedback on their cards."""
    routes = Blueprint("hooks", __name__)

    @routes.get("/cds-services")
    def discovery() -> Response:
        if not cds.settings.open_discovery:
            cds.caller()
        return json_response({"services": [service.to_json() for service in SERVICES.values()]})

    @routes.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        service, started = _service(service_id), time.perf_counter()
        caller = cds.caller()
        spent = time.perf_counter() - started
        with _body(cds, caller) as body:
            # The time that the client took to send the body does not count.
            answer = cds.answering.answer(service, body, caller, Due.of(cds.settings, spent))
        cds.metrics.took(service.id, time.perf_counter() - started)
        return json_response(answer)

    @routes.post("/cds-services/<service_id>/feedback")
    def feedback(service_id: str) -> Response:
        service, caller = _service(service_id), cds.caller()
        with _body(cds, caller) as body:
            outcomes = cds.in_time(receive, body, service, cds.store, None if caller is None else caller.asker)
        for outcome in outcomes:
            cds.metrics.feedback(service.id, outcome)
        client = None if caller is None else caller.client.name
        LOG.info("feedback service=%s client=%s entries=%d", service.id, client, len(outcomes))
        return Response(status=200)

    return routes


def document_routes(cds: ServiceParts) -> Blueprint:
    """Model cards and the OpenAPI document."""
    routes = Blueprint("documents", __name__)

    @cache
    def written(task: str, form: str) -> bytes:
        """Anyone may ask for it, so it is written once."""
        found = model_card(cds.pipeline.models[task].folder)
        if form == "json":
            return orjson.dumps(found.to_json())
        return (found.to_html() if form == "html" else found.to_chai_xml()).encode()

    @routes.get("/model-cards/<task>")
    def card(task: str) -> Response:
        form = request.args.get("format", "html")
        if task not in TASKS or form not in _CARD_FORMS:
            raise HookError(404, "not-found", f"model cards: {', '.join(TASKS)}; formats: {', '.join(_CARD_FORMS)}")
        response = Response(written(task, form), mimetype=_CARD_FORMS[form])
        if form != "json":
            response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return response

    @routes.get("/openapi.json")
    def description() -> Response:
        return json_response(openapi(cds.settings.public_url))

    return routes


def health_routes(cds: ServiceParts) -> Blueprint:
    """Liveness, readiness and metrics."""
    routes = Blueprint("health", __name__)

    @routes.get("/health/live")
    def live() -> Response:
        return json_response({"status": "live"})

    @routes.get("/health/ready")
    def ready() -> Response:
        check_operator(cds.settings, request)
        try:
            cds.watched(cds.store.check)
        except StoreError as error:
            raise HookError(503, "transient", str(error), retry_after=5) from None
        if cds.clients is not None:
            cds.clients.clients  # noqa: B018 - reads the file again if it changed; raises a 503 after the grace period
            if cds.clients.fault:
                reason = "the clients file cannot be read; the last clients are accepted for a grace period only"
                raise HookError(503, "transient", reason, retry_after=60)
        return json_response({"status": "ready", **_opened(cds.pipeline)})

    @routes.get("/metrics")
    def metrics() -> Response:
        check_operator(cds.settings, request)
        cds.metrics.watched(cds.gauges.latest())
        return Response(cds.metrics.text(*cds.admission.load), mimetype="text/plain; version=0.0.4")

    return routes


def _opened(pipeline: Pipeline) -> dict[str, Any]:
    """The models and the index in use, with the hashes of their manifests."""
    models = {task: model.manifest for task, model in pipeline.models.items()}
    return {
        "models": {task: f"{manifest['model_id']} {manifest['version']}" for task, manifest in models.items()},
        "articles": len(pipeline.index),
        "manifests": {
            **{task: _sha256(manifest) for task, manifest in models.items()},
            "index": hashlib.sha256(pipeline.index.manifest.to_json()).hexdigest(),
        },
    }


def _sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _service(identifier: str) -> Service:
    if identifier not in SERVICES:
        raise HookError(404, "not-found", f"no such service; there are {', '.join(SERVICES)}")
    return SERVICES[identifier]


@contextmanager
def _body(cds: ServiceParts, caller: Caller | None) -> Iterator[bytes]:
    """The body, within the memory limit of all bodies. Raises HookError 413 and 415, OverloadedError."""
    if request.mimetype not in _JSON_TYPES:
        raise HookError(415, "not-supported", "Content-Type must be application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HookError(415, "not-supported", "the body must not be compressed")
    length, most = request.content_length, cds.settings.max_body_bytes
    # A chunked body states no length and would be cut at the limit silently: one byte more shows that it goes on.
    request.max_content_length = most + 1
    with cds.admission.hold(most if length is None else min(length, 2**31), caller.client.name if caller else ""):
        body = request.get_data(cache=False)
        if len(body) > most:
            raise HookError(413, "too-costly", f"a body holds at most {most} bytes")
        yield body
