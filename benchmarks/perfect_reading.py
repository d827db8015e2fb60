"""Values of generated notes as a reader without errors finds them.

Two of them, to separate where fusion loses: one reads exactly what was written; one also gets what the writers left out
or put in words, the newest value of everything at the time of each note.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from benchmarks.cinc_fhir import ADMISSION, IcuStay
from benchmarks.note_writing import StatedValue, WrittenNote, moved_series, written
from fhir_mapping.terminology import definitions
from risk_model import Experiencer, Polarity, Temporality
from risk_model.core.values import NoteValue

_CANONICAL = {"fio2": 100.0}  # a fraction as charted, per cent as read


def source_of(stay: IcuStay, number: int) -> str:
    """The reference of a stay's note, oldest first from 0."""
    return f"DocumentReference/note-{stay.record_id}-{number}"


def stated_values(stay: IcuStay, seed: int) -> tuple[NoteValue, ...]:
    """Everything the notes of a stay state, each value at its note's time."""
    found: list[NoteValue] = []
    for number, note in enumerate(written(stay, seed)):
        for place, stated in enumerate(note.stated):
            later = any(item.concept == stated.concept for item in note.stated[place + 1 :])
            found.append(_value(stated, note.hour, source_of(stay, number), place, earlier=later))
    return tuple(found)


def newest_values(stay: IcuStay, seed: int) -> tuple[NoteValue, ...]:
    """The newest value of every measurement at the time of each note, whether it was written or not."""
    found: list[NoteValue] = []
    since = 0.0
    for number, note in enumerate(written(stay, seed)):
        for place, stated in enumerate(_newest(stay, since, note)):
            found.append(_value(stated, note.hour, source_of(stay, number), place, earlier=False))
        since = note.hour
    return tuple(found)


def _newest(stay: IcuStay, since: float, note: WrittenNote) -> Iterator[StatedValue]:
    for concept, items in moved_series(stay).items():
        new = [value for hour, value in items if since <= hour <= note.hour]
        if new and concept == "urine":
            yield StatedValue("urine_rate", sum(new) / max(1.0, note.hour - since))
        elif new:
            yield StatedValue(concept, new[-1])


def _value(stated: StatedValue, hour: float, source: str, place: int, *, earlier: bool) -> NoteValue:
    known = definitions().concepts.get(stated.concept)
    return NoteValue(
        concept=stated.concept,
        value=None if stated.value is None else stated.value * _CANONICAL.get(stated.concept, 1.0),
        unit=None if known is None else known.unit,
        grade=stated.grade,
        polarity=Polarity.PRESENT,
        temporality=Temporality.CURRENT,
        experiencer=Experiencer.PATIENT,
        time=ADMISSION + timedelta(hours=hour),
        earlier=earlier,
        note_source=source,
        quote="",
        start=place,
        end=place,
    )
