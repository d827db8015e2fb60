"""The Locations that a stay's encounters name, read with the token of the hook or of the session.

Where the encounter has no code of its own for an intensive care unit, only its Location says so, and few servers
include it in a search for encounters. The card and the app behind it both read it here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from cds_hooks import FHIR_ID
from cds_service.hooks.prefetch import fetch_all
from cds_service.net.gateway import Gateway
from fhir_mapping.parsing import FhirPrefetch

LOCATIONS = "places"
"""Their key in a prefetch; no prefetch template has it."""
MOST = 6
"""Locations read for one hook or page: bed, ward and building of a stay and of the one before it."""
_ROUNDS = 4
_STAYS = 2


def with_locations(
    prefetch: FhirPrefetch,
    encounter_id: str | None,
    gateway: Gateway,
    server: str | None,
    token: str | None,
    deadline: float | None,
) -> FhirPrefetch:
    """The prefetch, and under LOCATIONS those Locations of its stay that did not come with it, where we may read them.

    The stay is the encounter of that id and its parts, else the two newest. A Location that cannot be read is left out.
    """
    if not server or not token or not gateway.allows(server):
        return prefetch
    stays, held = _stays(prefetch, encounter_id)
    found = read_locations(stays, gateway, server, token, most=MOST, held=held, deadline=deadline)
    if not found:
        return prefetch
    base = server.rstrip("/")
    entries = [
        {"fullUrl": f"{base}/Location/{location.get('id')}", "resource": location, "search": {"mode": "include"}}
        for location in found
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    return prefetch.replace({LOCATIONS: bundle}, {LOCATIONS: "Location"})


def lacks_locations(prefetch: FhirPrefetch, encounter_id: str | None) -> bool:
    """Whether a stay names a Location that neither came nor was read."""
    if LOCATIONS in prefetch.expected:
        return False
    stays, held = _stays(prefetch, encounter_id)
    named = {_referenced_id(at.get("location")) for stay in stays for at in _objects(stay.get("location"))}
    return bool(named - held - {None})


def newest_first(stays: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Encounters by start, the newest first; those without a start come last."""

    def begun(stay: Mapping[str, Any]) -> str:
        period = stay.get("period")
        start = period.get("start") if isinstance(period, dict) else None
        return start if isinstance(start, str) else ""

    return sorted(stays, key=begun, reverse=True)


def read_locations(
    stays: Sequence[Mapping[str, Any]],
    gateway: Gateway,
    server: str,
    token: str | None,
    *,
    most: int,
    held: Collection[str] = (),
    deadline: float | None = None,
) -> list[dict[str, Any]]:
    """The Locations that the stays name and those they are part of: at most `most`, without those in `held`."""
    known, found = set(held), []
    references = [at.get("location") for stay in stays for at in _objects(stay.get("location"))]
    for _ in range(_ROUNDS):
        fresh = (name for name in dict.fromkeys(map(_referenced_id, references)) if name and name not in known)
        asked = list(islice(fresh, most - len(known) + len(held)))
        if not asked:
            break
        known |= set(asked)
        read, _failed = fetch_all({name: f"Location/{name}" for name in asked}, server, token, gateway, deadline)
        found += list(read.values())
        references = [location.get("partOf") for location in read.values()]
    return found


def _referenced_id(reference: Any) -> str | None:
    """The id of a Location (or an Encounter) that a Reference names; None for anything else."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    kind, _, identifier = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    fits = kind.rpartition("/")[2] in {"Location", "Encounter"} and FHIR_ID.match(identifier) and identifier.strip(".")
    return identifier if fits else None


def _stays(prefetch: FhirPrefetch, encounter_id: str | None) -> tuple[list[Mapping[str, Any]], set[str]]:
    """(the encounters that say where the patient is, newest first; the ids of the Locations that came with them)"""
    included = list(prefetch.encounters())
    encounters = list({str(e.get("id")): e for e in included if e["resourceType"] == "Encounter"}.values())
    held = {str(each.get("id")) for each in included if each["resourceType"] == "Location"}
    parts = [e for e in encounters if encounter_id and encounter_id in (e.get("id"), _referenced_id(e.get("partOf")))]
    return newest_first(parts or encounters)[:_STAYS], held


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
