"""The rule reader: findings in notes with polarity, temporality, experiencer and a quote."""

from risk_model.notes.rule_reader import NoteReading

__all__ = [
    "NoteReading",
]
