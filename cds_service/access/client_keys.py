"""Fetches the JWK sets of clients through the outbound gateway: at most 1 second and 64 KB, no redirects."""

from __future__ import annotations

import time

from cds_hooks import FetchError, KeyRefusedError, parse_keys
from cds_hooks.keys import JwksFetcher, Keys
from cds_service.net.outbound import Outbound, OutboundError, OutboundResponse

MAX_JWKS_BYTES = 64 * 1024
FETCH_SECONDS = 1.0


def jwks_fetcher(outbound: Outbound) -> JwksFetcher:
    """The function with which `cds_hooks` reads a `jwks_url`; it raises FetchError."""

    def fetch(url: str) -> bytes:
        try:
            answer = _answer(url, outbound)
        except OutboundError as error:
            raise FetchError(error.reason, detail=error.detail) from None
        if answer.status != 200:
            raise FetchError("status", status=answer.status)
        return answer.body

    return fetch


def fetch_keys(url: str, outbound: Outbound) -> Keys:
    """The keys at a `jwks_url`, fetched now within 1 second. Raises OutboundError, KeyRefusedError."""
    answer = _answer(url, outbound)
    if answer.status != 200:
        raise KeyRefusedError(f"answered {answer.status}")
    return parse_keys(answer.body)


def _answer(url: str, outbound: Outbound) -> OutboundResponse:
    deadline = time.monotonic() + FETCH_SECONDS
    accept = {"Accept": "application/json"}
    return outbound.request("GET", url, headers=accept, deadline=deadline, max_bytes=MAX_JWKS_BYTES)
