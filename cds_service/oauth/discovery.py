"""Discovery of the authorization server: `{iss}/.well-known/smart-configuration` (SMART 2.2).

Each endpoint must be at a host of the client's configuration. The server's own document is not enough to send an
authorization code, a client assertion or a clinician's browser to another host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import orjson

from cds_service.net.outbound import Outbound, OutboundError
from cds_service.oauth.clients import SmartClient
from cds_service.oauth.errors import LaunchRefusedError

DISCOVERY_SECONDS = 4.0
MAX_DOCUMENT = 256 * 1024


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """Absolute, validated URLs; "" where the server has none. `jwks_uri` is only looked up when it is needed."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    capabilities: frozenset[str] = frozenset()
    scopes_supported: frozenset[str] = frozenset()


def discover(client: SmartClient, outbound: Outbound, iss: str) -> AuthorizationServer:
    """The authorization server of a client's FHIR server.

    Raises LaunchRefusedError if it is unreachable or unreadable, has an endpoint at another host, or lacks PKCE S256.
    """
    base = iss.rstrip("/") + "/"
    document = fetch_json(outbound, f"{base}.well-known/smart-configuration", "smart-configuration")
    methods = document.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        raise _refused("no-s256", "its authorization server does not take the proof of key (PKCE S256) this app uses")
    return AuthorizationServer(
        issuer=_text(document, "issuer"),
        authorization_endpoint=_endpoint(document, "authorization_endpoint", base, client),
        token_endpoint=_endpoint(document, "token_endpoint", base, client),
        jwks_uri=_endpoint(document, "jwks_uri", base, client),
        capabilities=_words(document, "capabilities"),
        scopes_supported=_words(document, "scopes_supported"),
    )


def key_set_url(client: SmartClient, outbound: Outbound, server: AuthorizationServer) -> str:
    """The URL of the id_token's keys, which SMART 1 servers state only in their OpenID configuration."""
    if server.jwks_uri or not client.trusts(server.issuer):
        return server.jwks_uri
    base = server.issuer.rstrip("/") + "/"
    document = fetch_json(outbound, f"{base}.well-known/openid-configuration", "openid-configuration")
    return _endpoint(document, "jwks_uri", base, client)


def fetch_json(outbound: Outbound, url: str, what: str) -> Mapping[str, Any]:
    """The JSON object at a URL. Raises LaunchRefusedError naming `what`."""
    try:
        answer = outbound.request(
            "GET",
            url,
            headers={"Accept": "application/json"},
            deadline=time.monotonic() + DISCOVERY_SECONDS,
            max_bytes=MAX_DOCUMENT,
        )
        found = orjson.loads(answer.body) if answer.status == 200 else None
    except OutboundError as error:
        raise _refused(f"{what}-{error.reason}", f"its {what} did not come") from None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise _refused(f"{what}-unusable", f"its {what} cannot be read (status {answer.status})")
    return found


def _endpoint(document: Mapping[str, Any], name: str, base: str, client: SmartClient) -> str:
    given = _text(document, name)
    if not given:
        return ""
    try:
        url = urljoin(base, given)
    except ValueError:
        url = ""
    if not client.trusts(url):
        raise _refused(
            f"{name}-elsewhere",
            f"its {name} lies at another host than those configured; `hosts` in the SMART clients file names them",
        )
    return url


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _words(document: Mapping[str, Any], name: str) -> frozenset[str]:
    value = document.get(name)
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()


def _refused(reason: str, why: str) -> LaunchRefusedError:
    return LaunchRefusedError(reason, f"The EHR cannot be used: {why}.", status=502)
