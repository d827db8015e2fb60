"""The rule reader: findings in notes with polarity, temporality, experiencer and a quote."""

from risk_model.notes.as_json import findings_json
from risk_model.notes.reading import NoteReading, ReadingBounds
from risk_model.notes.rule_reader import RuleNoteReader

__all__ = [
    "NoteReading",
    "ReadingBounds",
    "RuleNoteReader",
    "findings_json",
]
