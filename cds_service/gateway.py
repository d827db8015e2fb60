"""The one way out: FHIR reads and searches at servers on the allow-list, and nothing else.

Every URL is built here and checked again before a socket opens; no redirects, no proxy from the environment, capped
bodies, pages and time; the token goes with one request and is never a default of the session.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests

from cds_service.hook_request import ID

MAX_BODY = 10 * 2**20
MAX_PAGES = 20
_TYPES_OF_A_CHART = (
    "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference", "Composition",
)  # fmt: skip


class GatewayError(Exception):
    """The server could not be read. `reason` is a stable code without patient data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> _Origin:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
            raise GatewayError("not-a-server-url")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname.lower(), port, parts.path.rstrip("/"))

    def holds(self, other: _Origin) -> bool:
        """Same scheme, host and port, and a path at or below ours: compared part by part, never as text within text."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        below = other.path == self.path or other.path.startswith(f"{self.path}/")
        return same and below and ".." not in other.path.split("/")


class Gateway:
    """Gateway(allowed, seconds).fetch(server, "Observation?patient=1&_count=50", token) -> resource or merged Bundle"""

    def __init__(self, allowed: Iterable[str], seconds: float = 3.0) -> None:
        self._allowed = tuple(_Origin.of(url) for url in allowed)
        self._seconds = seconds
        self._session = requests.Session()
        self._session.trust_env = False

    def allows(self, server: str | None) -> bool:
        """Whether a FHIR base URL is on the list."""
        if not server:
            return False
        try:
            origin = _Origin.of(server)
        except (GatewayError, ValueError):
            return False
        return any(allowed == origin for allowed in self._allowed)

    def fetch(self, server: str, query: str, token: str | None = None) -> dict[str, Any]:
        """Read `Type/id` or search `Type?...`; the pages of a search come back as one searchset.

        Raises GatewayError. A search cut by a limit keeps its `next` link, so that the reader sees it is incomplete.
        """
        if not self.allows(server):
            raise GatewayError("server-not-allowed")
        base = _Origin.of(server)
        deadline = time.monotonic() + self._seconds
        first = self._get(f"{server.rstrip('/')}/{query}", base, token, deadline)
        if first.get("resourceType") != "Bundle":
            return first
        entries, page = list(first.get("entry") or []), first
        for _ in range(MAX_PAGES):
            following = next((k.get("url") for k in page.get("link") or [] if k.get("relation") == "next"), None)
            if not isinstance(following, str):
                return {**first, "entry": entries, "link": [], "total": len(entries)}
            try:
                page = self._get(following, base, token, deadline)
            except GatewayError:
                break
            entries += page.get("entry") or []
        return {**first, "entry": entries, "link": [{"relation": "next", "url": "not-followed"}]}

    def _get(self, url: str, base: _Origin, token: str | None, deadline: float) -> dict[str, Any]:
        if not base.holds(_Origin.of(url)):
            raise GatewayError("other-origin")
        headers = {"Accept": "application/fhir+json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        left = deadline - time.monotonic()
        if left <= 0:
            raise GatewayError("too-slow")
        try:
            with self._session.get(url, headers=headers, timeout=left, allow_redirects=False, stream=True) as response:
                if response.status_code != 200:
                    raise GatewayError("status", str(response.status_code))
                body = _read(response, deadline)
        except requests.RequestException as error:
            raise GatewayError("unreachable", error.__class__.__name__) from None
        try:
            resource = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise GatewayError("not-json") from None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise GatewayError("not-fhir")
        return resource


def _read(response: requests.Response, deadline: float) -> bytes:
    body = b""
    for chunk in response.iter_content(65_536):
        body += chunk
        if len(body) > MAX_BODY:
            raise GatewayError("too-large")
        if time.monotonic() > deadline:
            raise GatewayError("too-slow")
    return body


def fetch_patient_resources(
    server: str, patient: str, *, token: str | None = None, seconds: float = 60.0
) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """A patient's chart for `riskcards score --fhir-server`: its resources, and the types that could not be fetched.

    Raises GatewayError when the Patient itself cannot be read.
    """
    if not ID.match(patient):
        raise GatewayError("not-an-id")
    gateway = Gateway([server], seconds)
    resources = [gateway.fetch(server, f"Patient/{patient}", token)]
    missing = set()
    for kind in _TYPES_OF_A_CHART:
        try:
            bundle = gateway.fetch(server, f"{kind}?patient={patient}&_count=500", token)
        except GatewayError:
            missing.add(kind)
            continue
        resources += [e["resource"] for e in bundle.get("entry") or [] if isinstance(e.get("resource"), dict)]
        if bundle.get("link"):
            missing.add(kind)
    return resources, frozenset(missing)
