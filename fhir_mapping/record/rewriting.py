"""A record with every time, key, text and coding of it rewritten, as de-identification needs.

`rewrite(record, rewriter)` walks the fields of all values. A field with text that none of the sets below names is an
error, so that a new field cannot pass unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from fhir_mapping.core.values import Coding, Instant, Note
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.entries import ResourceEntry
from fhir_mapping.record.cutoff import Encountered
from fhir_mapping.record.patient_record import PatientRecord
from fhir_mapping.record.usable_resources import Charted

KEYS = frozenset({"source", "stay", "order", "part_of", "elsewhere", "subject_id"})
"""Ids, and keys of resources such as `Observation/o1`."""
TEXTS = frozenset({"text", "reason_texts", "detail"})
CODED = frozenset(
    {"concept", "unit", "status", "stay_class", "class_unknown", "length_unknown", "discharge_disposition", "unknown",
     "admission_source", "destination", "origin", "no_stay", "not_fetched", "reason", "sex", "_present"}
)  # fmt: skip
"""Words of closed lists: codes, units, reasons. They stay."""


class Rewriter(Protocol):
    """What takes the place of each kind of value."""

    def time(self, value: datetime) -> datetime: ...

    def birth(self, value: Instant, prediction_time: datetime) -> Instant: ...

    def key(self, value: str) -> str: ...

    def text(self, value: str) -> str: ...

    def coding(self, value: Coding) -> Coding: ...

    def note(self, value: Note) -> Note: ...

    def observation(self, value: Resource) -> Resource: ...


def rewrite(record: PatientRecord, rewriter: Rewriter) -> PatientRecord:
    """Returns the record with its values rewritten; `charted()` gives rewritten Observations. Raises TypeError."""
    at, level = record.prediction_time, record.consciousness
    changed: dict[str, Any] = {
        field.name: _value(getattr(record, field.name), field.name, rewriter)
        for field in fields(record)
        if field.init and field.name not in {"_notes", "_charted", "_known_from", "consciousness", "identifiers"}
    }
    birth = record.demographics.birth
    if birth is not None:
        changed["demographics"] = replace(changed["demographics"], birth=rewriter.birth(birth, at))
    charted = tuple(
        (rewriter.key(key), ResourceEntry(rewriter.observation(resource))) for key, resource in record.charted()
    )
    return replace(
        record,
        **changed,
        identifiers=frozenset(),
        consciousness=None if level is None else (level[0], rewriter.time(level[1]), rewriter.key(level[2])),
        _notes=tuple(rewriter.note(note) for note in record.notes()),
        _charted=Charted(charted),
        _known_from={rewriter.key(key): _encountered(value, rewriter) for key, value in record._known_from.items()},
    )


def _encountered(value: Encountered, rewriter: Rewriter) -> Encountered:
    begun, over = (None if time is None else rewriter.time(time) for time in (value.begun, value.over))
    return Encountered(value.present, begun, over)


def _value(value: Any, name: str, rewriter: Rewriter) -> Any:
    if isinstance(value, datetime):
        return rewriter.time(value)
    if isinstance(value, Coding):
        return rewriter.coding(value)
    if isinstance(value, str) and not isinstance(value, Enum):
        return _text(value, name, rewriter)
    if isinstance(value, tuple | frozenset | list):
        return type(value)(_value(item, name, rewriter) for item in value)
    if isinstance(value, Mapping):
        return {_text(key, name, rewriter): _value(item, name, rewriter) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: _value(getattr(value, field.name), field.name, rewriter) for field in fields(value)}
        return replace(value, **changed)
    return value


def _text(value: str, name: str, rewriter: Rewriter) -> str:
    if name in KEYS:
        return rewriter.key(value)
    if name in TEXTS:
        return rewriter.text(value)
    if name in CODED:
        return value
    raise TypeError(f"the field {name} is in none of KEYS, TEXTS and CODED")
