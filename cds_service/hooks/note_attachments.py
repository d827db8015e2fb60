"""Notes with their text at a URL: fetched only from the FHIR server that named it, with the same token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from cds_hooks import FHIR_ID, HookRequest
from cds_service.hooks.prefetch import fetch_all
from cds_service.net.gateway import Gateway
from fhir_mapping.parsing import FhirPrefetch

# Each is one more request; a search for notes returns at most fifty.
MAX_ATTACHMENTS = 20


def notes_by_url(
    request: HookRequest, prefetch: FhirPrefetch, gateway: Gateway, deadline: float
) -> Callable[[str], dict[str, Any] | None] | None:
    """A lookup of note attachments by URL, fetched with the hook's token; None if none may be fetched."""
    server = request.fhir_server
    if not server or not request.access_token or not gateway.allows(server):
        return None
    if not any(_binary_id(url, server) for url in note_urls(prefetch)):
        return None
    return binaries(prefetch, gateway, server, request.access_token, deadline)


def binaries(
    prefetch: FhirPrefetch, gateway: Gateway, server: str, token: str, deadline: float | None
) -> Callable[[str], dict[str, Any] | None]:
    """A lookup of note attachments by URL: Binary resources of the same server, fetched several at a time.

    Other URLs are not fetched; the record then says so for the note.
    """
    identifiers = (_binary_id(url, server) for url in note_urls(prefetch))
    wanted = dict.fromkeys(identifier for identifier in identifiers if identifier is not None)
    queries = {identifier: f"Binary/{identifier}" for identifier in islice(wanted, MAX_ATTACHMENTS)}
    found, _ = fetch_all(queries, server, token, gateway, deadline)
    return lambda url: found.get(_binary_id(url, server) or "")


def note_urls(prefetch: FhirPrefetch) -> Iterator[str]:
    """The URLs of the documents of a prefetch that have no data of their own."""
    for resource in prefetch.resources("documents"):
        for content in _objects(resource, "content"):
            attachment = content.get("attachment")
            url = attachment.get("url") if isinstance(attachment, dict) and not attachment.get("data") else None
            if isinstance(url, str):
                yield url


def _objects(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = holder.get(name)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _binary_id(url: str, server: str) -> str | None:
    """The id of a Binary at this server, from an absolute or relative URL; None for any other URL.

    >>> _binary_id("Binary/b1", "https://ehr.example/fhir")
    'b1'
    >>> _binary_id("https://ehr.example/fhir/Binary/b1", "https://ehr.example/fhir/")
    'b1'
    >>> _binary_id("https://evil.example/fhir/Binary/b1", "https://ehr.example/fhir") is None
    True
    """
    base = server.rstrip("/") + "/"
    relative = url.removeprefix(base)
    kind, _, identifier = relative.partition("/")
    return identifier if kind == "Binary" and FHIR_ID.match(identifier) and identifier not in {".", ".."} else None
