"""Model inputs from values stated in notes: unknown unless a note states them, however many notes were read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from knowledge_index import Polarity
from risk_model.core.values import NoteValue

NOTE = "note."
NUMERIC = ("last", "first", "min", "max")
GRADED = ("grade", "grade_min", "grade_max")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def is_number_of(name: str) -> str | None:
    """Returns the concept of a numeric note input; None for a grade.

    >>> is_number_of("note.gcs.min"), is_number_of("note.gcs.grade_min")
    ('gcs', None)
    """
    concept, _, summary = name.removeprefix(NOTE).rpartition(".")
    return concept if summary in NUMERIC else None


def note_inputs(values: Iterable[NoteValue]) -> dict[str, float]:
    """Returns `note.<concept>.last|first|min|max` of numbers, and `note.<concept>.grade|grade_min|grade_max` of
    statements.

    Only statements about this patient now; a concept that is not mentioned has no entry: unknown is never normal.
    """
    by_concept: dict[str, list[NoteValue]] = {}
    for value in values:
        if value.counts and value.polarity is not Polarity.UNCERTAIN:
            by_concept.setdefault(value.concept, []).append(value)
    found: dict[str, float] = {}
    for concept, items in by_concept.items():
        items.sort(key=lambda item: (item.time or _LONG_AGO, not item.earlier, item.note_source, item.start))
        said = [item.value for item in items if item.value is not None]
        if said:
            summary = (said[-1], said[0], min(said), max(said))
            found |= {f"{NOTE}{concept}.{name}": float(v) for name, v in zip(NUMERIC, summary, strict=True)}
        grades = [item.grade for item in items if item.grade is not None]
        if grades:
            graded = (grades[-1], min(grades), max(grades))
            found |= {f"{NOTE}{concept}.{name}": float(v) for name, v in zip(GRADED, graded, strict=True)}
    return found
