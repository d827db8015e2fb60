"""Receives subscription notifications, queues what they name, and answers at once.

    POST        /fhir-notifications/{client}                R4 without a payload; R4B, R4 Backport and R5 Bundles
    PUT DELETE  /fhir-notifications/{client}/{Type}/{id}    R4 with a payload, as an update of the receiver

A notification carries the client's secret: `Authorization: Bearer SECRET`, or `X-Subscription-Secret: SECRET`.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from flask import Blueprint, Response, request

from cds_hooks import HookError, MalformedRequestError, UnsupportedMediaTypeError
from cds_hooks.blueprint import json_response
from cds_service.access.admission import Admission, RateLimit, RateLimitedError
from cds_service.oauth.clients import SmartClient
from cds_service.refresh.jobs import RefreshJobs
from cds_service.refresh.notifications import Notification, check_path, read_notification

LOG = logging.getLogger("riskcards")
EVENT = "event"
EVENTS_KEPT = timedelta(hours=24)
"""So long a repeated notification is known as such."""
ASK = "ask"
"""The kind of the position that asks the next poll to come at once."""
_JSON = ("application/fhir+json", "application/json")
_UNSECRET = "-" * 32
Timed = Callable[..., Any]


class NotificationReceiver:
    """NotificationReceiver(clients, jobs, rate, in_time).receive(name, body, addressed) -> new jobs

    `clients` are the SMART clients with a secret, by name; `in_time` runs a step of the store within the time of an
    answer.
    """

    def __init__(self, clients: Mapping[str, SmartClient], jobs: RefreshJobs, rate: RateLimit, in_time: Timed) -> None:
        self.clients, self.jobs, self.rate, self.in_time = clients, jobs, rate, in_time

    def check(self, name: str, authorization: str, secret: str) -> SmartClient:
        """The client of a notification. Raises HookError 401 alike for an unknown client and a wrong secret, 429."""
        client = self.clients.get(name)
        scheme, _, token = authorization.partition(" ")
        given = (secret or (token.strip() if scheme.lower() == "bearer" else "")).encode()
        # Every secret is compared, in constant time; an unknown client costs as much.
        known = client.subscription_secrets if client is not None else (_UNSECRET,)
        same = [hmac.compare_digest(given, each.encode()) for each in known]
        if client is None or not any(same):
            LOG.info("notification refused: unknown client or secret")
            raise HookError(401, "login", "authentication is required")
        try:
            self.rate.take(name)
        except RateLimitedError as error:
            raise HookError(429, "throttled", "too many notifications", retry_after=error.retry_after) from None
        return client

    def receive(self, client: SmartClient, body: Any, addressed: str = "") -> int:
        """Queues what a notification is about; returns the number of new jobs. Raises HookError 400, StoreError."""
        found = read_notification(body, client.iss.rstrip("/"), addressed)
        if found.faulty:
            LOG.warning("the subscription of client=%s is reported in error or off", client.name)
        return 0 if found.type in {"handshake", "heartbeat", "query-status"} else self._queue(client, found)

    def _queue(self, client: SmartClient, found: Notification) -> int:
        names = [self.jobs.store.resource_hash(client.name, event) for event in found.events]
        sealed = self.jobs.store.sealed
        if names and len(self.in_time(sealed.get_many, EVENT, names)) == len(set(names)):
            return 0  # delivered again, because our answer did not arrive
        now = datetime.now(UTC)
        if found.ask:
            self.in_time(self.jobs.queue.advance, client.name, ASK, "", [])
        added: int = self.in_time(self.jobs.add, client.name, found.resources, now)
        # After the jobs: a crash between the two repeats a job and loses none.
        for name in names:
            self.in_time(sealed.put, EVENT, name, "", now + EVENTS_KEPT)
        return added


def notification_routes(receiver: NotificationReceiver | None, admission: Admission, max_bytes: int) -> Blueprint:
    """Returns the routes of the receiver; without clients that have a secret there are none."""
    routes = Blueprint("notifications", __name__, url_prefix="/fhir-notifications")
    if receiver is None:
        return routes

    def receive(name: str, kind: str = "", identifier: str = "") -> Response:
        headers = request.headers
        client = receiver.check(name, headers.get("Authorization", ""), headers.get("X-Subscription-Secret", ""))
        addressed = check_path(kind, identifier) if kind else ""
        size = request.content_length
        with admission.hold(max_bytes if size is None else min(size, max_bytes), f"notifications {name}"):
            body = None if request.method == "DELETE" else _body(request.get_data())
            added = receiver.receive(client, body, addressed)
        LOG.info("notification client=%s queued=%d", client.name, added)
        return json_response({}) if request.method != "DELETE" else Response(status=204)

    routes.add_url_rule("/<name>", "bundle", receive, methods=["POST"])
    routes.add_url_rule("/<name>/<kind>/<identifier>", "resource", receive, methods=["PUT", "POST", "DELETE"])
    return routes


def _body(data: bytes) -> Any:
    """The parsed body; None for an empty one. Raises HookError 400, 415."""
    if not data.strip():
        return None
    if request.mimetype and request.mimetype not in _JSON:
        raise UnsupportedMediaTypeError("expected JSON: set the payload of the subscription to application/fhir+json")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise MalformedRequestError("structure", "the body is not JSON") from None
