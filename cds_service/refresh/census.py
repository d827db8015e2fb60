"""Who is in hospital now: the running inpatient stays of a server, with name, unit and start.

One search for encounters in progress with their patients and locations; a server that includes neither is asked for
them. Whether an encounter is an inpatient stay is decided by the same code as for a card, with a site's own classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cds_service.cards.escape import plain
from cds_service.hooks.locations import newest_first, read_locations
from cds_service.hooks.prefetch import fetch_all
from cds_service.hooks.stay_faults import certainly_no_stay
from cds_service.net.gateway import Gateway, GatewayError
from cds_service.refresh.resource_ids import key_of, local_key, patient_of
from fhir_mapping import FhirMappingError, PatientRecord, SiteMap

# A server refuses what it does not know (strict handling); the next search asks for less.
_SEARCHES = (
    "status=in-progress,onleave&_include=Encounter:patient&_include=Encounter:location&_count=200",
    "status=in-progress&_include=Encounter:patient&_include=Encounter:location&_count=200",
    "status=in-progress&_count=200",
)
MAX_UNIT = 80
"""Characters of a unit's name."""
MAX_LOCATIONS = 500
"""Locations read one by one where a server does not include them."""
_SURE_OF_WARD, _BED = "wa", frozenset({"bd", "ro"})
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inpatient:
    """One patient in hospital. `start` and `unit` are None and "" if unknown; `in_doubt` says why it may be no stay."""

    patient: str
    """`Patient/id`."""
    resource: Json
    stay: str
    start: datetime | None
    unit: str
    bed: str
    intensive_care: bool
    in_doubt: str = ""


@dataclass(frozen=True, slots=True)
class Census:
    """The inpatients of a server at `read`. `whole` is False where the server's list was cut.

    `unread` counts encounters that name no patient of this server, or one that could not be read.
    """

    inpatients: tuple[Inpatient, ...]
    whole: bool
    unread: int
    read: datetime

    @property
    def patients(self) -> frozenset[str]:
        return frozenset(one.patient for one in self.inpatients)


def read_census(
    gateway: Gateway, server: str, token: str, now: datetime, deadline: float, site_map: SiteMap | None = None
) -> Census:
    """Raises GatewayError."""
    bundle = _encounters(gateway, server, token, deadline)
    resources = {key: r for r in _resources(bundle) if (key := key_of(r)) is not None}
    encounters = [r for key, r in resources.items() if key.startswith("Encounter/")]
    by_patient: dict[str, list[Json]] = {}
    for encounter in encounters:
        by_patient.setdefault(patient_of(encounter, server) or "", []).append(encounter)
    unread = len(by_patient.pop("", ()))
    lacking = {patient: patient for patient in by_patient if patient not in resources}
    came, failed = fetch_all(lacking, server, token, gateway, deadline)
    if failed and all(isinstance(e, GatewayError) and e.is_transient for e in failed.values()):
        raise next(iter(failed.values()))
    patients = resources | {patient: resource for patient, resource in came.items() if key_of(resource) == patient}
    unread += sum(len(by_patient.pop(patient)) for patient in lacking if patient not in patients)
    held = {key.partition("/")[2] for key in resources if key.startswith("Location/")}
    places = [r for key, r in resources.items() if key.startswith("Location/")]
    stays = newest_first(encounter for listed in by_patient.values() for encounter in listed)
    places += read_locations(
        stays, gateway, server, token, most=MAX_LOCATIONS + len(held), held=held, deadline=deadline
    )
    locations = {key: place for place in places if (key := key_of(place)) is not None}
    found = (
        _inpatient(patient, patients[patient], listed, locations, server, now, site_map)
        for patient, listed in by_patient.items()
    )
    return Census(tuple(one for one in found if one is not None), not bundle.get("link"), unread, now)


def _encounters(gateway: Gateway, server: str, token: str, deadline: float) -> dict[str, Any]:
    for search in _SEARCHES[:-1]:
        try:
            return gateway.fetch(server, f"Encounter?{search}", token, deadline)
        except GatewayError as error:
            if error.status not in {400, 403, 422, 501}:
                raise
    return gateway.fetch(server, f"Encounter?{_SEARCHES[-1]}", token, deadline)


def _inpatient(
    patient: str,
    resource: Json,
    encounters: Sequence[Json],
    locations: Mapping[str, Json],
    server: str,
    now: datetime,
    site_map: SiteMap | None,
) -> Inpatient | None:
    """The inpatient; None where no encounter is an inpatient stay that has begun."""
    named = (at.get("location") for encounter in encounters for at in _objects(encounter.get("location")))
    places = {key_of(place): place for reference in named for place in _upwards(reference, locations, server)}
    try:
        record = PatientRecord.from_resources(
            [dict(r) for r in (resource, *encounters, *places.values())],
            patient.partition("/")[2],
            now,
            site_map=site_map,
            undated_known=True,
        )
    except FhirMappingError:
        return Inpatient(patient, resource, "", None, "", "", False, "the patient's encounters cannot be read")
    stay = record.current_stay
    if stay is None and certainly_no_stay(record):
        return None
    newest = newest_first(encounters)
    unit, bed = _place(newest, locations, server)
    if stay is None:
        doubt = "the encounter's class is not understood: it is unknown whether this is an inpatient stay"
        return Inpatient(patient, resource, key_of(newest[0]) or "", None, unit, bed, False, doubt)
    return Inpatient(patient, resource, stay.source, stay.start, unit, bed, bool(stay.intensive_care))


def _place(encounters: Iterable[Json], locations: Mapping[str, Json], server: str) -> tuple[str, str]:
    """(unit, bed) of the newest encounter with a location: the ward above a bed, where the kinds are stated."""
    for encounter in encounters:
        listed = [at for at in _objects(encounter.get("location")) if at.get("status") not in {"completed", "planned"}]
        listed = [at for at in listed if not _ended(at)]
        for at in reversed(listed):
            reference = at.get("location")
            way = list(_upwards(reference, locations, server))
            if not way:
                said = reference.get("display") if isinstance(reference, Mapping) else None
                if isinstance(said, str) and said.strip():
                    return plain(said, MAX_UNIT), ""
                continue
            names = [_name(place) for place in way]
            kinds = [_physical(place) for place in way]
            ward = next((n for n, kind in enumerate(kinds) if kind == _SURE_OF_WARD), None)
            if ward is None:
                ward = next((n for n, kind in enumerate(kinds) if kind not in _BED), 0)
            return names[ward], names[0] if ward else ""
    return "", ""


def _upwards(reference: Any, locations: Mapping[str, Json], server: str) -> Iterable[Json]:
    """A location and those it is part of."""
    seen: set[str] = set()
    while isinstance(reference, Mapping):
        key = local_key(reference.get("reference"), server)
        if key is None or key in seen or key not in locations:
            return
        seen.add(key)
        yield locations[key]
        reference = locations[key].get("partOf")


def _name(place: Json) -> str:
    name = place.get("name")
    said = plain(name, MAX_UNIT) if isinstance(name, str) else ""
    return said or (key_of(place) or "").partition("/")[2]


def _physical(place: Json) -> str:
    """The code of `physicalType` (R4) or `form` (R5): `wa` ward, `ro` room, `bd` bed."""
    coded = place.get("physicalType") or place.get("form")
    codings = _objects(coded.get("coding")) if isinstance(coded, Mapping) else []
    return next((str(coding["code"]).lower() for coding in codings if coding.get("code")), "")


def _ended(at: Json) -> bool:
    period = at.get("period")
    return isinstance(period, Mapping) and bool(period.get("end"))


def _resources(bundle: Json) -> list[Json]:
    entries = _objects(bundle.get("entry"))
    return [entry["resource"] for entry in entries if isinstance(entry.get("resource"), Mapping)]


def _objects(listed: Any) -> list[Json]:
    return [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
