"""The one way out: FHIR reads and searches at servers on the allow-list, and nothing else.

Every URL is built here and checked again before a socket opens; capped bodies, pages and time; the token goes with
one request and is never a default of the session. Sockets are `outbound.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import orjson

from cds_hooks import MAX_ENTRIES, FetchError
from cds_service.net.outbound import Networks, Outbound, OutboundError

MAX_BODY = 10 * 2**20
MAX_PAGES = 20
# What may come altogether for one search, and for one hook, its notes included: as much as two hooks may bring.
MAX_FETCHED = 2 * MAX_BODY


class GatewayError(FetchError):
    """The server could not be read."""


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> _Origin:
        try:
            parts = urlsplit(url)
            given = parts.port
        except ValueError:
            raise GatewayError("not-a-server-url") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
            raise GatewayError("not-a-server-url")
        # A server may decode once more than we do: what hides behind a % or a \\ is looked at decoded, and a path that
        # would still hide something then is none of ours.
        path = unquote(parts.path)
        hidden = "%" in path or "\\" in url or any(ord(sign) <= 32 for sign in url)
        if hidden or ".." in path.split("/"):
            raise GatewayError("not-a-server-url")
        port = given or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname.lower(), port, path.rstrip("/"))

    def holds(self, other: _Origin) -> bool:
        """Same scheme, host and port, and a path at or below ours: compared part by part, never as text within text."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and (other.path == self.path or other.path.startswith(f"{self.path}/"))


class Allowance:
    """Bytes that may still come, for several threads that fetch at the same time."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = Lock()

    def take(self, size: int) -> None:
        """Raises OutboundError where it is more than is left."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise OutboundError("too-large", "together")


class _Counted:
    """The body of one answer, as much of it as the allowance lets in."""

    def __init__(self, allowance: Allowance) -> None:
        self.body = bytearray()
        self._allowance = allowance

    def write(self, chunk: bytes, /) -> None:
        self._allowance.take(len(chunk))
        self.body += chunk


@dataclass(frozen=True, slots=True)
class _Errand:
    """What holds for all pages of one search."""

    base: _Origin
    token: str | None
    deadline: float
    allowance: Allowance


class Gateway:
    """Gateway(allowed, seconds).fetch(server, "Observation?patient=1&_count=50", token) -> resource or merged Bundle

    `private_networks` are the CIDR ranges in which allowed servers may live; a server named by its literal address,
    or as localhost, is allowed where it is.
    """

    def __init__(self, allowed: Iterable[str], seconds: float = 3.0, private_networks: Iterable[str] = ()) -> None:
        self._allowed = tuple(_Origin.of(url) for url in allowed)
        self._seconds = seconds
        networks = Networks.of(private_networks)
        for origin in self._allowed:
            networks = networks.also(origin.host)
        self._outbound = Outbound(networks)
        self._allowance: Allowance | None = None

    def for_one_hook(self) -> Gateway:
        """The same way out for one request, through which no more than MAX_FETCHED comes altogether.

        Twenty pages of ten megabytes for each of eleven templates are each within their own caps, and gigabytes.
        """
        one = copy(self)
        one._allowance = Allowance(MAX_FETCHED)
        return one

    def allows(self, server: str | None) -> bool:
        """Whether a FHIR base URL is on the list."""
        if not server:
            return False
        try:
            origin = _Origin.of(server)
        except GatewayError:
            return False
        return any(allowed == origin for allowed in self._allowed)

    def fetch(self, server: str, query: str, token: str | None = None, deadline: float | None = None) -> dict[str, Any]:
        """Read `Type/id` or search `Type?...`; the pages of a search come back as one searchset.

        All of it within the gateway's seconds, and not past `deadline` (of `time.monotonic()`). A search
        cut by a limit keeps its `next` link, so that the reader sees it is incomplete. Raises GatewayError.
        """
        errand = self._errand(server, token, deadline)
        return self._whole(self._get(f"{server.rstrip('/')}/{query}", errand), server, errand)

    def follow(self, server: str, bundle: dict[str, Any], token: str | None, deadline: float | None) -> dict[str, Any]:
        """A searchset somebody else fetched, with its further pages; as it is when it says there are none.

        Raises GatewayError.
        """
        return self._whole(bundle, server, self._errand(server, token, deadline))

    def _errand(self, server: str, token: str | None, deadline: float | None) -> _Errand:
        if not self.allows(server):
            raise GatewayError("server-not-allowed")
        until = min(time.monotonic() + self._seconds, deadline or float("inf"))
        return _Errand(_Origin.of(server), token, until, self._allowance or Allowance(MAX_FETCHED))

    def _whole(self, first: dict[str, Any], server: str, errand: _Errand) -> dict[str, Any]:
        """The first page and those that follow it, as one searchset; one that was cut keeps its `next`."""
        if first.get("resourceType") != "Bundle":
            return first
        entries, page = _entries(first), first
        for _ in range(MAX_PAGES):
            following = next_link(page.get("link"))
            if following is None:
                return {**first, "entry": entries, "link": []}
            try:
                page = self._get(_joined(server, following), errand)
            except GatewayError:
                break
            entries += _entries(page)
            if len(entries) > MAX_ENTRIES:
                break
        return {**first, "entry": entries, "link": [{"relation": "next", "url": "not-followed"}]}

    def _get(self, url: str, errand: _Errand) -> dict[str, Any]:
        if not errand.base.holds(_Origin.of(url)):
            raise GatewayError("other-origin")
        headers = {"Accept": "application/fhir+json"}
        if "?" in url:
            # A server that does not know a parameter otherwise leaves it out, and answers with everybody's resources.
            headers["Prefer"] = "handling=strict"
        if errand.token:
            headers["Authorization"] = f"Bearer {errand.token}"
        came = _Counted(errand.allowance)
        try:
            answer = self._outbound.request(
                "GET", url, headers=headers, deadline=errand.deadline, max_bytes=MAX_BODY, into=came
            )
        except OutboundError as error:
            raise GatewayError(error.reason) from None
        if answer.status != 200:
            raise GatewayError("status", status=answer.status)
        try:
            resource = orjson.loads(came.body)
        except orjson.JSONDecodeError:
            raise GatewayError("not-json") from None
        if not _is_fhir(resource):
            raise GatewayError("not-fhir")
        return dict(resource)


def _is_fhir(resource: Any) -> bool:
    """Whether it looks like a resource, and as a Bundle holds resources: what a server sent is no fault of who asks."""
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return False
    held = [entry.get("resource", {}) if isinstance(entry, dict) else None for entry in _entries(resource)]
    return all(isinstance(each, dict) for each in held)


def _joined(server: str, following: str) -> str:
    """A link of a page as an address. Raises GatewayError."""
    try:
        return urljoin(f"{server.rstrip('/')}/", following)
    except ValueError:
        raise GatewayError("not-a-server-url") from None


def _entries(page: dict[str, Any]) -> list[Any]:
    found = page.get("entry")
    return list(found) if isinstance(found, list) else []


def next_link(links: Any) -> str | None:
    """The URL of the link `next` of a `Bundle.link`; None where there is none, or it is malformed."""
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == "next" and isinstance(link.get("url"), str):
            return str(link["url"])
    return None
