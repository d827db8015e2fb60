"""FHIR reads, searches and updates at servers on the allow-list.

Every URL is built here and checked again before a socket opens. Sizes, pages and time are limited. The token belongs
to one request and is never a default of the session. Sockets are opened by `outbound.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import orjson

from cds_hooks import MAX_ENTRIES, FetchError
from cds_service.net.outbound import Networks, Outbound, OutboundError, OutboundResponse
from cds_service.net.retry_after import http_date, retry_after

MAX_BODY = 10 * 2**20
MAX_PAGES = 20
# Bytes that may be fetched for one search, and for one hook with its notes: twice the largest hook request.
MAX_FETCHED = 2 * MAX_BODY
_VERSION_OF = re.compile(r"/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?\Z")
_ETAG = re.compile(r'W?/?"([A-Za-z0-9\-.]{1,64})"\Z')


LONGEST_WAIT = 24 * 3600.0
"""Seconds: a server that asks for a longer pause is asked again after a day."""


class GatewayError(FetchError):
    """The server could not be read. `retry_after`: the seconds after which it asks to be tried again, if it says so."""

    def __init__(
        self, reason: str, *, status: int | None = None, detail: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(reason, status=status, detail=detail)
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later: a busy or unreachable server, not one that refuses."""
        if self.status is None:
            return self.reason in {"too-slow", "unreachable", "not-resolved", "cut-off"}
        return self.status in {408, 425, 429} or self.status >= 500


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """One page of a search: the Bundle, the link to the next page, and the server's time if it said so."""

    bundle: dict[str, Any]
    next: str | None
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to an update: status, and id and version of the resource, as far as the server named them."""

    status: int
    id: str | None
    version: str | None


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
        # A server may decode the path once more than we do: it is checked in decoded form, and refused if it can be
        # decoded further.
        path = unquote(parts.path)
        hidden = "%" in path or "\\" in url or any(ord(sign) <= 32 for sign in url)
        # `..;` is `..` for servers that take path parameters off after they checked the path (Tomcat and others).
        climbs = any(part.partition(";")[0].strip() in {".", ".."} for part in path.split("/"))
        if hidden or climbs:
            raise GatewayError("not-a-server-url")
        port = given or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname.lower(), port, path.rstrip("/"))

    def holds(self, other: _Origin) -> bool:
        """Whether the other has the same scheme, host and port, and a path at or below this one, by path segments."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and (other.path == self.path or other.path.startswith(f"{self.path}/"))


class Allowance:
    """A number of bytes that several threads together may still fetch."""

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
    """The body of one answer, counted against an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self.body = bytearray()
        self._allowance = allowance

    def write(self, chunk: bytes, /) -> None:
        self._allowance.take(len(chunk))
        self.body += chunk


@dataclass(frozen=True, slots=True)
class _FetchScope:
    """The settings of all pages of one search."""

    base: _Origin
    token: str | None
    deadline: float
    allowance: Allowance


class Gateway:
    """Gateway(allowed, seconds).fetch(server, "Observation?patient=1&_count=50", token) -> resource or merged Bundle

    `private_networks` are the CIDR ranges in which allowed servers may be; a server named by its literal address, or
    as localhost, needs no range. `keep_partial`: whether a search of which a later page failed, because the server was
    busy, is kept as incomplete; otherwise it is an error.
    """

    def __init__(
        self,
        allowed: Iterable[str],
        seconds: float = 3.0,
        private_networks: Iterable[str] = (),
        *,
        keep_partial: bool = True,
    ) -> None:
        self._allowed = tuple(_Origin.of(url) for url in allowed)
        self._seconds = seconds
        self._keep_partial = keep_partial
        networks = Networks.of(private_networks)
        for origin in self._allowed:
            networks = networks.also(origin.host)
        self._outbound = Outbound(networks)
        self._allowance: Allowance | None = None

    def for_one_hook(self) -> Gateway:
        """The gateway for one hook, with MAX_FETCHED bytes for all its fetches together.

        Twenty pages of ten megabytes for each of eleven templates would each be within their limits, and gigabytes.
        """
        one = copy(self)
        one._allowance = Allowance(MAX_FETCHED)
        return one

    def allows(self, server: str | None) -> bool:
        """Whether a FHIR base URL is on the allow-list."""
        if not server:
            return False
        try:
            origin = _Origin.of(server)
        except GatewayError:
            return False
        return any(allowed == origin for allowed in self._allowed)

    def fetch(self, server: str, query: str, token: str | None = None, deadline: float | None = None) -> dict[str, Any]:
        """The resource of `Type/id`, or all pages of a search `Type?...` as one searchset.

        Takes at most the gateway's seconds, and not past `deadline` (of `time.monotonic()`). A search that a limit
        ended keeps its `next` link, which marks it as incomplete. Raises GatewayError.
        """
        scope = self._scope(server, token, deadline)
        return self._whole(self._get(f"{server.rstrip('/')}/{query}", scope)[0], server, scope)

    def page(self, server: str, query: str, token: str | None = None, deadline: float | None = None) -> FetchedPage:
        """One page: of a search `Type?...`, or of the link to a further page, absolute or relative.

        Raises GatewayError, with the pause that the server asks for.
        """
        scope = self._scope(server, token, deadline)
        bundle, headers = self._get(_joined(server, query), scope)
        if bundle["resourceType"] != "Bundle":
            raise GatewayError("not-a-bundle")
        return FetchedPage(bundle, next_link(bundle.get("link")), http_date(headers.get("date", "")))

    def update(
        self,
        server: str,
        place: str,
        resource: Mapping[str, Any],
        token: str,
        *,
        if_match: str | None = None,
        deadline: float | None = None,
    ) -> Written:
        """Updates `Type/id` or, conditionally, `Type?...` (FHIR http, "update"). `if_match`: the version to replace.

        Raises GatewayError; status 412 means another version, or several matches.
        """
        scope = self._scope(server, token, deadline)
        headers = {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
        if if_match is not None:
            headers["If-Match"] = f'W/"{if_match}"'
        url = f"{server.rstrip('/')}/{place}"
        answer, _ = self._exchange("PUT", url, scope, headers, orjson.dumps(resource), frozenset({200, 201, 204}))
        found = _VERSION_OF.search(answer.headers.get("location") or answer.headers.get("content-location", ""))
        etag = _ETAG.match(answer.headers.get("etag", ""))
        return Written(
            answer.status,
            found["id"] if found else None,
            etag[1] if etag else found["version"] if found else None,
        )

    def follow(self, server: str, bundle: dict[str, Any], token: str | None, deadline: float | None) -> dict[str, Any]:
        """A searchset that the client fetched, with its further pages added.

        Raises GatewayError.
        """
        return self._whole(bundle, server, self._scope(server, token, deadline))

    def _scope(self, server: str, token: str | None, deadline: float | None) -> _FetchScope:
        if not self.allows(server):
            raise GatewayError("server-not-allowed")
        until = min(time.monotonic() + self._seconds, deadline or float("inf"))
        return _FetchScope(_Origin.of(server), token, until, self._allowance or Allowance(MAX_FETCHED))

    def _whole(self, first: dict[str, Any], server: str, scope: _FetchScope) -> dict[str, Any]:
        """The first page and the following pages as one searchset; an incomplete one keeps its `next` link."""
        if first.get("resourceType") != "Bundle":
            return first
        entries, page = _entries(first), first
        for _ in range(MAX_PAGES):
            following = next_link(page.get("link"))
            if following is None:
                return {**first, "entry": entries, "link": []}
            try:
                page, _ = self._get(_joined(server, following), scope)
            except GatewayError as error:
                if error.is_transient and not self._keep_partial:
                    raise
                break
            entries += _entries(page)
            if len(entries) > MAX_ENTRIES:
                break
        return {**first, "entry": entries, "link": [{"relation": "next", "url": "not-followed"}]}

    def _get(self, url: str, scope: _FetchScope) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The resource at a URL, and the headers of the answer."""
        # Otherwise a server that does not know a parameter ignores it and answers with all patients' resources.
        headers = {"Prefer": "handling=strict"} if "?" in url else {}
        answer, body = self._exchange("GET", url, scope, headers, None, frozenset({200}))
        try:
            resource = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise GatewayError("not-json") from None
        if not _is_fhir(resource):
            raise GatewayError("not-fhir")
        return dict(resource), answer.headers

    def _exchange(
        self,
        method: str,
        url: str,
        scope: _FetchScope,
        headers: dict[str, str],
        body: bytes | None,
        good: frozenset[int],
    ) -> tuple[OutboundResponse, bytearray]:
        """The answer to a request below the server's base URL, and the body of a 200. Raises GatewayError."""
        if not scope.base.holds(_Origin.of(url)):
            raise GatewayError("other-origin")
        headers = {"Accept": "application/fhir+json", **headers}
        if scope.token:
            headers["Authorization"] = f"Bearer {scope.token}"
        came = _Counted(scope.allowance)
        try:
            answer = self._outbound.request(
                method, url, headers=headers, body=body, deadline=scope.deadline, max_bytes=MAX_BODY, into=came
            )
        except OutboundError as error:
            raise GatewayError(error.reason) from None
        if answer.status not in good:
            pause = retry_after(answer.headers, most=LONGEST_WAIT)
            raise GatewayError("status", status=answer.status, retry_after=pause)
        return answer, came.body


def _is_fhir(resource: Any) -> bool:
    """Whether this is a resource, and if a Bundle, one of resources; a malformed answer is the server's error."""
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        return False
    held = [entry.get("resource", {}) if isinstance(entry, dict) else None for entry in _entries(resource)]
    return all(isinstance(each, dict) for each in held)


def _joined(server: str, following: str) -> str:
    """The absolute URL of a page's link. Raises GatewayError."""
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
