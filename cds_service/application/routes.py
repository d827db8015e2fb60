"""HTTP routes beside the hooks: model cards, health and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from flask import Blueprint, Response, request

from cds_hooks import HookError
from cds_hooks.blueprint import json_response
from cds_service.application.operators import check_operator
from cds_service.application.parts import ServiceParts
from cds_service.store.errors import StoreError
from risk_model import TASKS, Pipeline, model_card

_CARD_FORMS = {"html": "text/html", "json": "application/json", "chai-xml": "application/xml"}


def document_routes(cds: ServiceParts) -> Blueprint:
    """Model cards."""
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
