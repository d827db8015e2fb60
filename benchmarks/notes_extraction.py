"""Recall and precision of the value reader on generated notes, whose values are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.note_styles import UNSEEN
from benchmarks.note_writing import StatedValue, WrittenNote
from risk_model import Polarity
from risk_model.core.values import NoteValue

CONCEPTS = frozenset(
    {
        "gcs", "urine_rate", "mechanical_ventilation", "fio2", "ph", "pao2", "paco2", "bicarbonate", "lactate",
        "creatinine", "bun", "bilirubin",
    }
)  # fmt: skip
_PLACES = {"creatinine": 1, "bilirubin": 1, "lactate": 1, "ph": 2}


def scores(note: WrittenNote, found: Iterable[NoteValue]) -> Counter[str]:
    """Counts `stated`, `stated_found`, `read`, `read_right`, each by kind (`number`, `grade`, `state`), of one note.

    `found` is what the reader takes for this patient's own, of now. A grade is right when its direction is.
    """
    counts: Counter[str] = Counter()
    read = [value for value in found if value.concept in CONCEPTS and value.polarity is not Polarity.UNCERTAIN]
    for stated in note.stated:
        kind = _kind(stated.concept, stated.value)
        counts[f"stated {kind}"] += 1
        counts[f"stated_found {kind}"] += any(_agree(stated, value) for value in read)
    for value in read:
        kind = _kind(value.concept, value.value)
        counts[f"read {kind}"] += 1
        counts[f"read_right {kind}"] += any(_agree(stated, value) for stated in note.stated)
    return counts


def _kind(concept: str, value: float | None) -> str:
    if concept == "mechanical_ventilation":
        return "state"
    return "grade" if value is None else "number"


def _agree(stated: StatedValue, read: NoteValue) -> bool:
    if stated.concept != read.concept:
        return False
    if stated.value is None or read.value is None:
        return stated.grade is not None and read.grade is not None and _sign(stated.grade) == _sign(read.grade)
    meant = 100 * stated.value if stated.concept == "fio2" else stated.value
    tolerance = max(0.51 * 10.0 ** -_PLACES.get(stated.concept, 0), 0.03 * meant if stated.concept != "ph" else 0.0)
    return abs(meant - read.value) <= tolerance


def _sign(grade: int) -> int:
    return (grade > 0) - (grade < 0)


def summary(by_style: Mapping[int, Counter[str]]) -> dict[str, Any]:
    """Precision and recall by kind: styles the reader was developed with, and unseen ones."""
    groups: dict[str, Sequence[int]] = {
        "houses_at_hand": [style for style in by_style if style not in UNSEEN],
        "unseen_houses": [style for style in by_style if style in UNSEEN],
    }
    return {name: _rates(sum((by_style[style] for style in styles), Counter())) for name, styles in groups.items()}


def _rates(counts: Counter[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("number", "grade", "state"):
        stated, read = counts[f"stated {kind}"], counts[f"read {kind}"]
        found[kind] = {
            "stated": stated,
            "read": read,
            "recall": counts[f"stated_found {kind}"] / stated if stated else None,
            "precision": counts[f"read_right {kind}"] / read if read else None,
        }
    return found
