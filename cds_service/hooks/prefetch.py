"""Prefetch completion: what did not come is fetched where we are allowed to, else 412 when it is required."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cds_hooks
from cds_hooks import FetchError, HookRequest, MissingPrefetchError, fill
from cds_hooks.prefetch import PARALLEL_FETCHES
from cds_service.net.gateway import Gateway
from cds_service.net.gateway import has_more as says_more
from cds_service.protocol.services import REQUIRED, Service
from fhir_mapping.parsing import Bundle


def arrived(value: Any, kind: str) -> bool:
    """Whether a prefetch value answers a template for resources of this kind: a Bundle, or one of them.

    null, an empty object, an OperationOutcome and a resource of another kind do not.
    """
    if isinstance(value, Bundle):
        return True
    return cds_hooks.arrived(value, kind)


def has_more(value: Any) -> bool:
    """Whether this is a Bundle that says there are further pages."""
    return says_more({"resourceType": "Bundle", "link": value.link} if isinstance(value, Bundle) else value)


def _usable(value: Any, kind: str) -> Any:
    """What does not answer its template is as if it had not come; what is no resource at all stays, to be refused."""
    return None if isinstance(value, dict) and not arrived(value, kind) else value


def has_gaps(prefetch: Mapping[str, Any], service: Service) -> bool:
    """Whether a prefetch lacks anything that could be fetched: a template's value, or the further pages of one."""
    values = [(prefetch.get(key), kind) for key, kind in service.expected().items()]
    return any(not arrived(value, kind) or has_more(value) for value, kind in values)


def complete(request: HookRequest, service: Service, gateway: Gateway, deadline: float | None = None) -> dict[str, Any]:
    """The prefetch with missing keys fetched, several at a time and none past `deadline` (of `time.monotonic()`).

    `encounter` and `encounters` stand for one another: either tells the stay. Raises HookError 412 naming required
    templates that stay missing.
    """
    expected = service.expected()
    prefetch = {key: _usable(request.prefetch.get(key), kind) for key, kind in expected.items()}
    prefetch |= _further_pages(prefetch, request, gateway, deadline)
    missing = [key for key, value in prefetch.items() if not arrived(value, expected[key])]
    why = ""
    if missing and request.access_token and gateway.allows(request.fhir_server):
        context = {"patientId": request.patient_id, "encounterId": request.encounter_id, "userId": request.user_id}
        queries = {key: fill(service.prefetch[key], context) for key in missing}
        wanted = {key: query for key, query in queries.items() if query is not None}
        found, failed = fetch_all(wanted, str(request.fhir_server), request.access_token, gateway, deadline)
        prefetch |= found
        why = "".join(f" (fetching {key} failed: {error.reason})" for key, error in failed.items())
    elif missing and request.fhir_server and not gateway.allows(request.fhir_server):
        why = " (fhirServer is not on the list of servers this service may read)"
    absent = [key for key in REQUIRED if not arrived(prefetch[key], expected[key])]
    if absent == ["encounters"] and arrived(prefetch.get("encounter"), "Encounter"):
        absent = []
    if absent:
        raise MissingPrefetchError({key: service.prefetch[key] for key in absent}, why)
    return prefetch


def _further_pages(
    prefetch: Mapping[str, Any], request: HookRequest, gateway: Gateway, deadline: float | None
) -> dict[str, Any]:
    """What came with a `next` link, made whole with the given token; what cannot be stays as it came: incomplete."""
    cut = {key: _parsed(value) for key, value in prefetch.items() if has_more(value)}
    if not cut or not request.access_token or not gateway.allows(request.fhir_server):
        return {}
    server, token = str(request.fhir_server), request.access_token
    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        waiting = {key: pool.submit(gateway.follow, server, value, token, deadline) for key, value in cut.items()}
        return {key: future.result() for key, future in waiting.items()}


def _parsed(value: Any) -> Any:
    return value.parsed() if isinstance(value, Bundle) else value


def fetch_all(
    queries: Mapping[str, str], server: str, token: str | None, gateway: Gateway, deadline: float | None
) -> tuple[dict[str, Any], dict[str, FetchError]]:
    """(what came, why the rest did not), by key; several at a time."""
    return cds_hooks.fetch_all(queries, lambda query: gateway.fetch(server, query, token, deadline))
