"""Prefetch completion: missing values are fetched where allowed; a required value that stays missing is a 412."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cds_hooks
from cds_hooks import FetchError, HookRequest, MissingPrefetchError, Prefetch, fill
from cds_hooks.prefetch import PARALLEL_FETCHES
from cds_service.net.gateway import Gateway, next_link
from cds_service.services import REQUIRED, Service
from fhir_mapping.parsing import FhirPrefetch


def has_gaps(prefetch: Prefetch, service: Service) -> bool:
    """Whether anything could be fetched that a prefetch lacks: the value of a template, or further pages of one."""
    came = FhirPrefetch(prefetch, service.expected())
    return any(came.is_missing(key) or _has_more(came, key) for key in came.expected)


def complete(request: HookRequest, service: Service, gateway: Gateway, deadline: float | None = None) -> FhirPrefetch:
    """The prefetch with missing keys fetched, several at a time and none past `deadline` (of `time.monotonic()`).

    Of `encounter` and `encounters` one is enough. Raises MissingPrefetchError naming required templates that stay
    missing.
    """
    prefetch = FhirPrefetch(request.prefetch, service.expected())
    # A resource of another type counts as not fetched; JSON that is no object stays, and is refused when it is read.
    prefetch = prefetch.replace({key: None for key in prefetch.expected if _is_unusable(prefetch, key)})
    prefetch = prefetch.replace(_further_pages(prefetch, request, gateway, deadline))
    missing = [key for key in prefetch.expected if prefetch.is_missing(key)]
    why = ""
    if missing and request.access_token and gateway.allows(request.fhir_server):
        context = {"patientId": request.patient_id, "encounterId": request.encounter_id, "userId": request.user_id}
        queries = {key: fill(service.prefetch[key], context) for key in missing}
        wanted = {key: query for key, query in queries.items() if query is not None}
        found, failed = fetch_all(wanted, str(request.fhir_server), request.access_token, gateway, deadline)
        prefetch = prefetch.replace(found)
        why = "".join(f" (fetching {key} failed: {error.reason})" for key, error in failed.items())
    elif missing:
        why = f" ({_why_not_fetched(request)})"
    absent = [key for key in REQUIRED if prefetch.is_missing(key)]
    if absent == ["encounters"] and not prefetch.is_missing("encounter"):
        absent = []
    if absent:
        raise MissingPrefetchError({key: service.prefetch[key] for key in absent}, why)
    return prefetch


def _why_not_fetched(request: HookRequest) -> str:
    """What a request lacks for its gaps to be fetched, for the one who set the client up."""
    if not request.fhir_server:
        return "the request has no fhirServer and no fhirAuthorization to fetch it with"
    if not request.access_token:
        return "the request has a fhirServer and no fhirAuthorization to read it with"
    return "fhirServer is not on the list of servers this service may read"


def _is_unusable(prefetch: FhirPrefetch, key: str) -> bool:
    return prefetch.is_missing(key) and prefetch.is_resource(key)


def _has_more(prefetch: FhirPrefetch, key: str) -> bool:
    """Whether this is a Bundle with a link to further pages."""
    return next_link(prefetch.links(key)) is not None


def _further_pages(
    prefetch: FhirPrefetch, request: HookRequest, gateway: Gateway, deadline: float | None
) -> dict[str, Any]:
    """The Bundles with a `next` link, completed with the given token; those that cannot be stay incomplete."""
    cut = {key: prefetch.to_json(key) for key in prefetch.expected if _has_more(prefetch, key)}
    if not cut or not request.access_token or not gateway.allows(request.fhir_server):
        return {}
    server, token = str(request.fhir_server), request.access_token
    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        waiting = {key: pool.submit(gateway.follow, server, value, token, deadline) for key, value in cut.items()}
        return {key: future.result() for key, future in waiting.items()}


def fetch_all(
    queries: Mapping[str, str], server: str, token: str | None, gateway: Gateway, deadline: float | None
) -> tuple[dict[str, Any], dict[str, FetchError]]:
    """(what came, why the rest did not), by key; several at a time."""
    return cds_hooks.fetch_all(queries, lambda query: gateway.fetch(server, query, token, deadline))
