"""Applies a task definition to a patient's timeline: labelled rows, or exclusions with reasons.

The shipped definitions of the two tasks of this project (`riskcards cohort tasks` prints them)::

    readmission_30d
                      admission ---- discharge ------- 23:59 ----------------- 30 days ---|
    ehrshot                                            predict |-- inpatient admission? --|   same-day return excluded
    any-inpatient-30d                predict |------------------- inpatient admission? ---|
    fhir-former                      predict |------------------- any encounter? ---------|
    cms-hwr                          predict |------------------- first one unplanned? ---|   not: died, left against
                                                                                              advice, transferred
    hospital-score                   predict |------------------- avoidable admission? ---|   not: died, transferred
    meds-tab                         predict |------------------- inpatient admission? ---|-- needs any later event

    in_hospital_mortality
                      admission -- 24 h (48 h; or every 24 h) ------------------------ discharge
    in-hospital-death              predict |------------ dies before discharge? -------|      not: left or died before

A row is (patient, encounter, prediction time, label). A patient may have several; a split keeps them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from fhir_mapping import Stay
from risk_model.labels.events import TimelineEvent
from risk_model.labels.predicates import PredicateContext
from risk_model.labels.task_definitions import TaskDefinition, Trigger
from risk_model.labels.timeline import PatientTimeline

_TOO_MANY = 400  # predictions in one stay: more than one a day for a year


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row. `needs_until` is the time up to which a negative needs follow-up; None for a positive."""

    subject_id: str
    encounter_id: str | None
    prediction_time: datetime
    label: int
    level: str | None
    needs_until: datetime | None
    window_end: datetime | None


@dataclass(frozen=True, slots=True)
class Excluded:
    """A prediction that is not made, or has an unknown outcome, with the reason."""

    subject_id: str
    encounter_id: str | None
    reason: str


def label(task: TaskDefinition, timeline: PatientTimeline, zone: tzinfo) -> Iterator[Labelled | Excluded]:
    """Yields every row and every exclusion of one patient; `zone` is the hospital's, for the end of a day."""
    for stay, at in _predictions(task.trigger, timeline, zone):
        encounter = None if stay is None else stay.source.partition("/")[2]
        window_end = at + task.to if task.to is not None and at is not None else stay.end if stay is not None else None
        reason = _impossible(task, timeline, stay, at)
        if reason is not None or at is None:
            yield Excluded(timeline.subject_id, encounter, reason or "no prediction time")
            continue
        context = PredicateContext(
            timeline, stay, at, max(at, at + task.start), window_end, zone, task.start > timedelta(0)
        )
        reason = _not_eligible(task, context)
        if reason is not None:
            yield Excluded(timeline.subject_id, encounter, reason)
            continue
        answer, level = _outcome(task, context)
        if answer is None:
            yield Excluded(timeline.subject_id, encounter, "label unknown")
            continue
        open_end = window_end if task.to is not None and not answer and not _dead_by(timeline, window_end) else None
        yield Labelled(timeline.subject_id, encounter, at, int(answer), level, open_end, window_end)


def _predictions(
    trigger: Trigger, timeline: PatientTimeline, zone: tzinfo
) -> Iterator[tuple[Stay | None, datetime | None]]:
    """Yields (index stay, prediction time); the prediction time is None if the stay has not ended."""
    if trigger.event in {"measurement", "report"}:
        for event in timeline.events_of(trigger.event):
            if event.time is not None and _triggers(trigger, event):
                at = _shift(event.time, trigger, zone)
                yield _running(timeline, at), at
        return
    for stay in timeline.stays:
        if stay.stay_class not in trigger.classes:
            continue
        if trigger.event == "discharge":
            yield stay, None if stay.end is None else _shift(stay.end, trigger, zone)
            continue
        at = _shift(stay.start, trigger, zone)
        yield stay, at
        until = stay.end or (timeline.last if stay.running else None)
        for _ in range(_TOO_MANY if trigger.every and until else 0):
            at += trigger.every or timedelta(0)
            if until is None or at >= until:
                break
            yield stay, at


def _triggers(trigger: Trigger, event: TimelineEvent) -> bool:
    if trigger.event == "measurement":
        return event.concept == trigger.concept
    return any(s.holds(c.system, c.code) for s in trigger.codes for c in event.codings)


def _shift(moment: datetime, trigger: Trigger, zone: tzinfo) -> datetime:
    if trigger.at is not None:
        return moment + trigger.at
    local = moment.astimezone(zone).replace(hour=23, minute=59, second=0, microsecond=0)
    return max(moment, local.astimezone(moment.tzinfo))


def _running(timeline: PatientTimeline, at: datetime) -> Stay | None:
    """Returns the stay during which a measurement was made, so that features of that stay can be computed."""
    inside = [s for s in timeline.stays if s.start <= at and (s.end is None or at <= s.end)]
    inpatient = [s for s in inside if s.stay_class == "inpatient"]
    return inpatient[-1] if inpatient else None


def _impossible(task: TaskDefinition, timeline: PatientTimeline, stay: Stay | None, at: datetime | None) -> str | None:
    """Returns why a prediction then is impossible: stay over, patient dead, or time in the future; None if it is
    possible."""
    if at is None:
        return "end of the stay unknown" if stay is not None and stay.length_unknown else "still in hospital"
    line, event = timeline, task.trigger.event
    if event == "admission" and stay is not None and stay.end is not None and stay.end <= at:
        return "died before the prediction" if line.died_in(stay) else "left before the prediction"
    if event != "discharge" and line.dead_at(at, stay):
        return (
            "died before the stay"
            if stay is not None and line.dead_at(stay.start, None)
            else "died before the prediction"
        )
    if event in {"measurement", "report"} and line.stays and at <= line.stays[0].start:
        return "before the first encounter"
    if event == "discharge" and stay is not None and line.death is not None and line.death.latest < stay.start:
        return "died before the stay"
    return None


def _not_eligible(task: TaskDefinition, context: PredicateContext) -> str | None:
    for reason, part in task.include.items():
        if part.holds(context) is not True:
            return f"not {reason}"
    return next((reason for reason, part in task.exclude.items() if part.holds(context) is True), None)


def _outcome(task: TaskDefinition, context: PredicateContext) -> tuple[bool | None, str | None]:
    if task.label is not None:
        return task.label.holds(context), None
    unknown = False
    for name, part in task.levels:
        answer = part.holds(context)
        if answer:
            return (None, None) if unknown else (True, name)
        unknown = unknown or answer is None
    return (None, None) if unknown else (False, "none")


def _dead_by(timeline: PatientTimeline, moment: datetime | None) -> bool:
    """Whether the patient has died by then: follow-up is then complete."""
    return timeline.death is not None and moment is not None and timeline.death.latest <= moment
