"""Token requests for a code, a refresh token or client credentials (RFC 6749, RFC 7523, SMART 2.2)."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson

from cds_service.net.outbound import Outbound, OutboundError, OutboundResponse
from cds_service.oauth.clients import SmartClient
from cds_service.oauth.errors import LaunchRefusedError

TOKEN_SECONDS = 5.0
MAX_ANSWER = 128 * 1024
MAX_TOKEN = 16 * 1024
# Seconds. RFC 6749, section 5.1 lets a server leave out expires_in; one hour is the common lifetime.
UNSAID_SECONDS = 3600
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_ERROR = re.compile(r"[a-z_]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted token. `scopes` may be fewer than were requested; `context` is the launch context."""

    access_token: str = field(repr=False)
    expires: float  # seconds since the epoch
    scopes: tuple[str, ...]
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)


def exchange_code(
    client: SmartClient, outbound: Outbound, endpoint: str, code: str, redirect_uri: str, verifier: str, asked: str
) -> Grant:
    """Raises LaunchRefusedError."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    return _ask(client, outbound, endpoint, form, asked.split())


def refresh(client: SmartClient, outbound: Outbound, endpoint: str, grant: Grant) -> Grant:
    """A renewed grant; if the server does not send a new refresh token, the old one stays valid.

    Raises LaunchRefusedError.
    """
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token or ""}
    return _ask(client, outbound, endpoint, form, grant.scopes, grant.refresh_token)


def client_credentials(client: SmartClient, outbound: Outbound, endpoint: str, scopes: Sequence[str]) -> Grant:
    """A grant for backend services: client credentials without a user. Raises LaunchRefusedError."""
    form = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
    return _ask(client, outbound, endpoint, form, scopes)


def _ask(
    client: SmartClient,
    outbound: Outbound,
    endpoint: str,
    form: dict[str, str],
    asked: Sequence[str],
    kept_refresh: str | None = None,
) -> Grant:
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if client.type == "asymmetric":
        assertion = client.keys[0].assertion(client.client_id, endpoint)
        form = form | {"client_assertion_type": _ASSERTION, "client_assertion": assertion}
    elif client.type == "symmetric":
        # Both halves are form-encoded before they are joined (RFC 6749, section 2.3.1).
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.secret or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form = form | {"client_id": client.client_id}
    try:
        answer = outbound.request(
            "POST",
            endpoint,
            headers=headers,
            body=urlencode(form).encode(),
            deadline=time.monotonic() + TOKEN_SECONDS,
            max_bytes=MAX_ANSWER,
        )
    except OutboundError as error:
        advice = "The EHR's authorization server did not answer. Launch the app again in a moment."
        raise LaunchRefusedError(f"token-{error.reason}", advice, status=502) from None
    return _grant(_object(answer), asked, kept_refresh)


def _object(answer: OutboundResponse) -> dict[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        found = None
    if answer.status >= 500:
        raise _unusable(f"status-{answer.status}")
    if answer.status != 200:
        given = found.get("error") if isinstance(found, dict) else None
        code = given if isinstance(given, str) and _ERROR.match(given) else f"status-{answer.status}"
        advice = f"The EHR's authorization server refused to give access ({code}). Launch the app again from the EHR."
        raise LaunchRefusedError(f"token-refused-{code}", advice)
    if not isinstance(found, dict):
        raise _unusable("not-an-object")
    return found


def _grant(found: dict[str, Any], asked: Sequence[str], kept_refresh: str | None) -> Grant:
    token = found.pop("access_token", None)
    # RFC 6749, section 5.1: the type is case-insensitive, the token is not.
    if str(found.pop("token_type", "")).lower() != "bearer":
        raise _unusable("token-type")
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.match(token):
        raise _unusable("access-token")
    scope = found.pop("scope", None)
    scopes = tuple(scope.split()) if isinstance(scope, str) else tuple(asked)
    given = found.pop("refresh_token", None)
    id_token = found.pop("id_token", None)
    return Grant(
        token,
        time.time() + _seconds(found.pop("expires_in", None)),
        scopes,
        given if isinstance(given, str) and given else kept_refresh,
        id_token if isinstance(id_token, str) else None,
        found,
    )


def _seconds(given: Any) -> float:
    """`expires_in` in seconds: a number by the specification, and from some servers a string."""
    try:
        return min(max(0.0, float(given)), 86_400.0)
    except (TypeError, ValueError):
        return UNSAID_SECONDS


def _unusable(what: str) -> LaunchRefusedError:
    advice = "The EHR's authorization server gave an answer that cannot be used. Its administrators can see why."
    return LaunchRefusedError(f"token-answer-{what}", advice, status=502)
