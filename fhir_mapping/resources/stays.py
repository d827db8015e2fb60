"""Reads Encounters (R4, R5) into stays: parts and adjoining inpatient encounters are one; later ends are not shown.

FHIR R4 Encounter (https://hl7.org/fhir/R4/encounter.html) and R5 (https://hl7.org/fhir/R5/encounter.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhir_mapping.core.reasons import status_reason
from fhir_mapping.core.times import moment, parse_instant, reachable
from fhir_mapping.core.values import Coding, Instant, Refusal, Stay, StayClass
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.terminology.codes import ACT_CODE, SNOMED, codings, first_code, status_values, system_of, text_of

NEVER = frozenset({"cancelled", "entered-in-error", "planned", "discontinued"})
ENDED = frozenset({"finished", "completed", "discharged"})
_CLASSES = {
    "IMP": StayClass.INPATIENT,
    "ACUTE": StayClass.INPATIENT,
    "NONAC": StayClass.INPATIENT,
    "EMER": StayClass.EMERGENCY,
    "OBSENC": StayClass.OBSERVATION,
    "AMB": StayClass.OUTPATIENT,
    "VR": StayClass.OUTPATIENT,
    "HH": StayClass.OUTPATIENT,
    "FLD": StayClass.OUTPATIENT,
}
_ICU_SNOMED = frozenset({"305351004", "309904001", "309905000", "418433008", "1201000000103"})
_ICU_LOCATIONS = frozenset({"ICU", "CCU", "PEDICU", "PEDNICU", "NICU", "SICU", "MICU"})
_PRIORITY = {"EM": True, "UR": True, "S": True, "A": True, "EL": False, "R": False, "P": False, "CR": None}
_ACUTE_TYPES = {"183452005": True, "50849002": True, "4525004": True, "8715000": False, "32485007": None}
_EMERGENCY_WINDOW = timedelta(hours=24)
# Transfers between hospitals: HL7 discharge-disposition and NUBC discharge status; HL7 admit-source and NUBC source.
_TO_HOSPITAL = frozenset({"other-hcf", "02", "05", "43", "65", "66"})
_FROM_HOSPITAL = frozenset({"hosp-trans", "4"})
_TRANSFER_GAP = timedelta(hours=6)
# Two inpatient encounters that begin within a day are one admission registered twice.
_SAME_ADMISSION = timedelta(days=1)
# An encounter open for longer, with a later one of its own beside it, was never closed: most stays are over by then.
_NEVER_CLOSED = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Encounter:
    """One Encounter resource, before encounters are combined into stays."""

    stay: Stay
    parent: str | None
    transferred_in: bool
    flagged: bool
    """A time without a zone."""


class StayReading(NamedTuple):
    """The stays, oldest first; each Encounter's stay, by key; the Encounters before they are combined; refusals."""

    stays: tuple[Stay, ...]
    members: dict[str, str]
    encounters: tuple[Stay, ...]
    refused: tuple[Refusal, ...]


def read_stays(
    encounters: Sequence[tuple[str, Resource]],
    directory: Directory,
    prediction_time: datetime,
    asked: str | None = None,
) -> StayReading:
    """Returns the stays started by `prediction_time`. `asked` is the key of the Encounter the caller asks about."""
    refused: list[Refusal] = []
    read: dict[str, _Encounter] = {}
    for source, resource in encounters:
        encounter = _read(resource, source, directory, prediction_time)
        if isinstance(encounter, Refusal):
            refused.append(encounter)
        elif encounter is not None:
            read[source] = encounter
            if encounter.stay.length_unknown is not None:
                refused.append(Refusal(source, encounter.stay.length_unknown))
            if encounter.flagged:
                refused.append(Refusal(source, "time-without-zone", "read as UTC"))
    roots = {source: _root(source, read) for source in read}
    parts: dict[str, list[Stay]] = {}
    for source, root in roots.items():
        parts.setdefault(root, []).append(read[source].stay)
    stays = [_with_parts(read[root].stay, members) for root, members in parts.items()]
    arrivals = frozenset(source for source, encounter in read.items() if encounter.transferred_in)
    view = _View(arrivals, prediction_time, asked)
    merged, joined = _join_adjoining(sorted(stays, key=lambda stay: (stay.start, stay.source)), view)
    unclosed = [s.source for s in merged if s.length_unknown == "no-end" and read[s.source].stay.running]
    refused.extend(Refusal(source, "no-end") for source in unclosed)
    belongs = {source: joined.get(root, root) for source, root in roots.items()}
    each = tuple(replace(encounter.stay, part_of=encounter.parent) for encounter in read.values())
    return StayReading(tuple(_with_inferred_acute(merged)), belongs, each, tuple(refused))


def _read(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> _Encounter | Refusal | None:
    status = resource.get("status")
    if not isinstance(status, str) or status in NEVER:
        return Refusal(source, status_reason(status))
    start, end = period_of(resource)
    if start is None:
        return Refusal(source, "no-start")
    if start.earliest > prediction_time:
        return None
    length_unknown = None
    if end is not None and end.latest < start.earliest:
        end, length_unknown = None, "period-reversed"
    elif end is None and status in ENDED:
        length_unknown = "no-end"
    ended = end is not None and reachable(end, prediction_time)
    starts = start.earliest if not start.zone_assumed else min(moment(start), prediction_time)
    reasons = list(_reasons(resource, directory))
    stay = Stay(
        source=source,
        stay_class=stay_class_of(resource.get("class")),
        start=starts,
        end=max(starts, moment(end)) if ended and end is not None else None,
        codings=_all_codings(resource),
        reasons=tuple(coding for reason in reasons for coding in codings(reason)),
        reason_texts=tuple(dict.fromkeys(filter(None, map(text_of, reasons)))),
        acute=_acute(resource),
        intensive_care=(intensive := _intensive_care(resource, directory, prediction_time)),
        intensive_care_from=_intensive_care_from(resource, directory, starts) if intensive else None,
        # Without an end time it is unknown whether the disposition was known at the prediction time.
        discharge_disposition=_disposition(resource) if ended else None,
        admission_source=first_code(_admission(resource).get("admitSource")),
        length_unknown=length_unknown,
    )
    return _Encounter(
        stay=stay,
        parent=directory.key(resource.get("partOf")),
        transferred_in=bool(_FROM_HOSPITAL & status_values(_admission(resource).get("admitSource"))),
        flagged=start.zone_assumed or (end is not None and end.zone_assumed),
    )


def period_of(resource: Resource) -> tuple[Instant | None, Instant | None]:
    """Returns start and end: `period` in R4, `actualPeriod` in R5."""
    period = resource.get("period") or resource.get("actualPeriod")
    if not isinstance(period, dict):
        return None, None
    return parse_instant(period.get("start")), parse_instant(period.get("end"))


def stay_class_of(raw: Any) -> StayClass:
    """Returns the first known class. R4 has one Coding, R5 a list of CodeableConcepts, some servers one of these or a
    list of Codings."""
    for coding in (coding for item in (raw if isinstance(raw, list) else [raw]) for coding in _class_codings(item)):
        if coding.system in {ACT_CODE, None} and coding.code in _CLASSES:
            return _CLASSES[coding.code]
    return StayClass.OTHER


def _class_codings(raw: Any) -> tuple[Coding, ...]:
    if isinstance(raw, dict) and isinstance(raw.get("code"), str):
        return (Coding(system_of(raw.get("system")), raw["code"]),)
    return codings(raw)


def _all_codings(resource: Resource) -> tuple[Coding, ...]:
    found: list[Coding] = []
    for name in ("type", "serviceType"):
        raw = resource.get(name)
        for concept in raw if isinstance(raw, list) else [raw]:
            found.extend(codings(concept))
            if isinstance(concept, dict):  # R5 serviceType is a CodeableReference
                found.extend(codings(concept.get("concept")))
    return tuple(found)


def _reasons(resource: Resource, directory: Directory) -> Iterator[Any]:
    """Yields reasons as CodeableConcepts: R4 reasonCode and reasonReference, R5 reason[].value[]."""
    yield from _list(resource.get("reasonCode"))
    for reference in _list(resource.get("reasonReference")):
        condition = directory.resolve(reference, resource)
        if condition is not None and condition.get("resourceType") == "Condition":
            yield condition.get("code")
    for reason in _list(resource.get("reason")):
        for value in _list(reason.get("value")) if isinstance(reason, dict) else ():
            if not isinstance(value, dict):
                continue
            if value.get("concept"):
                yield value["concept"]
            condition = directory.resolve(value.get("reference"), resource)
            if condition is not None and condition.get("resourceType") == "Condition":
                yield condition.get("code")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _admission(resource: Resource) -> dict[str, Any]:
    found = resource.get("hospitalization") or resource.get("admission")
    return found if isinstance(found, dict) else {}


def _disposition(resource: Resource) -> str | None:
    return first_code(_admission(resource).get("dischargeDisposition"))


def _acute(resource: Resource) -> bool | None:
    """Returns whether priority, admission source or type mean emergency (True) or elective (False), else None."""
    for coding in codings(resource.get("priority")):
        if coding.code in _PRIORITY:
            return _PRIORITY[coding.code]
    if first_code(_admission(resource).get("admitSource")) == "emd":
        return True
    for coding in _all_codings(resource):
        if coding.system == SNOMED and coding.code in _ACUTE_TYPES:
            return _ACUTE_TYPES[coding.code]
    return None


def _intensive_care(resource: Resource, directory: Directory, prediction_time: datetime) -> bool | None:
    """Returns True by the code of type, service or an entered location; False if all coded locations are others."""
    if any(coding.system == SNOMED and coding.code in _ICU_SNOMED for coding in _all_codings(resource)):
        return True
    known = False
    for item in _list(resource.get("location")):
        if not isinstance(item, dict):
            continue
        period = item.get("period")
        entered = parse_instant(period.get("start")) if isinstance(period, dict) else None
        if entered is not None and entered.earliest > prediction_time:
            continue
        codes = list(_location_codes(item.get("location"), resource, directory))
        if any(coding.code in _ICU_LOCATIONS for coding in codes):
            return True
        known = known or bool(codes)
    return False if known else None


def _intensive_care_from(resource: Resource, directory: Directory, start: datetime) -> datetime | None:
    """Returns when an encounter in intensive care came there: at its start by its type, else with the location."""
    if any(coding.system == SNOMED and coding.code in _ICU_SNOMED for coding in _all_codings(resource)):
        return start
    entered = []
    for item in (item for item in _list(resource.get("location")) if isinstance(item, dict)):
        period = item.get("period")
        at = parse_instant(period.get("start")) if isinstance(period, dict) else None
        if any(c.code in _ICU_LOCATIONS for c in _location_codes(item.get("location"), resource, directory)):
            entered.append(start if at is None else max(start, at.earliest))
    return min(entered, default=None)


def _location_codes(reference: Any, container: Resource, directory: Directory) -> Iterator[Coding]:
    """Yields type codes of a Location and of those it is part of: a bed is in a ward."""
    seen: list[Resource] = []
    location = directory.resolve(reference, container)
    while location is not None and location not in seen and len(seen) < 8:
        seen.append(location)
        for concept in _list(location.get("type")):
            yield from codings(concept)
        location = directory.resolve(location.get("partOf"), location)


def _root(source: str, read: dict[str, _Encounter]) -> str:
    """Returns the outermost Encounter this one is part of; of a loop, the alphabetically first.

    An admission that is part of the emergency visit it came from is a separate stay, and an emergency visit that is
    part of the admission it led to remains a visit. An admission that starts when the Encounter named in `partOf` has
    ended is a separate stay: some systems link readmissions so.
    """
    path = [source]
    parent = read[source].parent
    while parent in read and not _is_separate(read[path[-1]].stay, read[parent].stay):
        if parent in path:
            return min(path[path.index(parent) :])
        path.append(parent)
        parent = read[parent].parent
    return path[-1]


def _is_separate(stay: Stay, parent: Stay) -> bool:
    emergency = stay.stay_class is StayClass.EMERGENCY and parent.stay_class is StayClass.INPATIENT
    admission = stay.stay_class is StayClass.INPATIENT and parent.stay_class is not StayClass.INPATIENT
    readmission = stay.stay_class is StayClass.INPATIENT and parent.end is not None and stay.start >= parent.end
    return emergency or admission or readmission


def _with_parts(stay: Stay, parts: list[Stay]) -> Stay:
    if any(part.intensive_care for part in parts):
        return replace(stay, intensive_care=True)
    return stay


class _View(NamedTuple):
    """What decides whether two encounters are one stay besides themselves."""

    arrivals: frozenset[str]
    """Keys of encounters with another hospital as admission source."""
    prediction_time: datetime
    asked: str | None

    def never_closed(self, stay: Stay, beside: Stay) -> bool:
        """Whether an open stay was left open by mistake, given an encounter of its own beside it."""
        if self.prediction_time - stay.start > _NEVER_CLOSED:
            return True
        return beside.source == self.asked and not beside.running


def _join_adjoining(stays: list[Stay], view: _View) -> tuple[list[Stay], dict[str, str]]:
    """Joins inpatient encounters that overlap or adjoin into one stay: a transfer is not a readmission.

    An encounter within six hours is joined too if either side codes a transfer between hospitals. An encounter that
    nobody closed does not take in those that follow: its end is unknown. Also returns joined key -> key of the stay.
    """
    merged: list[Stay] = []
    joined: dict[str, str] = {}
    for stay in stays:
        last = next((s for s in reversed(merged) if s.stay_class is StayClass.INPATIENT), None)
        if stay.stay_class is not StayClass.INPATIENT or last is None:
            merged.append(stay)
        elif _adjoin(last, stay, view):
            joined[stay.source] = last.source
            merged[merged.index(last)] = _join(last, stay, view)
        else:
            if last.running:
                merged[merged.index(last)] = replace(last, length_unknown="no-end")
            merged.append(stay)
    return merged, joined


def _adjoin(first: Stay, second: Stay, view: _View) -> bool:
    if first.running:
        return second.start - first.start <= _SAME_ADMISSION or not view.never_closed(first, second)
    if first.end is None:
        return False
    transferred = first.discharge_disposition in _TO_HOSPITAL or second.source in view.arrivals
    return second.start <= first.end + (_TRANSFER_GAP if transferred else timedelta())


def _join(first: Stay, second: Stay, view: _View) -> Stay:
    """Returns one stay for two encounters: it ends with the later of them, as that one says."""
    last = _ends_with(first, second, view)
    return replace(
        first,
        end=last.end,
        length_unknown=last.length_unknown,
        codings=first.codings + second.codings,
        reasons=tuple(dict.fromkeys(first.reasons + second.reasons)),
        reason_texts=tuple(dict.fromkeys(first.reason_texts + second.reason_texts)),
        intensive_care=True if second.intensive_care else first.intensive_care,
        discharge_disposition=last.discharge_disposition,
    )


def _ends_with(first: Stay, second: Stay, view: _View) -> Stay:
    """Returns the encounter with which a stay of two ends; an open one if the stay is still running."""
    if first.running:
        return second if second.running or view.never_closed(first, second) else first
    if second.running:
        inside = first.end is not None and second.start < first.end - _SAME_ADMISSION
        return first if inside and view.never_closed(second, first) else second
    if first.end is None or second.end is None:
        return second
    if first.end == second.end:  # two accounts of one discharge
        return second if second.discharge_disposition else first
    return max(first, second, key=lambda stay: stay.end or stay.start)


def _with_inferred_acute(stays: list[Stay]) -> Iterator[Stay]:
    """Yields the stays; an admission not coded as acute or elective is acute within 24 hours of an emergency visit."""
    emergencies = [stay for stay in stays if stay.stay_class is StayClass.EMERGENCY]
    for stay in stays:
        if (
            stay.stay_class is StayClass.INPATIENT
            and stay.acute is None
            and any(leads_to(e, stay) for e in emergencies)
        ):
            yield replace(stay, acute=True)
        else:
            yield stay


def leads_to(visit: Stay, stay: Stay) -> bool:
    """Whether a stay starts during an emergency visit or within 24 hours of its end (of its start if it has none)."""
    return visit.start <= stay.start <= (visit.end or visit.start) + _EMERGENCY_WINDOW


def starts_stay(resource: Resource) -> Instant | None:
    """Returns the start of an Encounter, or None."""
    return period_of(resource)[0]
