"""The protocol over HTTP as a Flask blueprint: the only module of the library that uses Flask.

    GET  /cds-services    POST /cds-services/{id}    POST /cds-services/{id}/feedback    GET /openapi.json

Every answer that is not 200 is an OperationOutcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cds_hooks.errors import HookError, MethodNotSupportedError, TooLargeError, UnsupportedMediaTypeError
from cds_hooks.middleware import Incoming, Kind
from cds_hooks.openapi import openapi_document
from cds_hooks.registry import HookServices

JSON_TYPES = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})
"""Content types of requests: clients older than 2.0 send the last."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CODES = {404: "not-found", 405: "not-supported", 413: "too-costly", 415: "not-supported"}


def hooks_blueprint(hooks: HookServices, url_prefix: str = "", name: str = "cds_hooks") -> Blueprint:
    """The routes of all services of `hooks`, including those registered later, with their errors and headers."""
    routes = hook_routes(hooks, url_prefix, name)
    answer_errors(routes, hooks)
    return routes


def hook_routes(hooks: HookServices, url_prefix: str = "", name: str = "cds_hooks") -> Blueprint:
    """The routes alone, for an application with `answer_errors`."""
    routes = Blueprint(name, __name__, url_prefix=url_prefix or None)

    def discovery() -> Response:
        if not hooks.open_discovery:
            with hooks.admission(Incoming("", "discovery", _caller(hooks), 0)):
                pass
        return json_response(hooks.discovery())

    def call(service_id: str) -> Response:
        with _received(hooks, service_id, "hook") as (body, caller, seconds):
            return json_response(hooks.answer(service_id, body, caller, seconds).to_json())

    def feedback(service_id: str) -> Response:
        with _received(hooks, service_id, "feedback") as (body, caller, _):
            hooks.receive_feedback(service_id, body, caller)
        return Response(status=200)

    def description() -> Response:
        server = hooks.base_url or request.url_root
        return json_response(openapi_document(hooks.services.values(), server.rstrip("/"), hooks.openapi))

    _route(routes, "/cds-services", "GET", discovery)
    _route(routes, "/cds-services/<service_id>", "POST", call)
    _route(routes, "/cds-services/<service_id>/feedback", "POST", feedback)
    _route(routes, "/openapi.json", "GET", description)
    return routes


def answer_errors(holder: Blueprint | Flask, hooks: HookServices) -> None:
    """Answers every exception of these routes by its status with an OperationOutcome, and adds the CORS headers."""

    @holder.errorhandler(Exception)
    def refused(error: Exception) -> Response:
        found = _http_error(error) if isinstance(error, HTTPException) else hooks.hook_error(error)
        service = str((request.view_args or {}).get("service_id"))
        service = str((request.view_args or {}).get("service_id"))
        hooks.observer.refused(found, service if service in hooks.services else "", g.get("cds_hooks_caller"))
        return error_response(found)

    holder.after_request(_headers(hooks.allowed_origins))


def _http_error(error: HTTPException) -> HookError:
    if isinstance(error, MethodNotAllowed):
        return MethodNotSupportedError(tuple(sorted(error.valid_methods or ())))
    status = error.code or 500
    return HookError(status, _CODES.get(status, "processing"), error.name)


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
    """The verified client, also kept for the log of a refusal."""
    g.cds_hooks_caller = caller = hooks.caller(request.headers.get("Authorization"), request.path)
    return caller


@contextmanager
def _received(hooks: HookServices, service_id: str, kind: Kind) -> Iterator[tuple[bytes, Any, float]]:
    """(the body, the caller, the seconds taken without reading the body), within `admission`. Raises HookError."""
    started = time.perf_counter()
    hooks.definition(service_id)
    caller = _caller(hooks)
    seconds = time.perf_counter() - started
    with hooks.admission(Incoming(service_id, kind, caller, request.content_length)):
        yield _body(hooks.max_body_bytes), caller, seconds
    hooks.observer.answered(service_id, kind, caller, time.perf_counter() - started)


def _body(most: int) -> bytes:
    if request.mimetype not in JSON_TYPES:
        raise UnsupportedMediaTypeError("Content-Type must be application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("the body must not be compressed")
    if (request.content_length or 0) > most:
        raise TooLargeError(f"a body holds at most {most} bytes")
    # A chunked body states no length and would be cut at the limit silently: one byte more shows that it goes on.
    request.max_content_length = most + 1
    body = request.get_data(cache=False)
    if len(body) > most:
        raise TooLargeError(f"a body holds at most {most} bytes")
    return body


def _headers(allowed: Collection[str]) -> Callable[[Response], Response]:
    """Adds `nosniff`, `no-store`, and CORS headers for the allowed origins, or `*` (CDS Hooks, "Cross-Origin Resource
    Sharing").
    """

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
