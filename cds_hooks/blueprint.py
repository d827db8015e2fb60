"""The protocol over HTTP as a Flask blueprint: the only module of the library that uses Flask.

    GET  /cds-services    POST /cds-services/{id}    POST /cds-services/{id}/feedback    GET /openapi.json

Every answer that is not 200 is an OperationOutcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from flask import Blueprint, Response, request

from cds_hooks.admission import Admission, Incoming, Verifier
from cds_hooks.cards import HookResponse
from cds_hooks.errors import (
    HookError,
    MethodNotSupportedError,
    TokenRefusedError,
    TooLargeError,
    UnsupportedMediaTypeError,
    quoted,
)
from cds_hooks.openapi import openapi_document
from cds_hooks.services import ServiceDefinition

LOG = logging.getLogger("cds_hooks")

JSON_TYPES = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})
"""Content types of requests: clients older than 2.0 send the last."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class HookServices(Protocol):
    """What the routes need of `cds_hooks.CdsHooks`, which imports this module."""

    @property
    def services(self) -> Mapping[str, ServiceDefinition]: ...
    @property
    def trust(self) -> Verifier | None: ...
    @property
    def admission(self) -> Admission: ...
    @property
    def allowed_origins(self) -> frozenset[str]: ...
    @property
    def open_discovery(self) -> bool: ...
    @property
    def max_body_bytes(self) -> int: ...
    def discovery(self) -> dict[str, Any]: ...
    def caller(self, authorization: str | None, path: str) -> Any: ...
    def definition(self, service_id: str) -> ServiceDefinition: ...
    def answer(self, service_id: str, body: bytes, caller: Any = None) -> HookResponse: ...
    def receive_feedback(self, service_id: str, body: bytes, caller: Any = None) -> Any: ...


def hooks_blueprint(hooks: HookServices, url_prefix: str = "", name: str = "cds_hooks") -> Blueprint:
    """The routes of all services of `hooks`, including those registered later."""
    routes = Blueprint(name, __name__, url_prefix=url_prefix or None)

    def discovery() -> Response:
        if not hooks.open_discovery:
            _caller(hooks)
        return json_response(hooks.discovery())

    def call(service_id: str) -> Response:
        hooks.definition(service_id)
        caller = _caller(hooks)
        with _body(hooks, service_id, "hook", caller) as body:
            return json_response(hooks.answer(service_id, body, caller).to_json())

    def feedback(service_id: str) -> Response:
        hooks.definition(service_id)
        caller = _caller(hooks)
        with _body(hooks, service_id, "feedback", caller) as body:
            hooks.receive_feedback(service_id, body, caller)
        return Response(status=200)

    def description() -> Response:
        server = request.url_root if hooks.trust is None else hooks.trust.base_url
        return json_response(openapi_document(hooks.services.values(), server.rstrip("/")))

    _route(routes, "/cds-services", "GET", discovery)
    _route(routes, "/cds-services/<service_id>", "POST", call)
    _route(routes, "/cds-services/<service_id>/feedback", "POST", feedback)
    _route(routes, "/openapi.json", "GET", description)

    @routes.errorhandler(HookError)
    def refused(error: HookError) -> Response:
        why = error.log_text if isinstance(error, TokenRefusedError) else f"why={quoted(error.diagnostics)}"
        LOG.info("refused status=%d code=%s %s", error.status, error.code, why)
        return error_response(error)

    routes.after_request(cors_headers(hooks.allowed_origins))
    return routes


def error_response(error: HookError) -> Response:
    """The HTTP answer of an error: its status, an OperationOutcome, and the headers that belong to the status."""
    response = json_response(error.to_outcome(), error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotSupportedError):
        response.headers["Allow"] = ", ".join(error.allowed)
    return response


def json_response(body: Any, status: int = 200) -> Response:
    """JSON as an HTTP answer."""
    return Response(orjson.dumps(body), status=status, mimetype="application/json")


def _route(routes: Blueprint, path: str, method: str, view: Callable[..., Response]) -> None:
    """Allows one method for a path; Flask would answer others with an HTML page."""
    allowed = ("GET", "HEAD", "OPTIONS") if method == "GET" else (method, "OPTIONS")

    def other(**_: str) -> Response:
        if request.method == "OPTIONS":
            return Response(status=200, headers={"Allow": ", ".join(allowed)})
        raise MethodNotSupportedError(allowed)

    others = [each for each in (*_METHODS, "OPTIONS") if each != method]
    routes.add_url_rule(path, view.__name__, view, methods=[method], provide_automatic_options=False)
    if "GET" in others:
        others.append("HEAD")
    routes.add_url_rule(path, f"not_{view.__name__}", other, methods=others, provide_automatic_options=False)


def _caller(hooks: HookServices) -> Any:
    return hooks.caller(request.headers.get("Authorization"), request.path)


@contextmanager
def _body(hooks: HookServices, service_id: str, kind: str, caller: Any) -> Iterator[bytes]:
    """The body, after `admission`, of which errors pass. Raises TooLargeError, UnsupportedMediaTypeError."""
    if request.mimetype not in JSON_TYPES:
        raise UnsupportedMediaTypeError("Content-Type must be application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("the body must not be compressed")
    length, most = request.content_length, hooks.max_body_bytes
    if length is not None and length > most:
        raise TooLargeError(f"a body holds at most {most} bytes")
    # A chunked body states no length and would be cut at the limit silently: one byte more shows that it goes on.
    request.max_content_length = most + 1
    with hooks.admission(Incoming(service_id, kind, caller, length)):
        body = request.get_data(cache=False)
        if len(body) > most:
            raise TooLargeError(f"a body holds at most {most} bytes")
        yield body


def cors_headers(allowed: Collection[str]) -> Callable[[Response], Response]:
    """Adds CORS headers for the allowed origins, or `*` (CDS Hooks, "Cross-Origin Resource Sharing")."""

    def add(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin and ("*" in allowed or origin in allowed):
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Accept"
            response.headers["Access-Control-Expose-Headers"] = "Origin, Accept, Content-Location, Location"
            response.headers["Vary"] = "Origin"
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return add
