"""Where a stay is: the Locations its encounters name, read with the token of the hook or of the session.

Only a Location tells an intensive care unit where the encounter's own codes do not, and a search for encounters brings
it only from servers that include it unasked. A card and the app behind it read it here, so that both know the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cds_hooks import FHIR_ID
from cds_service.hooks.prefetch import fetch_all
from cds_service.net.gateway import Gateway
from fhir_mapping.parsing import Bundle, decode_json

PLACES = "places"
"""The key under which they stand in a prefetch: no template of ours asks for it."""
MOST = 6
"""Reads for one hook or page: a bed, its ward and its building, for a stay and the one before it."""
_ROUNDS = 4
_STAYS = 2


def with_places(
    prefetch: Mapping[str, Any],
    encounter_id: str | None,
    gateway: Gateway,
    server: str | None,
    token: str | None,
    deadline: float | None,
) -> dict[str, Any]:
    """The prefetch, and under PLACES the Locations of its stay that did not come with it, where we may ask.

    The stay is the encounter of that id and its parts, else the two newest. What cannot be read stays unknown.
    """  # fmt: skip
    if not server or not token or not gateway.allows(server):
        return dict(prefetch)
    stays, held = _stays(prefetch, encounter_id)
    found = read_places(stays, gateway, server, token, most=MOST, held=held, deadline=deadline)
    if not found:
        return dict(prefetch)
    base = server.rstrip("/")
    entries = [
        {"fullUrl": f"{base}/Location/{place.get('id')}", "resource": place, "search": {"mode": "include"}}
        for place in found
    ]
    return {**prefetch, PLACES: {"resourceType": "Bundle", "type": "searchset", "entry": entries}}


def lacks_places(prefetch: Mapping[str, Any], encounter_id: str | None) -> bool:
    """Whether a stay names a Location that neither came nor was read."""
    stays, held = _stays(prefetch, encounter_id)
    named = {_referred(place.get("location")) for stay in stays for place in _objects(stay.get("location"))}
    return PLACES not in prefetch and bool(named - held - {None})


def expecting_places(expected: Mapping[str, str], prefetch: Mapping[str, Any]) -> Mapping[str, str]:
    """The kinds of a prefetch by key, its places among them where they were read."""
    return {**expected, PLACES: "Location"} if PLACES in prefetch else expected


def newest_first(stays: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that do not say when they began come last."""

    def begun(stay: Mapping[str, Any]) -> str:
        period = stay.get("period")
        start = period.get("start") if isinstance(period, dict) else None
        return start if isinstance(start, str) else ""

    return sorted(stays, key=begun, reverse=True)


def read_places(
    stays: Sequence[Mapping[str, Any]],
    gateway: Gateway,
    server: str,
    token: str | None,
    *,
    most: int,
    held: Collection[str] = (),
    deadline: float | None = None,
) -> list[dict[str, Any]]:
    """The Locations the stays name and what those are part of, several at a time; at most so many, those held not."""
    known, found = set(held), []
    waiting = [place.get("location") for stay in stays for place in _objects(stay.get("location"))]
    for _ in range(_ROUNDS):
        fresh = (name for name in dict.fromkeys(map(_referred, waiting)) if name is not None and name not in known)
        asked = list(islice(fresh, most - len(known) + len(held)))
        if not asked:
            break
        known |= set(asked)
        read, _failed = fetch_all({name: f"Location/{name}" for name in asked}, server, token, gateway, deadline)
        found += list(read.values())
        waiting = [place.get("partOf") for place in read.values()]
    return found


def _referred(reference: Any) -> str | None:
    """The id of a Location (or an Encounter) that a Reference names; None for anything else."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    kind, _, identifier = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    fits = kind.rpartition("/")[2] in {"Location", "Encounter"} and FHIR_ID.match(identifier) and identifier.strip(".")
    return identifier if fits else None


def _stays(prefetch: Mapping[str, Any], encounter_id: str | None) -> tuple[list[Mapping[str, Any]], set[str]]:
    """The encounters that tell where the patient is, newest first, and the ids of the Locations that came."""
    encounters, held = _charted(prefetch)
    parts = [e for e in encounters if encounter_id and encounter_id in (e.get("id"), _referred(e.get("partOf")))]
    return newest_first(parts or encounters)[:_STAYS], held


def _charted(prefetch: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], set[str]]:
    """The encounters of a prefetch, and the ids of the Locations that came with them."""
    listed = [one for key in ("encounter", "encounters") for one in _resources(prefetch.get(key))]
    encounters = {str(one.get("id")): one for one in listed if one.get("resourceType") == "Encounter"}
    held = {str(one.get("id")) for one in listed if one.get("resourceType") == "Location"}
    return list(encounters.values()), held


def _resources(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Bundle):
        found: Iterable[Any] = (decode_json(one) for one in value.resources if b"ocation" in one)
    elif isinstance(value, dict) and value.get("resourceType") == "Bundle":
        found = (entry.get("resource") for entry in _objects(value.get("entry")))
    else:
        found = (value,)
    yield from (one for one in found if isinstance(one, dict))


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
