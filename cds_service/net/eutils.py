"""Requests to NCBI's E-utilities: one host, two utilities, no redirects, no proxy, limited size and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from knowledge_index import SourceError
from knowledge_index.sources import Fetch

NCBI = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils"
MAX_BODY = 64 * 2**20
SECONDS = 90.0
_UTILITIES = frozenset({"esearch", "efetch"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def eutils_fetch(base: str = NCBI, seconds: float = SECONDS) -> Fetch:
    """A `Fetch` for `knowledge_index.sources.eutils`. `base` is NCBI's address or that of a mirror, https unless it is
    local.

    Parameters are sent in the body of a POST, so that neither the API key nor a long query is in a URL. A transient
    failure (429, 5xx, no connection, an incomplete answer) is a `SourceError` that says so.
    """
    parts = urlsplit(base)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise SourceError(f"{base}: E-utilities are asked over https")
    session = requests.Session()
    session.trust_env = False

    def fetch(utility: str, parameters: Mapping[str, str]) -> bytes:
        if utility not in _UTILITIES:
            raise SourceError(f"no utility named {utility!r}")
        url = f"{base.rstrip('/')}/{utility}.fcgi"
        deadline = time.monotonic() + seconds
        try:
            with session.post(url, data=dict(parameters), timeout=30, allow_redirects=False, stream=True) as response:
                if response.status_code != 200:
                    passing = response.status_code == 429 or response.status_code >= 500
                    raise SourceError(f"PubMed answered {response.status_code} to {utility}", passing=passing)
                return _capped(response, utility, deadline)
        except requests.RequestException as error:
            # The exception's message would contain the URL and the parameters.
            raise SourceError(f"PubMed cannot be reached: {error.__class__.__name__}", passing=True) from None

    return fetch


def _capped(response: requests.Response, utility: str, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(1 << 16):
        body += chunk
        if len(body) > MAX_BODY:
            raise SourceError(f"PubMed's answer to {utility} is larger than {MAX_BODY >> 20} MB")
        if time.monotonic() > deadline:
            raise SourceError(f"PubMed's answer to {utility} took too long", passing=True)
    return bytes(body)
