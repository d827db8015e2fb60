"""Adds values stated in notes to a record's measurements, so that features are computed from both.

A value has its note as its source and the note's time. Values that the record already has are not added again; a value
that a note places before another of its own gets a time halfway back to the statement before; a urine rate becomes an
amount for each hour of its period. Statements without a number are not measurements and stay separate inputs
(`note_inputs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fhir_mapping import Coding, Measurement, PatientRecord, Procedure
from fhir_mapping.terminology import SNOMED, definitions
from knowledge_index import Polarity
from risk_model.core.values import NoteValue
from risk_model.features.inputs import concept_of, parts_of
from risk_model.features.note_inputs import is_number_of

NOTED = "noted."
"""`noted.<input>` is the input computed with the values from notes."""
_URINE_RATE, _URINE, _VENTILATED = "urine_rate", "urine_output", "mechanical_ventilation"
_VENTILATION = Coding(SNOMED, "40617009", None)
_LONGEST_PERIOD = 12  # hours that a stated urine rate covers at most
_CHARTED_AGAIN = timedelta(hours=24)
_ROUNDED = 0.03


@dataclass(frozen=True, slots=True)
class _Placed:
    """A value with its time, and the time of the statement before it (the start of the stay for the first)."""

    value: NoteValue
    number: float
    time: datetime
    before: datetime


def noted_names(names: Iterable[str], stated: Sequence[str]) -> list[str]:
    """Returns the inputs of `names` that change when the values of the note inputs `stated` count as measurements."""
    concepts = {_measured_as(is_number_of(name)) for name in stated} - {None}
    return [f"{NOTED}{name}" for name in names if concepts & {concept_of(name), *parts_of(name)}]


def with_note_values(record: PatientRecord, values: Iterable[NoteValue]) -> PatientRecord:
    """Returns the record with what notes state of this patient now; unchanged without a stay or without such values."""
    placed = list(_placed(record, values))
    if not placed:
        return record
    recorded: dict[str, list[Measurement]] = {}
    for item in record.measurements:
        recorded.setdefault(item.concept, []).append(item)
    measured = [item for one in placed for item in _measurements(recorded, one)]
    charted = [_procedure(one) for one in placed if one.value.concept == _VENTILATED and one.number]
    return replace(
        record,
        measurements=tuple(sorted((*record.measurements, *measured), key=lambda item: (item.concept, item.time))),
        procedures=(*record.procedures, *charted),
    )


def _measured_as(concept: str | None) -> str | None:
    """Returns the concept of the record that a note's concept measures."""
    known = concept in definitions().concepts or concept == _VENTILATED
    return _URINE if concept == _URINE_RATE else concept if known else None


def _placed(record: PatientRecord, values: Iterable[NoteValue]) -> Iterator[_Placed]:
    stay = record.current_stay
    if stay is None:
        return
    usable = [(v.time, v) for v in values if v.counts and v.polarity is not Polarity.UNCERTAIN and v.time is not None]
    usable.sort(key=lambda item: (item[0], not item[1].earlier, item[1].note_source, item[1].start))
    last: dict[str, datetime] = {}
    for time, value in usable:
        if value.value is None or time < stay.start:
            continue
        before = last.get(value.concept, stay.start)
        yield _Placed(value, value.value, before + (time - before) / 2 if value.earlier else time, before)
        if not value.earlier:
            last[value.concept] = time


def _measurements(recorded: Mapping[str, Sequence[Measurement]], placed: _Placed) -> Iterator[Measurement]:
    concept, source = _measured_as(placed.value.concept), placed.value.note_source
    if concept is None or concept == _VENTILATED or _known_already(recorded.get(concept, ()), placed):
        return
    definition = definitions().concepts[concept]
    period = (placed.time - placed.before).total_seconds() / 3600
    hours = max(1, min(_LONGEST_PERIOD, round(period))) if concept == _URINE else 1
    for hour in range(hours):
        yield Measurement(concept, placed.number, definition.unit, placed.time - timedelta(hours=hour), source)


def _known_already(recorded: Sequence[Measurement], placed: _Placed) -> bool:
    """Whether the record has what the note states: the value within the day before; for urine any amount since."""
    if placed.value.concept == _URINE_RATE:
        return any(placed.before < item.time <= placed.time for item in recorded)
    near, since = _ROUNDED * abs(placed.number), placed.time - _CHARTED_AGAIN
    return any(since < item.time <= placed.time and abs(item.value - placed.number) <= near for item in recorded)


def _procedure(placed: _Placed) -> Procedure:
    return Procedure(placed.value.note_source, (_VENTILATION,), placed.value.quote, placed.time)
