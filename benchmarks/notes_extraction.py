"""How much of what a generated note tells the value reader finds, and how much of what it finds was told."""

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
    """Counts `told`, `told_found`, `read`, `read_right`, each by kind (`number`, `grade`, `state`), of one note.

    `found` is what the reader takes for this patient's own, of now. A grade is right when its direction is.
    """
    counts: Counter[str] = Counter()
    read = [value for value in found if value.concept in CONCEPTS and value.polarity is not Polarity.UNCERTAIN]
    for told in note.told:
        kind = _kind(told.concept, told.value)
        counts[f"told {kind}"] += 1
        counts[f"told_found {kind}"] += any(_agree(told, value) for value in read)
    for value in read:
        kind = _kind(value.concept, value.value)
        counts[f"read {kind}"] += 1
        counts[f"read_right {kind}"] += any(_agree(told, value) for told in note.told)
    return counts


def _kind(concept: str, value: float | None) -> str:
    if concept == "mechanical_ventilation":
        return "state"
    return "grade" if value is None else "number"


def _agree(told: StatedValue, read: NoteValue) -> bool:
    if told.concept != read.concept:
        return False
    if told.value is None or read.value is None:
        return told.grade is not None and read.grade is not None and _sign(told.grade) == _sign(read.grade)
    meant = 100 * told.value if told.concept == "fio2" else told.value
    tolerance = max(0.51 * 10.0 ** -_PLACES.get(told.concept, 0), 0.03 * meant if told.concept != "ph" else 0.0)
    return abs(meant - read.value) <= tolerance


def _sign(grade: int) -> int:
    return (grade > 0) - (grade < 0)


def summary(by_house: Mapping[int, Counter[str]]) -> dict[str, Any]:
    """Precision and recall by kind: houses the reader was developed with, and those it was not."""
    groups: dict[str, Sequence[int]] = {
        "houses_at_hand": [house for house in by_house if house not in UNSEEN],
        "unseen_houses": [house for house in by_house if house in UNSEEN],
    }
    return {name: _rates(sum((by_house[house] for house in houses), Counter())) for name, houses in groups.items()}


def _rates(counts: Counter[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("number", "grade", "state"):
        told, read = counts[f"told {kind}"], counts[f"read {kind}"]
        found[kind] = {
            "told": told,
            "read": read,
            "recall": counts[f"told_found {kind}"] / told if told else None,
            "precision": counts[f"read_right {kind}"] / read if read else None,
        }
    return found
