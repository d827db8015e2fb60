"""A patient's resources from a FHIR server, for `riskcards score --fhir-server` and the demo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cds_hooks import FHIR_ID
from cds_service.hooks.locations import newest_first, read_locations
from cds_service.net.fhir_server import GatewayFhirServer
from cds_service.net.gateway import Gateway, GatewayError

MAX_LOCATIONS = 20
"""Locations read for one patient."""
_TYPES = (
    "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference", "Composition",
)  # fmt: skip


def fetch_patient_resources(
    server: str,
    patient: str,
    *,
    token: str | None = None,
    seconds: float = 60.0,
    private_networks: Iterable[str] = (),
) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """(the resources of a patient, the types that could not be fetched completely)

    Raises GatewayError when the Patient itself cannot be read.
    """
    if not FHIR_ID.match(patient):
        raise GatewayError("not-an-id")
    gateway = Gateway([server], seconds, private_networks)
    source = GatewayFhirServer(gateway, server, token)
    resources = [source.request_json(f"Patient/{patient}")]
    missing = set()
    for kind in _TYPES:
        try:
            bundle = source.search(kind, patient=patient, _count=500)
        except GatewayError:
            missing.add(kind)
            continue
        listed = bundle.get("entry")
        entries = (entry for entry in (listed if isinstance(listed, list) else ()) if isinstance(entry, dict))
        resources += [entry["resource"] for entry in entries if isinstance(entry.get("resource"), dict)]
        if bundle.get("link"):
            missing.add(kind)
    stays = [resource for resource in resources if resource.get("resourceType") == "Encounter"]
    locations = read_locations(newest_first(stays), gateway, server, token, most=MAX_LOCATIONS)
    return resources + locations, frozenset(missing)
