"""Drivers with their source data: series of values, chart entries, or passages of notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import exp

from cds_service.explanations.driver_literature import DriverLiterature, papers_for_driver
from cds_service.explanations.formatting import format_moment
from cds_service.explanations.notes import ConceptMentions, note_key
from cds_service.explanations.svg import Spark, spark
from fhir_mapping import Measurement, PatientRecord
from fhir_mapping.core import format_number, format_unit
from fhir_mapping.record import BEFORE_STAY, WITHOUT_STAY
from fhir_mapping.terminology import definitions
from risk_model import Driver, Pipeline, RiskEstimate
from risk_model.features import RATIOS

SHOWN_VALUES = 12
SHOWN_ENTRIES = 20
_STRENGTHS = ((0.4, "strongly"), (0.15, "moderately"), (0.0, "slightly"))


@dataclass(frozen=True, slots=True)
class Value:
    when: str
    value: str
    preliminary: bool
    source: str


@dataclass(frozen=True, slots=True)
class ValueSeries:
    """Values of one concept within the estimate's window, newest first; `more` older ones are not listed."""

    label: str
    unit: str
    spark: Spark
    values: tuple[Value, ...]
    more: int
    count: int


@dataclass(frozen=True, slots=True)
class ChartEntry:
    """One chart entry: its text, time and source id."""

    text: str
    when: str
    source: str


@dataclass(frozen=True, slots=True)
class DriverView:
    """One driver with its source data. `direction` is raises or lowers; `share` is its bar's length in percent."""

    anchor: str
    concept: str
    label: str
    value: str
    direction: str
    strength: str
    odds: str
    share: float
    modifiable: bool
    as_of: str
    series: tuple[ValueSeries, ...]
    entries: tuple[ChartEntry, ...]
    more_entries: int
    said: tuple[ConceptMentions, ...]
    literature: DriverLiterature | None
    """None if the literature was not searched, or not yet."""


def driver_views(
    estimate: RiskEstimate,
    record: PatientRecord,
    notes_say: Sequence[ConceptMentions],
    pipeline: Pipeline | None = None,
    until: float = 0.0,
    own: Collection[str] | None = None,
) -> tuple[DriverView, ...]:
    """Returns the drivers of an estimate with their source data, in the estimate's order: the strongest first.

    With a `pipeline` each also has its articles, searched `until` a `time.monotonic()` value; `own` are the patient's
    factors (`Assessment.factors`).
    """
    most = max((abs(driver.contribution) for driver in estimate.drivers), default=1.0)
    charted = _charted(record)
    vector = record.features()
    views = []
    for driver in estimate.drivers:
        mine = [f for name, f in vector.values.items() if name.partition(".")[0] == driver.concept]
        listed = dict.fromkeys([*driver.sources, *(source for feature in mine for source in feature.sources)])
        series = tuple(_series(record, driver.concept))
        entries = () if series else tuple(charted[source] for source in listed if source in charted)
        times = [feature.time for feature in mine if feature.time is not None]
        views.append(
            DriverView(
                anchor=f"{estimate.task}-{driver.concept}",
                concept=driver.concept,
                label=driver.label,
                value=driver.value,
                direction="raises" if driver.contribution > 0 else "lowers",
                strength=next(word for least, word in _STRENGTHS if abs(driver.contribution) >= least),
                odds=f"{exp(driver.contribution):.2f}",
                share=round(100 * abs(driver.contribution) / most, 1),
                modifiable=driver.modifiable,
                as_of=format_moment(max(times)) if times else "",
                series=series,
                entries=entries[:SHOWN_ENTRIES],
                more_entries=max(0, len(entries) - SHOWN_ENTRIES),
                said=_said(driver, notes_say),
                literature=(
                    None if pipeline is None else papers_for_driver(driver, estimate.task, pipeline, until, own)
                ),
            )
        )
    return tuple(views)


def _said(driver: Driver, notes_say: Sequence[ConceptMentions]) -> tuple[ConceptMentions, ...]:
    """The mentions in notes that are a driver's source or name its concept."""
    keys = {note_key(source) for source in driver.sources}
    name = driver.concept.removeprefix("finding.").casefold()
    names = {name, driver.label.casefold()}
    return tuple(
        said
        for said in notes_say
        if said.name.casefold() in names or any(passage.note in keys for passage in said.passages)
    )


def window(record: PatientRecord) -> datetime:
    """The start of the window of values: the stay and emergency care before it, or a year without a stay.

    The same as in `fhir_mapping.record.features`.
    """
    stay = record.current_stay
    return record.prediction_time - WITHOUT_STAY if stay is None else stay.start - BEFORE_STAY


def _series(record: PatientRecord, concept: str) -> Iterator[ValueSeries]:
    """The series of a measured concept; for a ratio, of both its parts."""
    ratio = RATIOS.get(concept)
    known = definitions().concepts
    for part in (concept,) if ratio is None else (ratio.first, ratio.second):
        found = [m for m in record.measurements if m.concept == part and m.time >= window(record)]
        if part in known and found:
            yield _one_series(known[part].label, sorted(found, key=lambda m: m.time))


def _one_series(label: str, found: Sequence[Measurement]) -> ValueSeries:
    newest = [
        Value(format_moment(m.time), format_number(m.value), m.preliminary, m.source)
        for m in reversed(found[-SHOWN_VALUES:])
    ]
    drawn = spark([m.time for m in found], [m.value for m in found])
    unit = format_unit(found[-1].unit)
    return ValueSeries(label, unit, drawn, tuple(newest), len(found) - len(newest), len(found))


def _charted(record: PatientRecord) -> Mapping[str, ChartEntry]:
    """The chart entries that may be a driver's source, measurements aside, by source id."""
    return {entry.source: entry for entry in _entries(record)}


def _entries(record: PatientRecord) -> Iterable[ChartEntry]:
    birth = record.birth
    born = "birth date unknown" if birth is None else f"Born {birth.earliest:%-d %b %Y}"
    if birth is not None and birth.latest.date() != birth.earliest.date():
        born = f"Born between {birth.earliest:%-d %b %Y} and {birth.latest:%-d %b %Y}"
    yield ChartEntry(f"{born}, {record.sex or 'sex unknown'}", "", f"Patient/{record.subject_id}")
    for condition in record.conditions:
        state = "" if condition.active else " (no longer active)"
        yield ChartEntry(condition.text + state, _day(condition.recorded or condition.onset), condition.source)
    for medication in record.medications:
        state = "" if medication.active else " (ended)"
        yield ChartEntry(medication.text + state, _day(medication.start), medication.source)
    for dose in record.administrations:
        yield ChartEntry(f"{dose.text}, given", _day(dose.time), dose.source)
    for procedure in record.procedures:
        yield ChartEntry(procedure.text, _day(procedure.performed), procedure.source)
    for stay in record.stays:
        length = stay.days_until(record.prediction_time)
        days = "length unknown" if length is None else f"{length:.1f} days"
        why = "; ".join(stay.reason_texts)
        yield ChartEntry(
            f"{stay.stay_class.capitalize()}, {days}" + (f": {why}" if why else ""), _day(stay.start), stay.source
        )


def _day(moment: datetime | None) -> str:
    return "no date" if moment is None else f"{moment:%-d %b %Y}"
