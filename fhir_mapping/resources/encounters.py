"""Reads one Encounter (R4, R5); `stays` combines Encounters into stays.

FHIR R4 Encounter (https://hl7.org/fhir/R4/encounter.html) and R5 (https://hl7.org/fhir/R5/encounter.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from fhir_mapping.core.reasons import status_reason
from fhir_mapping.core.times import moment, reachable
from fhir_mapping.core.values import Coding, Instant, Refusal, Stay, UndatedEncounter
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.resources.admissions import read_acute, read_disposition, read_source
from fhir_mapping.resources.clinical import is_problem
from fhir_mapping.resources.encounter_classes import ClassPeriod, EncounterClass, class_of, class_periods, period_of
from fhir_mapping.resources.intensive_care import in_intensive_care, intensive_care_from
from fhir_mapping.terminology.codes import codings, status_values, text_of

NEVER = frozenset({"cancelled", "entered-in-error", "planned", "discontinued"})
ENDED = frozenset({"finished", "completed", "discharged"})
_NO_REASON = frozenset({"refuted", "entered-in-error"})
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ReadEncounter:
    """One Encounter resource, before encounters are combined into stays."""

    stay: Stay
    flagged: bool
    """A time without a zone."""
    class_written: str | None
    earlier: tuple[Stay, ...]
    """What it was before its class changed: the emergency visit an admission began as."""


def read_encounter(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime, *, current: bool
) -> ReadEncounter | UndatedEncounter | Refusal | None:
    """Returns the Encounter as known at `prediction_time`; None where it began later.

    `current` means that the data were fetched at `prediction_time`.
    """
    status = resource.get("status")
    if not isinstance(status, str) or status in NEVER:
        return Refusal(source, status_reason(status))
    start, end = period_of(resource)
    if start is None:
        found = class_of(resource.get("class"))
        return UndatedEncounter(source, found.stay_class, found.unknown, running=status not in ENDED and end is None)
    if start.earliest > prediction_time:
        return None
    times = _times(start, end, status, prediction_time)
    periods = class_periods(resource, prediction_time)
    kind = periods[-1].encounter_class
    stay = _read_stay(resource, source, directory, prediction_time, times, kind, current=current)
    stay, earlier = _by_class(stay, start, periods, prediction_time)
    return ReadEncounter(
        stay=stay,
        flagged=start.zone_assumed or (end is not None and end.zone_assumed),
        class_written=kind.written,
        earlier=earlier,
    )


class _Times(NamedTuple):
    """Start and end of an Encounter as known at the prediction time; `end` is None while it runs."""

    start: datetime
    end: datetime | None
    length_unknown: str | None
    start_span: timedelta
    end_span: timedelta

    @property
    def ended(self) -> bool:
        return self.end is not None


def _times(start: Instant, end: Instant | None, status: str, prediction_time: datetime) -> _Times:
    length_unknown = None
    if end is not None and end.latest < start.earliest:
        end, length_unknown = None, "period-reversed"
    elif end is None and status in ENDED:
        length_unknown = "no-end"
    begun = min(moment(start), prediction_time) if start.zone_assumed else start.earliest
    ended = max(begun, moment(end)) if end is not None and reachable(end, prediction_time) else None
    return _Times(begun, ended, length_unknown, _span(start), _span(end))


def _read_stay(
    resource: Resource,
    source: str,
    directory: Directory,
    prediction_time: datetime,
    times: _Times,
    kind: EncounterClass,
    *,
    current: bool,
) -> Stay:
    reasons = list(_reasons(resource, directory))
    types = _all_codings(resource)
    came = read_source(resource)
    acute, why_not = read_acute(resource, came.meaning, types)
    icu, why_no_icu = in_intensive_care(resource, types, directory, prediction_time, settled=current or times.ended)
    # Without an end time it is unknown whether the disposition was known at the prediction time.
    went = read_disposition(resource) if times.ended else None
    return Stay(
        source=source,
        stay_class=kind.stay_class,
        start=times.start,
        end=times.end,
        codings=types,
        # A reason may be a relative's disease, or one that is only suspected: that is no problem of the patient.
        reasons=tuple(coding for reason in reasons if is_problem(reason) for coding in codings(reason)),
        reason_texts=tuple(dict.fromkeys(filter(None, map(text_of, reasons)))),
        acute=acute,
        intensive_care=icu,
        intensive_care_from=intensive_care_from(resource, types, directory, times.start) if icu else None,
        discharge_disposition=went.code if went is not None else None,
        destination=went.meaning if went is not None else None,
        admission_source=came.code,
        origin=came.meaning,
        unknown=_given(
            acute_admission=why_not,
            intensive_care=why_no_icu,
            admission_source=came.reason,
            discharge_disposition=went.reason if went is not None else "",
        ),
        class_unknown=kind.unknown,
        remote=kind.remote,
        length_unknown=times.length_unknown,
        start_span=times.start_span,
        end_span=times.end_span,
        part_of=directory.key(resource.get("partOf")),
    )


def _by_class(
    stay: Stay, start: Instant, periods: Sequence[ClassPeriod], prediction_time: datetime
) -> tuple[Stay, tuple[Stay, ...]]:
    """Returns the stay from its last change of class on, and what it was before each change."""
    begun, earlier = stay.start, []
    for period, following in pairwise(periods):
        changed = following.start or start
        change = min(max(changed.earliest, begun), stay.end or prediction_time)
        before = replace(stay, stay_class=period.encounter_class.stay_class, end=change, end_span=timedelta())
        earlier.append(replace(before, class_unknown=None, length_unknown=None, destination=None, intensive_care=None))
        stay = replace(stay, start=change, start_span=_span(replace(changed, earliest=min(change, changed.latest))))
    return stay, tuple(earlier)


def _given(**reasons: str) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if reason}


def _span(instant: Instant | None) -> timedelta:
    """Returns how imprecise a time is: a day for a date. A time without a zone is flagged, and read as written."""
    if instant is None or instant.zone_assumed or instant.earliest == instant.latest:
        return timedelta()
    return instant.latest - instant.earliest + _MICROSECOND


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
    """Yields reasons as CodeableConcepts: R4 reasonCode and reasonReference, R5 reason[].value[].

    A Condition that was refuted or entered in error is no reason.
    """
    yield from _list(resource.get("reasonCode"))
    references = list(_list(resource.get("reasonReference")))
    for reason in _list(resource.get("reason")):
        for value in _list(reason.get("value")) if isinstance(reason, dict) else ():
            if not isinstance(value, dict):
                continue
            if value.get("concept"):
                yield value["concept"]
            references.append(value.get("reference"))
    for reference in references:
        condition = directory.resolve(reference, resource)
        if condition is None or condition.get("resourceType") != "Condition":
            continue
        if _NO_REASON.isdisjoint(status_values(condition.get("verificationStatus"))):
            yield condition.get("code")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
