"""Whether a medication was in use at `prediction_time`: by its own dates, since its status is that of a later day.

An order written on Monday and completed on Friday was running on Wednesday, although it is read as `completed`::

    authored            prediction_time        end of course        data read: status completed
    |-----------------------|----------------------|---------------------|

Decision record 40 has the rules; FHIR R4 MedicationRequest and MedicationStatement
(https://hl7.org/fhir/R4/medicationrequest.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.core.times import parse_instant, reachable
from fhir_mapping.core.values import Instant, StayClass
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.references import Directory
from fhir_mapping.resources.encounter_classes import class_of, period_of
from fhir_mapping.resources.quantities import finite
from fhir_mapping.terminology.codes import status_values

_RUNNING = frozenset({"active", "recorded"})  # recorded: R5 statement
_OVER = frozenset({"completed", "stopped", "ended", "unknown"})
_SURELY_NOT_RUNNING = frozenset({"completed", "stopped", "ended", "on-hold"})
_NOT_BEGUN = frozenset({"intended"})
_DAY = timedelta(hours=26)
# An order or statement without an end that is read as over is taken to have ended within a year.
LONGEST_COURSE = timedelta(days=365)
_HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0, "wk": 168.0, "mo": 730.0, "a": 8766.0}


def in_use(
    resource: Resource, start: Instant | None, directory: Directory, prediction_time: datetime, *, current: bool
) -> tuple[bool | None, Instant | None]:
    """Returns whether a drug was in use at `prediction_time`, None if unknown; and the end of its course by then.

    `current` means that the status is that of the prediction time.
    """
    status = resource["status"]
    end = _end_of_course(resource, start)
    if end is not None and reachable(end, prediction_time):
        return False, end
    if status in _NOT_BEGUN:
        return False, None
    known = current or status_is_of(resource, start, prediction_time)
    if _may_be_over(end, prediction_time) and not known:
        return None, None
    if status in _RUNNING and not _paused(resource):
        return True, None
    if known:
        return (False if status in _SURELY_NOT_RUNNING or _paused(resource) else None), None
    if status not in _OVER:
        return None, None
    valid = end or validity_end(resource)
    if valid is not None:
        return (None if _may_be_over(valid, prediction_time) else not reachable(valid, prediction_time)), None
    if start is not None and prediction_time - start.latest > LONGEST_COURSE:
        return False, None
    return (False if _stay_is_over(resource, directory, prediction_time) else None), None


def status_is_of(resource: Resource, written: Instant | None, prediction_time: datetime) -> bool:
    """Whether a resource has not changed since `prediction_time`, so that its status is that of then.

    In de-identified data the server's time is centuries before the stay: one before the resource was `written` says
    nothing.
    """
    meta = resource.get("meta")
    updated = parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    if updated is None or written is None or updated.latest < written.earliest:
        return False
    return reachable(updated, prediction_time)


def _may_be_over(end: Instant | None, prediction_time: datetime) -> bool:
    """Whether an end given as a month or year lies before or after the prediction time."""
    return end is not None and end.earliest <= prediction_time < end.latest and end.latest - end.earliest > _DAY


def _end_of_course(resource: Resource, start: Instant | None) -> Instant | None:
    """Returns the end of effectivePeriod, or the time the status changed, else the end of the dosage instructions."""
    end = _end(resource.get("effectivePeriod"))
    if end is None and resource.get("status") in _OVER:
        end = parse_instant(resource.get("statusChanged"))
    if end is not None:
        return end
    ends = list(_dosage_ends(resource, start))
    # One open instruction leaves the course open.
    return None if not ends or None in ends else max((e for e in ends if e is not None), key=lambda e: e.latest)


def _dosage_ends(resource: Resource, start: Instant | None) -> Iterator[Instant | None]:
    listed = resource.get("dosageInstruction")
    for item in listed if isinstance(listed, list) else ():
        timing = item.get("timing") if isinstance(item, dict) else None
        repeat = timing.get("repeat") if isinstance(timing, dict) else None
        if not isinstance(repeat, dict):
            yield None
            continue
        end = _end(repeat.get("boundsPeriod"))
        yield end if end is not None else _after(start, repeat.get("boundsDuration"))


def _after(start: Instant | None, duration: Any) -> Instant | None:
    """Returns the time a duration after the start, as imprecise as the start."""
    if start is None or not isinstance(duration, dict):
        return None
    value, hours = finite(duration.get("value")), _HOURS.get(str(duration.get("code") or duration.get("unit")))
    if value is None or hours is None or not 0 <= value * hours <= 24 * 36500:
        return None
    span = timedelta(hours=value * hours)
    return Instant(start.earliest + span, start.latest + span, start.zone_assumed)


def validity_end(resource: Resource) -> Instant | None:
    """Returns the end of the validity period: the latest end of an order that is over, but no end of an active one."""
    dispense = resource.get("dispenseRequest")
    return _end(dispense.get("validityPeriod")) if isinstance(dispense, dict) else None


def _end(period: Any) -> Instant | None:
    return parse_instant(period.get("end")) if isinstance(period, dict) else None


def _paused(resource: Resource) -> bool:
    """Whether R5 adherence is stopped or on hold, for any reason."""
    return any(value.startswith(("stopped", "on-hold")) for value in adherence(resource))


def adherence(resource: Resource) -> frozenset[str]:
    """Returns the values of R5 adherence."""
    found = resource.get("adherence")
    return status_values(found.get("code")) if isinstance(found, dict) else frozenset()


def _stay_is_over(resource: Resource, directory: Directory, prediction_time: datetime) -> bool:
    """Whether it was ordered in an inpatient stay that had ended: its orders end with it."""
    key = directory.key(resource.get("encounter") or resource.get("context"))
    encounter = None if key is None else directory.find(key)
    if encounter is None or class_of(encounter.get("class")).stay_class is not StayClass.INPATIENT:
        return False
    end = period_of(encounter)[1]
    return end is not None and reachable(end, prediction_time)
