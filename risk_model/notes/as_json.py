"""Findings and values of notes as `riskcards map --to findings --json` gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from risk_model.core.values import Finding, NoteFindings, NoteValue


def findings_json(read: NoteFindings) -> dict[str, Any]:
    """Returns `findings`, `values` and `not_read`, in the order of the notes and of their text.

    A value that only grades (`oliguric`) has `value` null and a `grade` from -2 (severely low) to 2; a state is 1 or 0.
    """
    return {
        "findings": [_finding(finding) for finding in read.findings],
        "values": _values(read.values),
        "not_read": [{"note": unread.source, "reason": unread.reason, "part": unread.part} for unread in read.not_read],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "concept": finding.concept_ui,
        "name": finding.name,
        "polarity": finding.polarity.value,
        "temporality": finding.temporality.value,
        "experiencer": finding.experiencer.value,
        "quote": finding.quote,
        "start": finding.start,
        "end": finding.end,
        "note": finding.note_source,
        "section": finding.section,
    }


def _values(values: Iterable[NoteValue]) -> list[dict[str, Any]]:
    listed: Sequence[NoteValue] = list(values)
    newer: set[tuple[str, str]] = set()
    found = []
    for value in listed:
        # Of the values that count, the last in the text is the latest: `2.3, down from 3.4` has one.
        key = (value.note_source, value.concept)
        overtaken = value.earlier and key in newer
        if value.counts and not value.earlier:
            newer.add(key)
        found.append(_value(value, counts=value.counts and not overtaken))
    return found


def _value(value: NoteValue, *, counts: bool) -> dict[str, Any]:
    return {
        "concept": value.concept,
        "value": value.value,
        "unit": value.unit,
        "grade": value.grade,
        "temporality": value.temporality.value,
        "polarity": value.polarity.value,
        "experiencer": value.experiencer.value,
        "counts": counts,
        "earlier": value.earlier,
        "quote": value.quote,
        "start": value.start,
        "end": value.end,
        "note": value.note_source,
        "section": value.section,
    }
