"""The charts of the simulator's pages as formatted values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cds_service.demo.timeline import ADULT, SHOWN_NOTES, TABLE_RANGES, ChartTimeline, timelines
from cds_service.demo.ward.patients import DemoPatient, DemoWard
from cds_service.explanations.formatting import reason_words
from fhir_mapping import Measurement, Note, PatientRecord, Stay, StayClass
from fhir_mapping.core import format_number, format_unit
from fhir_mapping.terminology import definitions

SHOWN_STAYS = 14
SPARK_WIDTH, SPARK_HEIGHT = 96, 22


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """One measured concept: last value, `H` or `L` outside the reference range, when, and its course as SVG points."""

    label: str
    value: str
    unit: str
    flag: str
    reference: str
    when: str
    points: str
    last_point: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class WardRow:
    id: str
    name: str
    age_and_sex: str
    where: str
    reason: str
    story: str
    has_stay: bool


@dataclass(frozen=True, slots=True)
class ChartView:
    patient: WardRow
    source: str
    length: str
    problems: tuple[str, ...]
    medications: tuple[str, ...]
    vitals: tuple[ConceptRow, ...]
    labs: tuple[ConceptRow, ...]
    notes: tuple[Note, ...]
    more_notes: int
    stays: tuple[tuple[str, str, str], ...]
    timelines: tuple[ChartTimeline, ...]


def ward_view(ward: DemoWard) -> tuple[WardRow, ...]:
    return tuple(_cached_row(patient) for patient in ward.patients.values())


@lru_cache(maxsize=256)
def _cached_row(patient: DemoPatient) -> WardRow:
    return _ward_row(patient, _record(patient))


def chart_view(patient: DemoPatient) -> ChartView:
    record = _record(patient)
    stay = record.current_stay
    notes = record.notes()
    since = stay.start if stay else None
    values = [m for m in record.measurements if since is None or m.time >= since] or list(record.measurements)
    return ChartView(
        patient=_ward_row(patient, record),
        source=patient.source,
        length="" if stay is None else _days(stay.days_until(record.prediction_time)),
        problems=tuple(dict.fromkeys(c.text for c in record.conditions if c.active)),
        medications=tuple(dict.fromkeys(m.text for m in record.medications if m.active)),
        vitals=_rows(values, "vital sign", record),
        labs=_rows(values, "laboratory", record),
        notes=notes[:SHOWN_NOTES],
        more_notes=max(0, len(notes) - SHOWN_NOTES),
        stays=tuple(_stay_row(s) for s in reversed(record.stays[-SHOWN_STAYS:])),
        timelines=timelines(record),
    )


def _record(patient: DemoPatient) -> PatientRecord:
    now = datetime.now(UTC)
    return PatientRecord.from_resources(
        patient.chart.resources, patient.id, now, encounter_id=patient.stay, undated_known=True
    )


def _ward_row(patient: DemoPatient, record: PatientRecord) -> WardRow:
    age = record.features().number("age.last")
    years = "age unknown" if age is None else "newborn" if age == 0 else f"{age:.0f}"
    stay = record.current_stay
    where = "outpatient" if stay is None else "intensive care" if stay.intensive_care else "ward"
    if stay is not None:
        where += f", day {int(stay.days_until(record.prediction_time) or 0) + 1}"
    reason = reason_words(stay.reason_texts) if stay is not None else "no inpatient stay"
    return WardRow(
        patient.id,
        patient.name,
        f"{years} · {record.sex or 'sex unknown'}",
        where,
        reason or "reason not recorded",
        patient.story,
        stay is not None,
    )


def _rows(values: Sequence[Measurement], group: str, record: PatientRecord) -> tuple[ConceptRow, ...]:
    adult = (record.features().number("age.last") or 0) >= ADULT
    rows = []
    for concept in definitions().concepts.values():
        found = [m for m in values if m.concept == concept.name] if concept.group == group else []
        if found:
            last = found[-1]
            points = _spark(found)
            unit = format_unit(last.unit).replace("per minute", "/min")
            end = points[-1] if len(points) > 1 else None
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points) if end else ""
            normal = TABLE_RANGES.get(concept.name) if adult else None
            value, when = format_number(last.value), _when(last.time, values)
            flag, reference = _flag(last.value, normal), "" if normal is None else f"{normal[0]:g}–{normal[1]:g}"
            rows.append(ConceptRow(concept.label, value, unit, flag, reference, when, line, end))
    return tuple(rows)


def _flag(value: float, normal: tuple[float, float] | None) -> str:
    """
    >>> _flag(2.3, (3.5, 5.0)), _flag(4.0, (3.5, 5.0)), _flag(4.0, None)
    ('L', '', '')
    """
    return "" if normal is None else "L" if value < normal[0] else "H" if value > normal[1] else ""


def _when(moment: datetime, values: Sequence[Measurement]) -> str:
    """The hour on the newest day, else the day."""
    newest = max(value.time for value in values)
    return f"{moment:%H:%M}" if moment.date() == newest.date() else f"{moment:%-d %b}"


def _spark(values: Sequence[Measurement]) -> list[tuple[float, float]]:
    first, last = values[0].time, values[-1].time
    span = (last - first).total_seconds()
    low, high = min(v.value for v in values), max(v.value for v in values)
    if not span:
        return []
    reach = high - low or 1.0
    return [
        (
            2 + (SPARK_WIDTH - 4) * (v.time - first).total_seconds() / span,
            SPARK_HEIGHT - 3 - (SPARK_HEIGHT - 6) * (v.value - low) / reach,
        )
        for v in values[-80:]
    ]


def _days(length: float | None) -> str:
    return "length unknown" if length is None else f"{length:.1f} days"


def _stay_row(stay: Stay) -> tuple[str, str, str]:
    kind = {StayClass.INPATIENT: "Inpatient", StayClass.EMERGENCY: "Emergency", StayClass.OUTPATIENT: "Outpatient"}
    end = "running" if stay.running else _days(stay.days_until(stay.end or stay.start))
    return (
        f"{stay.start:%-d %b %Y}",
        kind.get(stay.stay_class, "Other"),
        " · ".join(filter(None, (end, reason_words(stay.reason_texts)))),
    )
