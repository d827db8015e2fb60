"""The ward list as plain values: who is ranked, who is not and why, and how old each estimate is.

A patient without a current estimate is never ranked: an abstention at the end of a list would be read as a low risk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from cds_service.app_pages.smart_charts import name_of
from cds_service.cards.escape import plain
from cds_service.cards.wording import counted, outcome_name, percent, percent_range
from cds_service.refresh.census import Census, Inpatient
from cds_service.refresh.estimates import FreshEstimate, PatientEstimates
from risk_model import TASKS

UNKNOWN_UNIT = "unit not recorded"
_MR = "MR"
MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class WardPatient:
    """Two identifiers and the place of one patient, for people."""

    name: str
    about: tuple[str, ...]
    """Age and sex, date of birth, record number."""
    unit: str
    bed: str
    day: str


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A patient with a current estimate; `length` is its bar, in percent of the scale."""

    patient: WardPatient
    probability: float
    percent: str
    interval: str
    length: float
    low: float
    high: float
    warns: bool
    why: str
    age: str
    old: bool
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnrankedRow:
    """A patient without a current estimate; `score` is the established score, which needs no model."""

    patient: WardPatient
    reason: str
    score: str
    score_high: bool
    age: str


@dataclass(frozen=True, slots=True)
class ListChoice:
    """One entry of a choice: of the outcome, or of the unit with its number of patients."""

    value: str
    words: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class WardView:
    """Everything the template prints."""

    title: str
    outcome: str
    task: str
    outcomes: tuple[ListChoice, ...]
    units: tuple[ListChoice, ...]
    unit: str
    unit_unknown: bool
    """Whether the chosen unit has no inpatient now."""
    ranked: tuple[RankedRow, ...]
    unranked: tuple[UnrankedRow, ...]
    threshold: str
    baseline: str
    scale: str
    read: str
    notices: tuple[str, ...] = ()
    patients: tuple[str, ...] = field(default=(), repr=False)
    """`Patient/id` of everyone shown, for the audit entry."""

    @property
    def everyone(self) -> str:
        return counted(len(self.ranked) + len(self.unranked), "inpatient")

    @property
    def high_scores(self) -> str:
        """Those without an estimate whose established score is high: they may be the sickest, and stand below."""
        found = sum(row.score_high for row in self.unranked)
        return "" if not found else f"{counted(found, 'patient')} without an estimate and with a high established score"


@dataclass(frozen=True, slots=True)
class WardQuestion:
    """What a page asks for: an outcome among those that may be shown, a unit or "", and the site's words."""

    task: str
    tasks: Sequence[str]
    unit: str
    threshold: float
    oldest: timedelta
    zone: tzinfo
    refreshed: bool
    """Whether this server's patients are kept fresh at all."""


def ward_view(census: Census, known: Mapping[str, PatientEstimates], asked: WardQuestion) -> WardView:
    """Returns the list for one outcome, the highest estimate first."""
    units = Counter(one.unit or UNKNOWN_UNIT for one in census.inpatients)
    shown = [one for one in census.inpatients if not asked.unit or (one.unit or UNKNOWN_UNIT) == asked.unit]
    current: list[tuple[Inpatient, FreshEstimate, PatientEstimates]] = []
    unranked: list[UnrankedRow] = []
    for one in shown:
        found = known.get(one.patient)
        reason = _not_ranked(one, found, census.read, asked)
        estimate = None if found is None else found.tasks.get(asked.task)
        if reason or found is None or estimate is None:
            usable = is_usable(one, found, census.read, asked.oldest)
            unranked.append(_unranked(one, found, estimate if usable else None, reason, census.read))
        else:
            current.append((one, estimate, found))
    # One scale for all bars; two patients with the same estimate stand by name, in the same order on every page.
    ends = [estimate.interval[1] if estimate.interval else estimate.probability or 0.0 for _, estimate, _ in current]
    end = max(ends, default=1.0)
    end = next(mark for mark in (0.1, 0.25, 0.5, 1.0) if end <= mark)
    ranked = [_ranked(one, estimate, found, end, census.read, asked) for one, estimate, found in current]
    ranked.sort(key=lambda row: (-row.probability, row.patient.name.casefold(), row.patient.about))
    unranked.sort(key=lambda row: (not row.score_high, row.patient.unit.casefold(), row.patient.name.casefold()))
    task = TASKS[asked.task]
    averages = {percent(e.baseline) for _, e, _ in current if e.baseline is not None}
    return WardView(
        title=outcome_name(task),
        outcome=task.outcome,
        task=asked.task,
        outcomes=tuple(ListChoice(name, outcome_name(TASKS[name]), name == asked.task) for name in asked.tasks),
        units=tuple(
            ListChoice(unit, f"{unit} ({units[unit]})", unit == asked.unit) for unit in sorted(units, key=str.casefold)
        ),
        unit=asked.unit,
        unit_unknown=bool(asked.unit) and asked.unit not in units,
        ranked=tuple(ranked),
        unranked=tuple(unranked),
        threshold=percent(asked.threshold),
        baseline=averages.pop() if len(averages) == 1 else "",
        scale=f"{100 * end:.0f} %",
        read=f"{census.read.astimezone(asked.zone):%-d %b %Y, %H:%M %Z}",
        notices=tuple(_notices(census, asked)),
        patients=tuple(one.patient for one in shown),
    )


def is_usable(one: Inpatient, found: PatientEstimates | None, now: datetime, oldest: timedelta) -> bool:
    """Whether there is an estimate of this stay that is at most twice as old as it should get."""
    if found is None or (one.start is not None and found.read < one.start):
        return False
    return now - found.read <= 2 * oldest


def _not_ranked(one: Inpatient, found: PatientEstimates | None, now: datetime, asked: WardQuestion) -> str:
    """Why a patient is not ranked; "" for one who is."""
    if one.in_doubt:
        return f"{one.in_doubt[:1].upper()}{one.in_doubt[1:]}."
    if found is None or (one.start is not None and found.read < one.start):
        return "Not estimated yet; queued." if asked.refreshed else "Not estimated."
    if now - found.read > 2 * asked.oldest:
        return f"The last estimate is too old ({_age(now - found.read)}); queued for a new one."
    if found.problem:
        return found.problem
    estimate = found.tasks.get(asked.task)
    if estimate is None:
        return "Not estimated for this outcome yet; queued."
    return "" if estimate.probability is not None else estimate.abstention or "The model gives no estimate."


def _ranked(
    one: Inpatient, estimate: FreshEstimate, found: PatientEstimates, end: float, now: datetime, asked: WardQuestion
) -> RankedRow:
    probability = estimate.probability or 0.0
    low, high = estimate.interval or (probability, probability)
    age = now - found.read
    return RankedRow(
        patient=_patient(one, now),
        probability=probability,
        percent=percent(probability),
        interval="" if estimate.interval is None else percent_range(low, high),
        length=_along(probability, end),
        low=_along(low, end),
        high=_along(high, end),
        warns=estimate.warns,
        why=estimate.why,
        age=_ago(age),
        old=age > asked.oldest,
        cautions=estimate.cautions,
    )


def _unranked(
    one: Inpatient, found: PatientEstimates | None, estimate: FreshEstimate | None, reason: str, now: datetime
) -> UnrankedRow:
    """`estimate` is None for one of an earlier stay, or too old: its score says nothing about now."""
    return UnrankedRow(
        patient=_patient(one, now),
        reason=reason,
        score="" if estimate is None else estimate.score,
        score_high=estimate is not None and estimate.score_high,
        age="" if found is None else _ago(now - found.read),
    )


def _patient(one: Inpatient, now: datetime) -> WardPatient:
    day = "" if one.start is None else f"day {max(0, (now - one.start).days) + 1}"
    parts = (_age_and_sex(one.resource, now), _born(one.resource), _record_number(one.resource))
    return WardPatient(
        name=plain(name_of(one.resource), MAX_NAME) or "Name not recorded",
        about=tuple(part for part in parts if part),
        unit=one.unit or UNKNOWN_UNIT,
        bed=plain(one.bed, MAX_NAME),
        day=f"{day or 'start not recorded'}{_intensive(one)}",
    )


def _intensive(one: Inpatient) -> str:
    """Said where the unit's name does not say it."""
    return ", intensive care" if one.intensive_care and "intensive care" not in one.unit.casefold() else ""


def _age_and_sex(resource: Mapping[str, Any], now: datetime) -> str:
    given = resource.get("gender")
    sex = given if given in ("female", "male", "other") else ""  # a list is no key of a set
    try:
        born = date.fromisoformat(str(resource.get("birthDate")))
    except ValueError:
        return sex
    years = now.year - born.year - ((now.month, now.day) < (born.month, born.day))
    return ", ".join(filter(None, (f"{years} y", sex))) if 0 <= years <= 125 else sex


def _born(resource: Mapping[str, Any]) -> str:
    given = resource.get("birthDate")
    return f"born {given}" if isinstance(given, str) and 4 <= len(given) <= 10 else "date of birth not recorded"


def _record_number(resource: Mapping[str, Any]) -> str:
    """The medical record number, else the only identifier there is."""
    listed = resource.get("identifier")
    found = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    values = [each for each in found if isinstance(each.get("value"), str) and each["value"].strip()]
    marked = [each for each in values if _MR in _codes(each)]
    chosen = marked or (values if len(values) == 1 else [])
    return f"{'MRN' if marked else 'no.'} {plain(chosen[0]['value'], 32)}" if chosen else ""


def _codes(identifier: Mapping[str, Any]) -> set[str]:
    kind = identifier.get("type")
    listed = kind.get("coding") if isinstance(kind, Mapping) else None
    return {str(c.get("code")) for c in listed if isinstance(c, Mapping)} if isinstance(listed, list) else set()


def _notices(census: Census, asked: WardQuestion) -> list[str]:
    found = []
    if not census.whole:
        found.append("The EHR's list was cut off: there are inpatients who are not shown here.")
    if census.unread:
        found.append(f"{counted(census.unread, 'stay')} not shown: the EHR did not let us read the patient.")
    if not asked.refreshed:
        found.append("Estimates of this EHR's patients are not kept up to date here; your support can switch that on.")
    return found


def _along(value: float, end: float) -> float:
    return round(min(100.0, 100 * value / end), 2)


def _ago(age: timedelta) -> str:
    """
    >>> _ago(timedelta(seconds=20)), _ago(timedelta(minutes=1))
    ('just now', '1 min ago')
    """
    return "just now" if age < timedelta(minutes=1) else f"{_age(age)} ago"


def _age(age: timedelta) -> str:
    """
    >>> _age(timedelta(minutes=12)), _age(timedelta(hours=5)), _age(timedelta(hours=80))
    ('12 min', '5 h', '3 days')
    """
    minutes = int(age.total_seconds() // 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
