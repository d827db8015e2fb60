"""Prefetch completion: what did not come is fetched where we are allowed to, else 412 when it is required."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cds_service.gateway import Gateway, GatewayError
from cds_service.hook_request import HookRequest
from cds_service.outcome import HookError
from cds_service.services import REQUIRED, Service

_TOKEN = re.compile(r"\{\{context\.(\w+)\}\}")


def fill(template: str, context: Mapping[str, str | None]) -> str | None:
    """A template with its tokens replaced, or None when the context lacks one.

    >>> fill("Patient/{{context.patientId}}", {"patientId": "p1"})
    'Patient/p1'
    """
    names = _TOKEN.findall(template)
    if any(not context.get(name) for name in names):
        return None
    return _TOKEN.sub(lambda match: str(context[match[1]]), template)


def arrived(value: Any) -> bool:
    """Whether a prefetch value holds an answer: null, an empty object and an OperationOutcome do not."""
    return isinstance(value, dict) and bool(value) and value.get("resourceType") != "OperationOutcome"


def complete(request: HookRequest, service: Service, gateway: Gateway) -> dict[str, Any]:
    """The prefetch with missing keys fetched. Raises HookError 412 naming required templates that stay missing.

    `encounter` and `encounters` stand for one another: either tells the stay.
    """
    prefetch = {key: request.prefetch.get(key) for key in service.prefetch}
    missing = [key for key, value in prefetch.items() if not arrived(value)]
    why = ""
    if missing and request.access_token and gateway.allows(request.fhir_server):
        context = {"patientId": request.patient_id, "encounterId": request.encounter_id, "userId": request.user_id}
        for key in missing:
            query = fill(service.prefetch[key], context)
            if query is None or request.fhir_server is None:
                continue
            try:
                prefetch[key] = gateway.fetch(request.fhir_server, query, request.access_token)
            except GatewayError as error:
                why = f" (fetching {key} failed: {error.reason})"
    elif missing and request.fhir_server and not gateway.allows(request.fhir_server):
        why = " (fhirServer is not on the list of servers this service may read)"
    absent = [key for key in REQUIRED if not arrived(prefetch[key])]
    if absent == ["encounters"] and arrived(prefetch.get("encounter")):
        absent = []
    if absent:
        templates = ", ".join(f"{key} = {service.prefetch[key]}" for key in absent)
        raise HookError(412, "not-found", f"prefetch is missing and could not be fetched: {templates}{why}")
    return prefetch
