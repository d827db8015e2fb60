"""The chart on one time axis: the stay, vital signs and laboratory values with reference ranges, notes and events.

Geometry only; the template draws it as SVG. It is laid out twice, for a wide and for a narrow page, so that its letters
stay the same size on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from cds_service.explanations.svg import Point, polyline
from fhir_mapping import Measurement, PatientRecord
from fhir_mapping.core import format_number, format_unit
from fhir_mapping.terminology import definitions

WIDE, NARROW = 700.0, 350.0
_LANE, _GAP, _EVENTS, _AXIS, _PAD = 30.0, 8.0, 20.0, 22.0, 4.0
_POINTS = 60
_LABS = 7
_OUTPATIENT = timedelta(days=30)
_STEPS = (3, 6, 12, 24, 48, 96, 168, 336, 720, 2160)
# Reference ranges of adults for orientation; those of a laboratory may differ a little.
REFERENCE_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "heart_rate": (60, 100), "respiratory_rate": (12, 20), "systolic_bp": (100, 140), "temperature": (36, 38),
        "spo2": (94, 100), "sodium": (135, 145), "potassium": (3.5, 5.1), "bicarbonate": (22, 29),
        "bun": (7, 20), "creatinine": (0.6, 1.3), "glucose": (70, 180), "lactate": (0.5, 2.0), "wbc": (4, 11),
        "hemoglobin": (12, 17), "platelets": (150, 400), "ph": (7.35, 7.45), "bilirubin": (0.1, 1.2),
        "albumin": (3.5, 5.0), "inr": (0.8, 1.2), "crp": (0, 10),
    }
)  # fmt: skip
# Those of the tables of the chart, which also list what the timeline leaves out.
TABLE_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **REFERENCE_RANGES,
        "diastolic_bp": (60, 90), "mean_bp": (70, 105), "pao2": (75, 100), "paco2": (35, 45), "sao2": (94, 100),
        "chloride": (98, 107), "calcium": (8.5, 10.5), "magnesium": (1.7, 2.4), "phosphate": (2.5, 4.5),
        "alt": (7, 56), "ast": (8, 40), "alp": (40, 130), "hematocrit": (36, 50), "hba1c": (4, 5.6), "gcs": (15, 15),
        "bnp": (0, 100),
    }
)  # fmt: skip
_VITALS = frozenset({"heart_rate", "systolic_bp", "respiratory_rate", "spo2", "temperature"})
ADULT = 18
SHOWN_NOTES = 12
"""Newest notes whose text is on the page; marks of older ones link to the list."""
At = Callable[[datetime], float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One value: `kind` is normal, high or low (drawn as a dot, a tip up, a tip down) or plain without a range."""

    x: float
    y: float
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Lane:
    """The values of one concept. `band` is (top, height) of the reference range; `says` describes the lane."""

    y: float
    label: str
    last: str
    line: str
    marks: tuple[Mark, ...]
    band: tuple[float, float] | None
    says: str


@dataclass(frozen=True, slots=True)
class ChartEvent:
    x: float
    says: str
    href: str


@dataclass(frozen=True, slots=True)
class EventLane:
    y: float
    label: str
    events: tuple[ChartEvent, ...]


@dataclass(frozen=True, slots=True)
class ChartTimeline:
    """One picture. `stay` is (x, width, words) of the bar on top; `ticks` (x, words) of the axis below."""

    width: float
    height: float
    left: float
    narrow: bool
    stay: tuple[float, float, str] | None
    lanes: tuple[Lane, ...]
    events: tuple[EventLane, ...]
    ticks: tuple[tuple[float, str], ...]


def timelines(record: PatientRecord) -> tuple[ChartTimeline, ...]:
    """Returns the wide and the narrow timeline; empty without measurements in the period."""
    begun, ended = _window(record)
    shown = [m for m in record.measurements if begun <= m.time <= ended]
    concepts = _chosen(shown)
    if not concepts:
        return ()
    return tuple(_laid_out(record, shown, concepts, begun, ended, width) for width in (WIDE, NARROW))


def _window(record: PatientRecord) -> tuple[datetime, datetime]:
    """The period shown: the stay, or without one the month before the last value."""
    stay, now = record.current_stay, record.prediction_time
    if stay is not None:
        return stay.start, max(now, stay.start + timedelta(hours=1))
    last = max((m.time for m in record.measurements), default=now)
    return last - _OUTPATIENT, last


def _chosen(shown: Sequence[Measurement]) -> tuple[str, ...]:
    """The vital signs, then the laboratory values furthest from their reference range, then those measured most."""
    values: dict[str, list[float]] = {}
    for measured in shown:
        if measured.concept in REFERENCE_RANGES:
            values.setdefault(measured.concept, []).append(measured.value)
    labs = [concept for concept in values if concept not in _VITALS]
    labs.sort(key=lambda c: (-max(_outside(value, REFERENCE_RANGES[c]) for value in values[c]), -len(values[c])))
    kept = {*labs[:_LABS], *_VITALS}
    return tuple(concept for concept in REFERENCE_RANGES if concept in values and concept in kept)


def _outside(value: float, normal: tuple[float, float]) -> float:
    """How far from the reference range, in widths of the range.

    >>> _outside(4.0, (0.5, 2.0)) > _outside(150, (135, 145)), _outside(140, (135, 145))
    (True, 0.0)
    """
    low, high = normal
    return max(0.0, value - high, low - value) / (high - low)


def _laid_out(
    record: PatientRecord, shown: Sequence[Measurement], concepts: Sequence[str], begun: datetime, ended: datetime,
    width: float,
) -> ChartTimeline:  # fmt: skip
    narrow = width == NARROW
    left = _PAD if narrow else 150.0
    span = (ended - begun).total_seconds()
    lane = _LANE + (14.0 if narrow else 0.0)

    def x_of(moment: datetime) -> float:
        share: float = (moment - begun).total_seconds() / span
        return round(left + (width - left - 2 * _PAD) * share, 1)

    y = 26.0
    adult = (record.features().number("age.last") or 0) >= ADULT
    lanes = []
    for concept in concepts:
        lanes.append(_lane(concept, [m for m in shown if m.concept == concept], x_of, y + lane - _LANE, adult))
        y += lane + _GAP
    events = []
    for label, listed in _events(record, begun, ended):
        events.append(EventLane(y, label, tuple(ChartEvent(x_of(at), says, href) for at, says, href in listed)))
        y += _EVENTS + (14.0 if narrow else 0.0)
    ticks = _ticks(begun, ended, x_of, narrow)
    return ChartTimeline(
        width, y + _AXIS, left, narrow, _bar(record, begun, ended, x_of), tuple(lanes), tuple(events), ticks
    )


def _bar(record: PatientRecord, begun: datetime, ended: datetime, x_of: At) -> tuple[float, float, str] | None:
    """The bar of the current stay up to now; None without a stay."""
    stay = record.current_stay
    if stay is None:
        return None
    words = "intensive care" if stay.intensive_care else "in hospital"
    return x_of(begun), round(x_of(min(stay.end or ended, ended)) - x_of(begun), 1), words


def _lane(concept: str, found: Sequence[Measurement], x_of: At, top: float, adult: bool) -> Lane:
    known = definitions().concepts[concept]
    normal = REFERENCE_RANGES.get(concept) if adult else None
    values = [m.value for m in found]
    low, high = min([*values, *(normal or ())]), max([*values, *(normal or ())])
    reach = (high - low) or 1.0

    def y_of(value: float) -> float:
        share: float = (value - low) / reach
        return round(top + _LANE - _PAD - (_LANE - 2 * _PAD) * share, 1)

    unit = format_unit(found[-1].unit).replace("per minute", "/min")
    drawn = _thinned(found)
    points: list[Point] = [(x_of(m.time), y_of(m.value)) for m in drawn]
    marks = tuple(
        Mark(x, y, _kind(m.value, normal), f"{m.time:%-d %b %H:%M}: {format_number(m.value)} {unit}")
        for (x, y), m in zip(points, drawn, strict=True)
    )
    outside = sum(_kind(value, normal) in {"high", "low"} for value in values)
    least, most, last = map(format_number, (min(values), max(values), values[-1]))
    says = f"{known.label}: {len(found)} value{'' if len(found) == 1 else 's'}, {least} to {most} {unit}"
    says += f"; last {last} at {found[-1].time:%-d %b %H:%M}"
    says += "" if normal is None else f"; reference range {normal[0]:g} to {normal[1]:g}, {outside} outside"
    band = None if normal is None else (y_of(normal[1]), round(y_of(normal[0]) - y_of(normal[1]), 1))
    return Lane(top, known.label, f"{last} {unit}".strip(), polyline(points), marks, band, says)


def _thinned(found: Sequence[Measurement]) -> list[Measurement]:
    """Thins the values evenly for drawing; keeps the lowest, the highest and the last."""
    step = -(-len(found) // _POINTS)
    kept = {id(m) for m in found[::step]} | {id(found[-1])}
    kept |= {id(min(found, key=lambda m: m.value)), id(max(found, key=lambda m: m.value))}
    return [m for m in found if id(m) in kept]


def _kind(value: float, normal: tuple[float, float] | None) -> str:
    if normal is None:
        return "plain"
    return "high" if value > normal[1] else "low" if value < normal[0] else "normal"


def _events(
    record: PatientRecord, begun: datetime, ended: datetime
) -> Iterator[tuple[str, list[tuple[datetime, str, str]]]]:
    """The event lanes: notes (linked to their text), procedures, medication starts."""
    notes = [
        (n.time, f"{n.type}, {n.time:%-d %b %H:%M}", f"#note-{k}" if k < SHOWN_NOTES else "#notes")
        for k, n in enumerate(record.notes())
        if n.time
    ]
    done = [(p.performed, p.text, "") for p in record.procedures if p.performed]
    begun_drugs = [(m.start, m.text, "#medications") for m in record.medications if m.start]
    for label, listed in (("Notes", notes), ("Procedures", done), ("Medication starts", begun_drugs)):
        inside = [(at, says, href) for at, says, href in listed if at is not None and begun <= at <= ended]
        if inside:
            yield label, inside


def _ticks(begun: datetime, ended: datetime, x_of: At, narrow: bool) -> tuple[tuple[float, str], ...]:
    """At most six (narrow: four) whole steps from the start, with the day where the day matters."""
    hours = (ended - begun).total_seconds() / 3600
    most = 3 if narrow else 5
    step = next((s for s in _STEPS if hours / s <= most), _STEPS[-1])
    moments = (begun + timedelta(hours=step * n) for n in range(int(hours / step) + 1))
    pattern = "%-d %b %H:%M" if step < 24 else "%-d %b"
    return tuple((x_of(moment), f"{moment:{pattern}}") for moment in moments)
