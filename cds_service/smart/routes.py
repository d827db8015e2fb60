"""GET /launch, /launch/ward, /smart/callback, /.well-known/jwks.json. A failed launch shows a page with the reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flask import Blueprint, Response, make_response, render_template, request

from cds_hooks.blueprint import json_response
from cds_service.access.admission import RateLimitedError
from cds_service.net.addresses import client_address
from cds_service.oauth.clients import SmartClient
from cds_service.oauth.errors import LaunchRefusedError
from cds_service.oauth.keys import published
from cds_service.smart.launch import MAX_PARAMETER, Returned, begin, finish
from cds_service.smart.parts import SmartParts
from cds_service.smart.session import PATIENT_APP, WARD_LIST
from cds_service.store.errors import StoreError

LOG = logging.getLogger("riskcards")
_NOWHERE = "'none'"
_SHOWN = 300  # characters of the EHR's error message


def smart_routes(smart: SmartParts | None) -> Blueprint:
    """Returns the SMART routes. Without clients the key set is empty and a launch is refused."""
    routes, views = Blueprint("smart", __name__), _Views(smart)
    routes.add_url_rule("/launch", "launch", views.launch)
    routes.add_url_rule("/launch/ward", "launch_ward", views.launch_ward)
    routes.add_url_rule("/smart/callback", "callback", views.callback)
    routes.add_url_rule("/.well-known/jwks.json", "key_set", views.key_set)
    routes.register_error_handler(LaunchRefusedError, _refused)
    routes.register_error_handler(StoreError, _store_down)
    routes.after_request(views.guarded)
    return routes


@dataclass(frozen=True, slots=True)
class _Views:
    """The views of the registered EHRs; None if there are none."""

    smart: SmartParts | None

    @property
    def clients(self) -> tuple[SmartClient, ...]:
        return () if self.smart is None else tuple(each.client for each in self.smart.registrations.values())

    def launch(self) -> Response:
        return self._launch(PATIENT_APP)

    def launch_ward(self) -> Response:
        return self._launch(WARD_LIST)

    def _launch(self, app: str) -> Response:
        response = Response(status=303)
        iss = _parameter("iss")
        if not iss:
            advice = "The launch has no iss parameter (the FHIR base URL). Launch the app from the EHR."
            raise LaunchRefusedError("no-iss", advice)
        parts = _configured(self.smart)
        try:
            forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
            parts.rate.take(client_address(request.remote_addr or "", forwarded, parts.trusted_proxies))
        except RateLimitedError as error:
            refused = _page("Too many launches at once. Launch the app again in a moment.", 429)
            refused.headers["Retry-After"] = str(error.retry_after)
            return refused
        response.headers["Location"] = begin(parts, iss, _parameter("launch"), response, app)
        return response

    def callback(self) -> Response:
        parts, response = _configured(self.smart), Response(status=303)
        returned = Returned(
            state=_parameter("state"),
            code=_parameter("code"),
            iss=_parameter("iss"),
            error=_parameter("error")[:_SHOWN],
            description=_parameter("error_description")[:_SHOWN],
        )
        session = finish(parts, returned, request.cookies, response)
        response.headers["Location"] = parts.cookie_path(f"/{session.app}/{session.id}/")
        LOG.info("launch client=%s scopes=%d", session.client, len(session.scopes))
        return response

    def key_set(self) -> Response:
        response = json_response(published(key for client in self.clients for key in client.keys))
        response.headers["Cache-Control"] = "public, max-age=300"
        return response

    def guarded(self, response: Response) -> Response:
        frames = " ".join(sorted({place for client in self.clients for place in client.frame_ancestors}))
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
            f"frame-ancestors {frames or _NOWHERE}"
        )
        # The callback URL contains the code.
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _refused(error: LaunchRefusedError) -> Response:
    LOG.info("launch refused reason=%s status=%d", error.reason, error.status)
    return _page(error.advice, error.status)


def _store_down(error: StoreError) -> Response:
    LOG.error("store %s", error)
    return _page("The app's database is not available. Launch the app again in a moment.", 503)


def _configured(smart: SmartParts | None) -> SmartParts:
    if smart is None:
        advice = "No EHR is registered here. Set RISKCARDS_SMART_CLIENTS to a file of SMART clients."
        raise LaunchRefusedError("not-configured", advice, status=404)
    return smart


def _parameter(name: str) -> str:
    """One value, or "". Repeated parameters are rejected (RFC 6749, section 3.1)."""
    given = request.args.getlist(name)
    if len(given) > 1 or any(len(value) > MAX_PARAMETER or not value.isprintable() for value in given):
        raise LaunchRefusedError("parameter", f"The parameter {name} is invalid. Launch the app again from the EHR.")
    return given[0] if given else ""


def _page(advice: str, status: int) -> Response:
    root = "../" if request.path.endswith(("/smart/callback", "/launch/ward")) else ""
    response = make_response(render_template("launch_refused.html", advice=advice, root=root), status)
    response.headers["Cache-Control"] = "no-store"
    return response
