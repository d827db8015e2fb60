"""The stays of a chart to choose from, where the EHR opened the app for a patient but for no stay.

Nothing is estimated for a stay that nobody chose: past stays are listed with their dates, newest first. The form sends
a hash of the stay's key, so that no page and no log holds an encounter's id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cds_service.app_pages.chart import OpenChart
from cds_service.explanations.formatting import format_moment, reason_words
from fhir_mapping import PatientRecord, Stay, StayClass

MOST = 30


@dataclass(frozen=True, slots=True)
class StayChoice:
    """One stay as a button: `value` is what the form sends."""

    value: str
    dates: str
    about: str
    current: bool


def stay_choices(chart: OpenChart, record: PatientRecord) -> tuple[StayChoice, ...]:
    """Returns the inpatient stays that can be chosen, newest first; none where the EHR chose the stay."""
    current = record.current_stay.source if record.current_stay else None
    return tuple(
        StayChoice(_value(stay), _dates(stay), _about(stay), stay.source == current)
        for stay in _inpatient(chart)[:MOST]
    )


def chosen_stay(chart: OpenChart, value: str) -> Stay | None:
    """Returns the stay of a form's value, or None."""
    return next((stay for stay in _inpatient(chart) if _value(stay) == value), None)


def _inpatient(chart: OpenChart) -> list[Stay]:
    stays = () if chart.choice is None else chart.choice.stays()
    inpatient = (stay for stay in stays if stay.stay_class is StayClass.INPATIENT)
    return sorted(inpatient, key=lambda stay: stay.start, reverse=True)


def _value(stay: Stay) -> str:
    return hashlib.sha256(stay.source.encode()).hexdigest()[:16]


def _dates(stay: Stay) -> str:
    end = format_moment(stay.end) if stay.end else "now" if stay.running else "unknown end"
    return f"{format_moment(stay.start)} to {end}"


def _about(stay: Stay) -> str:
    words = [reason_words(stay.reason_texts), "intensive care" if stay.intensive_care else ""]
    return ", ".join(word for word in words if word)
