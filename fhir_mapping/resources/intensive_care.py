"""Whether an Encounter is in intensive care: by its type, service, or a location the patient has entered.

FHIR R4 Encounter.location (https://hl7.org/fhir/R4/encounter-definitions.html#Encounter.location.status): the patient
is not in a planned or reserved location.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fhir_mapping.core.times import parse_instant, reachable
from fhir_mapping.core.values import Coding
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.references import Directory
from fhir_mapping.terminology.codes import codings
from fhir_mapping.terminology.encounter_codes import is_known_system, meanings

_ELSEWHERE = frozenset({"planned", "reserved"})
_MOST_NESTED = 8


def in_intensive_care(
    resource: Resource, types: tuple[Coding, ...], directory: Directory, prediction_time: datetime, *, settled: bool
) -> tuple[bool | None, str]:
    """Returns True by the code of type, service or an entered location, False if every coded location is another,
    else None and the reason code.

    A location without a period may have been entered later, unless `settled`: the encounter has ended, or the data are
    of the prediction time.
    """
    if meanings("intensive_care", types):
        return True, ""
    known = False
    reason = "not-coded"
    listed = resource.get("location")
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict) or str(item.get("status")) in _ELSEWHERE:
            continue
        entered = _entered(item.get("period"), prediction_time, settled=settled)
        if entered is False:
            continue
        codes = list(_location_codes(item.get("location"), resource, directory))
        intensive = bool(meanings("intensive_care", codes))
        if intensive and entered:
            return True, ""
        if intensive:
            reason = "no-time"
        elif codes and not any(is_known_system("intensive_care", code.system) for code in codes):
            reason = "code-not-understood" if reason == "not-coded" else reason
        known = known or bool(codes)
    return (False, "") if known and reason == "not-coded" else (None, reason)


def intensive_care_from(
    resource: Resource, types: tuple[Coding, ...], directory: Directory, start: datetime
) -> datetime | None:
    """Returns when intensive care began: at the start of the encounter if its type says so, else with the location."""
    if meanings("intensive_care", types):
        return start
    entered = []
    listed = resource.get("location")
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict) or str(item.get("status")) in _ELSEWHERE:
            continue
        period = item.get("period")
        at = parse_instant(period.get("start")) if isinstance(period, dict) else None
        if meanings("intensive_care", _location_codes(item.get("location"), resource, directory)):
            entered.append(start if at is None else max(start, at.earliest))
    return min(entered, default=None)


def _entered(period: Any, prediction_time: datetime, *, settled: bool) -> bool | None:
    """Whether a location had been entered by the prediction time; None if that is unknown."""
    dates = period if isinstance(period, dict) else {}
    start, end = parse_instant(dates.get("start")), parse_instant(dates.get("end"))
    if start is not None and start.earliest > prediction_time:
        return False
    if start is None:
        return True if settled or (end is not None and reachable(end, prediction_time)) else None
    return True if settled or start.zone_assumed or reachable(start, prediction_time) else None


def _location_codes(reference: Any, container: Resource, directory: Directory) -> Iterator[Coding]:
    """Yields type codes of a Location and of those it is part of: a bed is in a ward."""
    seen: list[Resource] = []
    location = directory.resolve(reference, container)
    while location is not None and location not in seen and len(seen) < _MOST_NESTED:
        seen.append(location)
        listed = location.get("type")
        for concept in listed if isinstance(listed, list) else [listed]:
            yield from codings(concept)
        location = directory.resolve(location.get("partOf"), location)
